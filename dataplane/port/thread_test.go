// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRaiseThread raises a thread, and no other: who is not allowed to keeps running as before.
func TestRaiseThread(t *testing.T) {
	nice := func() int {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			t.Error(err)
		}
		return 20 - raw // as the system call has it
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := nice()
	raised := make(chan int)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		RaiseThread()
		raised <- nice()
	}()
	want := threadNice
	if errors.Is(unix.Setpriority(unix.PRIO_PROCESS, 0, before-1), unix.EACCES) {
		want = before
	} else if err := unix.Setpriority(unix.PRIO_PROCESS, 0, before); err != nil {
		t.Fatal(err)
	}
	if got := <-raised; got != want {
		t.Errorf("a raised thread has niceness %d, want %d", got, want)
	}
	if got := nice(); got != before {
		t.Errorf("another thread has niceness %d, had %d", got, before)
	}
}
