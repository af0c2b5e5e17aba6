// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// One short round of every system in every scenario: the figures mean nothing, but each has to be there.
func TestRoundOfEverySystem(t *testing.T) {
	netnstest.RequirePrivileged(t)
	for _, sc := range ScenarioNames() {
		t.Run(sc, func(t *testing.T) {
			report, err := Run(context.Background(), Config{
				Scenarios: []string{sc}, Rounds: 1, Duration: 200 * time.Millisecond, Workers: 1, Pin: true, Progress: t.Output(),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, skip := range report.Skipped {
				t.Logf("skipped %s: %s", skip.System, skip.Reason)
			}
			want := len(SystemNames()) - len(report.Skipped)
			if got := len(report.systems()); got != want {
				t.Errorf("%d systems have results, want %d", got, want)
			}
			for _, result := range report.Results {
				if len(result.Rounds) != 1 || result.Median <= 0 {
					t.Errorf("%s %s: rounds %v, median %v", result.System, result.Metric, result.Rounds, result.Median)
				}
			}
		})
	}
}

// What ends a run early still leaves nothing behind, and says why.
func TestInterrupted(t *testing.T) {
	netnstest.RequirePrivileged(t)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	begun := time.Now()
	report, err := Run(ctx, Config{
		Systems: []string{"null"}, Scenarios: []string{"tcp-bulk"}, Rounds: 1, Duration: time.Hour, Workers: 1,
	})
	if err == nil || report == nil {
		t.Fatalf("report %v, error %v: want a report and an error", report, err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("ended after %v", took)
	}
}
