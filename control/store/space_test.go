// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mountDir is where a child finds a directory to mount something on.
const mountDir = "ISTHMUS_STORE_MOUNT"

// inOwnMounts runs the test binary as one of the children, in a mount namespace of its own, so that what it mounts goes
// away with it.
func inOwnMounts(t *testing.T, child string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+child, mountDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	output, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || strings.Contains(string(output), "cannot mount") {
		if os.Getenv("ISTHMUS_REQUIRE_PRIVILEGED") == "1" {
			t.Fatalf("ISTHMUS_REQUIRE_PRIVILEGED=1, but: %v %s", err, output)
		}
		t.Skipf("needs a mount namespace of its own: %v %s", err, output)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// childT lets the helpers of tests serve in a child process.
type childT struct{}

func (childT) Helper() {}

func (childT) Fatalf(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(1)
}

func TestDiskFull(t *testing.T) { inOwnMounts(t, "space") }

// spaceChild fills a small disk, looks on as writes fail, makes room and writes again.
func spaceChild() int {
	t := childT{}
	dir := os.Getenv(mountDir)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("cannot mount: %v", err)
	}
	path, filler := filepath.Join(dir, "store.db"), filepath.Join(dir, "filler")
	s := mustOpen(t, path, Options{LogSize: 2})
	value := bytes.Repeat([]byte("v"), 10_000)
	mustTxn(t, s, nil, manyOps(20, value)...)

	for round := range 5 {
		_ = os.WriteFile(filler, make([]byte, 8<<20), 0o600)
		_, before, _ := s.List(background, "")
		for range 20 {
			_, err := s.Txn(background, nil, manyOps(60, value))
			wantErr(t, err, unix.ENOSPC)
			if !strings.Contains(err.Error(), "free some space") || !strings.Contains(err.Error(), path) {
				t.Fatalf("%q does not say what to do", err)
			}
		}
		if entries, r, err := s.List(background, ""); len(entries) != 20+min(round, 1)*10 || r != before || err != nil {
			t.Fatalf("round %d: %d entries at revision %d, %v", round, len(entries), r, err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatalf("%v", err)
		}
		if r := mustTxn(t, s, nil, manyOps(30, value)...); r != before+1 {
			t.Fatalf("with room again: revision %d after %d", r, before)
		}
	}
	_, want, _ := s.List(background, "")
	mustClose(t, s)
	s = mustOpen(t, path, Options{})
	entries, r, _ := s.List(background, "")
	if len(entries) != 30 || r != want || r != 6 {
		t.Fatalf("opened again: %d entries at revision %d, want %d", len(entries), r, want)
	}
	mustClose(t, s)

	_ = os.WriteFile(filler, make([]byte, 8<<20), 0o600)
	_, err := Open(filepath.Join(dir, "second.db"), Options{})
	wantErr(t, err, unix.ENOSPC)
	if left, _ := filepath.Glob(filepath.Join(dir, "second*")); left != nil {
		t.Fatalf("a creation that failed left %v", left)
	}
	return 0
}

func TestReadOnlyDirectory(t *testing.T) { inOwnMounts(t, "readonly") }

// readOnlyChild opens, on a disk that may not be written, a store that is there and one that is not.
func readOnlyChild() int {
	t := childT{}
	dir := os.Getenv(mountDir)
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatalf("cannot mount: %v", err)
	}
	path := filepath.Join(dir, "store.db")
	mustClose(t, mustOpen(t, path, Options{}))
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("cannot mount: %v", err)
	}
	for _, path := range []string{path, filepath.Join(dir, "new.db")} {
		_, err := Open(path, Options{})
		wantErr(t, err, unix.EROFS)
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "make sure") {
			t.Fatalf("%q does not say what to do", err)
		}
	}
	return 0
}
