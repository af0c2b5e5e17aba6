// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
)

// residentEnv makes the test binary the child that measures.
const residentEnv = "ISTHMUS_TEST_RESIDENT"

// TestNewTablesTouchNothing measures in a process of its own, since a heap that has been used hands out memory that
// has to be zeroed first.
func TestNewTablesTouchNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc/self/statm")
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector touches shadow memory of its own for every allocation")
	}
	const flows, tolerance = 1 << 20, 4 << 20
	if os.Getenv(residentEnv) != "" {
		before := resident(t)
		table, sticky := NewTable(flows, testKey()), NewSticky(flows, testKey(), 0)
		fmt.Printf("grown by %d\n", resident(t)-before)
		runtime.KeepAlive(table)
		runtime.KeepAlive(sticky)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNewTablesTouchNothing$")
	cmd.Env = append(os.Environ(), residentEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run the child: %v\n%s", err, out)
	}
	var grown int
	if _, err := fmt.Sscanf(string(out), "grown by %d", &grown); err != nil {
		t.Fatalf("read the child's output %q: %v", out, err)
	}
	t.Logf("tables of %d MiB grew the process by %d KiB", flows*(BytesPerFlow+BytesPerSticky)>>20, grown>>10)
	if grown > tolerance {
		t.Errorf("NewTable and NewSticky touched %d bytes, want at most %d", grown, tolerance)
	}
}

// resident is the process's resident memory in bytes.
func resident(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(b)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
