// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// testBulk keeps the bulk check short: the race detector makes it several times slower.
const testBulk = 32 << 20

func TestEveryRuleHolds(t *testing.T) {
	netnstest.RequirePrivileged(t)
	for _, c := range []struct {
		name string
		off  port.Switches
	}{
		{"offloads on", port.Switches{}},
		{"offloads off", port.Switches{Offloads: true}},
		{"plain", port.Switches{Plain: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			leavesNothing(t)
			results, err := Run(t.Context(), Options{
				Dir: labDir(t), Offloads: c.off, Workers: 2, Bulk: testBulk, Out: testWriter{t},
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(results) != len(checks) {
				t.Errorf("%d of %d checks were made", len(results), len(checks))
			}
			for _, r := range results {
				if r.Err != nil {
					t.Errorf("%s: %v", r.Name, r.Err)
				}
			}
		})
	}
}

// Whoever presses Ctrl-C, at whatever moment, finds nothing left.
func TestNothingIsLeftAfterCancel(t *testing.T) {
	netnstest.RequirePrivileged(t)
	for _, sign := range []string{"CHECK", "balance", "idle"} {
		t.Run("before "+sign, func(t *testing.T) {
			leavesNothing(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := writerFunc(func(b []byte) {
				if strings.Contains(string(b), sign) {
					cancel()
				}
			})
			_, err := Run(ctx, Options{Dir: labDir(t), Bulk: 1, Out: out})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a demo that was cancelled returned %v", err)
			}
		})
	}
}

func TestPanicOfACheckIsAFailure(t *testing.T) {
	b := &Bed{ctx: t.Context()}
	r := runOne(b, Check{Name: "mistaken", Run: func(context.Context, *Bed) (string, error) { panic("a mistake") }})
	if r.Err == nil || !strings.Contains(r.Err.Error(), "a mistake") {
		t.Errorf("a check that panicked gave %+v", r)
	}
}

func TestDirectoryThatExistsIsRefused(t *testing.T) {
	netnstest.RequirePrivileged(t)
	_, err := Run(t.Context(), Options{Dir: t.TempDir(), Out: io.Discard})
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("a directory that exists: %v", err)
	}
}

func TestChecksAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range checks {
		if c.Name == "" || len(c.Name) > 10 || len(c.Rule) > 60 || c.Page == "" || seen[c.Name] {
			t.Errorf("check %q: the name must be new and fit its column, as must the rule; the page must be there", c.Name)
		}
		seen[c.Name] = true
	}
}

// labDir is a directory for a lab that does not exist yet.
func labDir(t *testing.T) string { return filepath.Join(t.TempDir(), "labs", "demo") }

// leavesNothing compares what there is before and after the test: mounts, links of the machine, and open namespaces,
// devices and sockets, by which a namespace would live on.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := snapshot(t)
	t.Cleanup(func() {
		// Closed sockets of the runtime's are collected a little later.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if await(ctx, "", func() bool { return slices.Equal(before, snapshot(t)) }) != nil {
			t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(snapshot(t), "\n"))
		}
	})
}

func snapshot(t *testing.T) (list []string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Dir(t.TempDir()) // others may have labs at the same time
	for line := range strings.Lines(string(mounts)) {
		if strings.HasPrefix(line, "nsfs "+mine) {
			list = append(list, line)
		}
	}
	links, err := netns.Links(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		list = append(list, "link "+l.Name)
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, d := range descriptors {
		what, _ := os.Readlink("/proc/self/fd/" + d.Name())
		kind, _, _ := strings.Cut(what, ":")
		count[kind]++
	}
	for _, kind := range []string{"net", "socket", "/dev/net/tun"} {
		for range count[kind] {
			list = append(list, "descriptor "+kind)
		}
	}
	return list
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}
