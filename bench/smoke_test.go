// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// builtIn is where built has put the program; empty when no test has asked for it.
var builtIn string

// built is the program, for its appliance, made once for all tests.
var built = sync.OnceValues(func() (path string, err error) {
	if builtIn, err = os.MkdirTemp("", "isthmus-bench-"); err != nil {
		return "", err
	}
	path = filepath.Join(builtIn, "isthmus")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/isthmus").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// program is the path of the built program.
func program(t *testing.T) string {
	t.Helper()
	netnstest.RequirePrivileged(t)
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// One short round of every system in every scenario: the figures mean nothing, but each has to be there.
func TestRoundOfEverySystem(t *testing.T) {
	appliance := []string{program(t), "appliance"}
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			report, err := Run(context.Background(), Config{
				Scenarios: []string{sc.name}, Rounds: 1, Duration: 200 * time.Millisecond, Workers: 1, Pin: true,
				Appliance: appliance, Progress: t.Output(),
			})
			if err != nil {
				t.Fatal(err)
			}
			missing := map[string]bool{}
			for _, skip := range report.Skipped {
				t.Logf("skipped %s: %s", skip.System, skip.Reason)
				missing[skip.System] = true
			}
			metrics := map[string]int{}
			for _, result := range report.Results {
				metrics[result.System]++
				zero := slices.Contains([]string{lostUnit, kernelUnit, idleUnit}, result.Unit)
				if len(result.Rounds) != 1 || result.Median <= 0 && !zero {
					t.Errorf("%s %s: rounds %v, median %v", result.System, result.Metric, result.Rounds, result.Median)
				}
			}
			for _, sys := range systems() {
				if takesPart := sys.builder(&sc) != nil && !missing[sys.name]; takesPart != (metrics[sys.name] > 0) {
					t.Errorf("%s takes part: %v; it has %d results", sys.name, takesPart, metrics[sys.name])
				}
			}
		})
	}
}

// What ends a run early still leaves nothing behind, and says why.
func TestInterrupted(t *testing.T) {
	path := program(t)
	for _, tc := range []struct{ system, scenario string }{
		{"null", "tcp-bulk"}, {"isthmus", "gwlb-bulk"}, {"null", "gwlb-small-64"}, {"vxlan", "gwlb-requests"},
	} {
		t.Run(tc.system+" "+tc.scenario, func(t *testing.T) {
			before, err := netns.Links(nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			begun := time.Now()
			report, err := Run(ctx, Config{
				Systems: []string{tc.system}, Scenarios: []string{tc.scenario}, Rounds: 1, Duration: time.Hour, Workers: 1,
				Appliance: []string{path, "appliance"},
			})
			if err == nil || report == nil {
				t.Fatalf("report %v, error %v: want a report and an error", report, err)
			}
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("ended after %v", took)
			}
			if left := running(t, path); len(left) > 0 {
				t.Errorf("still running: %v", left)
			}
			if left := running(t, os.Args[0]); len(left) > 1 {
				t.Errorf("still running: %v", left)
			}
			if after, err := netns.Links(nil); err != nil || len(after) != len(before) {
				t.Errorf("the machine had %d links, now %d (%v)", len(before), len(after), err)
			}
		})
	}
}

// running lists the processes of a program.
func running(t *testing.T, path string) (pids []string) {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == path { // others come and go meanwhile
			pids = append(pids, strings.TrimSuffix(strings.TrimPrefix(link, "/proc/"), "/exe"))
		}
	}
	return pids
}
