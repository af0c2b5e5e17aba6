// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Report is what a run leaves behind as report.json.
type Report struct {
	Environment Environment `json:"environment"`
	Results     []Result    `json:"results"`
	// Skipped are systems that were asked for and did not run, each with the reason.
	Skipped []Skip `json:"skipped,omitempty"`
	// Void are rounds that were thrown away for all systems because one of them had an error.
	Void []Void `json:"void,omitempty"`
}

// Result is one metric of one system in one scenario.
type Result struct {
	Scenario string    `json:"scenario"`
	System   string    `json:"system"`
	Metric   string    `json:"metric"`
	Unit     string    `json:"unit"`
	Rounds   []float64 `json:"rounds"`
	Median   float64   `json:"median"`
	// Spread is (largest - smallest) / median of the rounds.
	Spread float64 `json:"spread"`
	// Ratios are, for every other system, the median over the rounds of this system's value by the other's.
	Ratios map[string]float64 `json:"ratios"`
}

// Skip says why a system did not run. Scenario is empty when the reason holds for all.
type Skip struct {
	Scenario string `json:"scenario,omitempty"`
	System   string `json:"system"`
	Reason   string `json:"reason"`
}

// Void says why a round did not count.
type Void struct {
	Scenario string `json:"scenario"`
	Round    int    `json:"round"`
	System   string `json:"system"`
	Reason   string `json:"reason"`
}

// Write writes the report to dir/report.json, making dir.
func (r *Report) Write(dir string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode bench report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write bench report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write bench report: %w", err)
	}
	return nil
}
