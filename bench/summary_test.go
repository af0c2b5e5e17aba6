// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestMedianAndSpread(t *testing.T) {
	for _, tc := range []struct {
		name           string
		values         []float64
		median, spread float64
	}{
		{"none", nil, 0, 0},
		{"one", []float64{7}, 7, 0},
		{"odd", []float64{9, 1, 5}, 5, 8.0 / 5},
		{"even", []float64{4, 1, 2, 10}, 3, 3},
		{"all zero", []float64{0, 0}, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			given := append([]float64(nil), tc.values...)
			if got := median(tc.values); got != tc.median {
				t.Errorf("median %v, want %v", got, tc.median)
			}
			if got := spread(tc.values); got != tc.spread {
				t.Errorf("spread %v, want %v", got, tc.spread)
			}
			if diff := cmp.Diff(given, tc.values); diff != "" {
				t.Errorf("the values were changed:\n%s", diff)
			}
		})
	}
}

func TestRatioIsPairwise(t *testing.T) {
	for _, tc := range []struct {
		name         string
		ours, theirs []float64
		want         float64
		ok           bool
	}{
		// The machine slows down by half after the first round: each pair says 2, the medians would say 1.
		{"drift", []float64{20, 10, 10}, []float64{10, 5, 5}, 2, true},
		{"outlier", []float64{10, 10, 1000}, []float64{10, 20, 10}, 1, true},
		{"zero below", []float64{3, 4}, []float64{0, 2}, 2, true},
		{"only zeros below", []float64{3}, []float64{0}, 0, false},
		{"no peer", []float64{3}, nil, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := ratio(tc.ours, tc.theirs)
			if got != tc.want || ok != tc.ok {
				t.Errorf("ratio %v %v, want %v %v", got, ok, tc.want, tc.ok)
			}
		})
	}
}

func TestSummarize(t *testing.T) {
	rounds := []roundValues{
		{"a": {{"speed", "m/s", 4}, {"cost", "s", 1}}, "b": {{"speed", "m/s", 2}}},
		{"a": {{"speed", "m/s", 8}, {"cost", "s", 3}}, "b": {{"speed", "m/s", 2}}},
	}
	want := []Result{
		{Scenario: "s", System: "a", Metric: "speed", Unit: "m/s", Rounds: []float64{4, 8}, Median: 6,
			Spread: 4.0 / 6, Ratios: map[string]float64{"b": 3}},
		{Scenario: "s", System: "a", Metric: "cost", Unit: "s", Rounds: []float64{1, 3}, Median: 2,
			Spread: 1, Ratios: map[string]float64{}},
		{Scenario: "s", System: "b", Metric: "speed", Unit: "m/s", Rounds: []float64{2, 2}, Median: 2,
			Ratios: map[string]float64{"a": 0.375}},
	}
	if diff := cmp.Diff(want, summarize("s", []string{"a", "b"}, rounds)); diff != "" {
		t.Error(diff)
	}
	if got := summarize("s", []string{"a"}, nil); len(got) != 0 {
		t.Errorf("no rounds gave %v", got)
	}
}

func TestBetween(t *testing.T) {
	before := reading{
		client: mark{At: 1 * time.Second, Count: 5, Bytes: 100},
		server: mark{At: 2 * time.Second, Count: 7, Bytes: 10},
		all:    time.Second, dataplane: 500 * time.Millisecond,
	}
	after := reading{
		client: mark{At: 3 * time.Second, Count: 25, Bytes: 400, P50: time.Millisecond, P99: time.Second},
		server: mark{At: 6 * time.Second, Count: 8, Bytes: 2e9 + 10},
		all:    3 * time.Second, dataplane: time.Second,
	}
	atClient := window{elapsed: 2 * time.Second, count: 20, bytes: 300, p50: time.Millisecond, p99: time.Second,
		dataplane: 500 * time.Millisecond, all: 2 * time.Second}
	if got := between(before, after, false); got != atClient {
		t.Errorf("at the client %+v, want %+v", got, atClient)
	}
	want := []value{{"throughput", "Gbit/s", 4}, {"cpu-all", "s/GB", 1}, {"cpu-per-gb", "s/GB", 0.25}}
	if diff := cmp.Diff(want, bulkValues(between(before, after, true))); diff != "" {
		t.Error(diff)
	}
	want = []value{{"packets", "1/s", 0.25}, {"cpu-all", "ns/packet", 2e9}, {"cpu-dataplane", "ns/packet", 5e8},
		{"cpu-per-gb", "s/GB", 0.25}}
	if diff := cmp.Diff(want, packetValues(between(before, after, true)), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
	inKernel := between(before, after, true)
	inKernel.dataplane = 0
	if diff := cmp.Diff(slices.Delete(want, 2, 4), packetValues(inKernel), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
}

func TestReport(t *testing.T) {
	report := &Report{
		Environment: environment(Config{Rounds: 2, Workers: 1, Duration: time.Second}),
		Results: []Result{
			{Scenario: "s", System: "a", Metric: "speed", Unit: "m/s", Median: 123.4, Ratios: map[string]float64{"b": 2}},
			{Scenario: "s", System: "a", Metric: "cost", Unit: "s", Median: 0.5, Ratios: map[string]float64{}},
			{Scenario: "s", System: "b", Metric: "speed", Unit: "m/s", Median: 61.7, Ratios: map[string]float64{"a": 0.5}},
		},
		Skipped: []Skip{{System: "c", Reason: "absent"}},
		Void:    []Void{{Scenario: "s", Round: 1, System: "a", Reason: "port error"}},
	}
	dir := filepath.Join(t.TempDir(), "new", "dir")
	if err := report.Write(dir); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(content, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report, &back); diff != "" {
		t.Error(diff)
	}
	if back.Environment.Kernel == "" || back.Environment.CPUs < 1 {
		t.Errorf("environment %+v", back.Environment)
	}

	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	want := [][]string{
		{"s", "speed", "a", "123", "m/s", "0", "%", "-", "2.00"},
		{"s", "speed", "b", "61.7", "m/s", "0", "%", "0.50", "-"},
		{"s", "cost", "a", "0.500", "s", "0", "%", "-", "-"},
		{"skipped:", "c:", "absent"},
		{"void:", "s", "round", "1:", "a:", "port", "error"},
	}
	for i, fields := range want {
		if diff := cmp.Diff(fields, strings.Fields(lines[i+1])); diff != "" {
			t.Errorf("line %d:\n%s", i+1, diff)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{12345.6: "12346", 12.34: "12.3", 1.234: "1.23", 0.1234: "0.123", math.Pi: "3.14"} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %q, want %q", v, got, want)
		}
	}
}
