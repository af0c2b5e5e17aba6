// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newPoller(t testing.TB) *Poller {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newEvent(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func signal(t testing.TB, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
}

func TestPollerReportsReadable(t *testing.T) {
	p := newPoller(t)
	ready := make([]uint32, 4)
	fds := []int{newEvent(t), newEvent(t), newEvent(t)}
	for i, fd := range fds {
		if err := p.Add(fd, uint32(i)+1<<31); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Wait(0, ready); n != 0 {
		t.Fatalf("%d ready", n)
	}
	signal(t, fds[0])
	signal(t, fds[2])
	p.Wake()
	for range 2 { // level-triggered
		n := p.Wait(-1, ready)
		got := slices.Sorted(slices.Values(ready[:n]))
		if !slices.Equal(got, []uint32{1 << 31, 1<<31 + 2}) {
			t.Fatalf("ready: %v", got)
		}
	}
	if n := p.Wait(time.Second, ready[:1]); n != 1 {
		t.Fatalf("%d ready with room for one", n)
	}
	if err := p.Remove(fds[0]); err != nil {
		t.Fatal(err)
	}
	if n := p.Wait(0, ready); n != 1 || ready[0] != 1<<31+2 {
		t.Fatalf("ready: %v", ready[:n])
	}
	if p.Remove(fds[0]) == nil || p.Add(fds[2], 1) == nil || p.Add(-1, 1) == nil {
		t.Error("an error is missing")
	}
}

// TestPollerWake wakes a poller that has nothing to report.
func TestPollerWake(t *testing.T) {
	p := newPoller(t)
	ready := make([]uint32, 1)
	for range 100 {
		go p.Wake()
		if n := p.Wait(5*time.Second, ready); n != 0 {
			t.Fatalf("%d ready", n)
		}
	}
}

// TestPollerLosesNoWake has many goroutines publish work and wake; all of it must be seen.
func TestPollerLosesNoWake(t *testing.T) {
	p := newPoller(t)
	ready := make([]uint32, 1)
	const workers, each = 4, 2000
	var work atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				work.Add(1)
				p.Wake()
			}
		})
	}
	deadline := time.Now().Add(20 * time.Second)
	for seen := int64(0); seen < workers*each; seen = work.Load() {
		p.Wait(10*time.Second, ready)
		if time.Now().After(deadline) {
			t.Fatalf("a wake-up is lost: %d of %d seen", seen, work.Load())
		}
	}
	wg.Wait()
}

func TestPollerTimesOut(t *testing.T) {
	p := newPoller(t)
	start := time.Now()
	if n := p.Wait(1500*time.Microsecond, make([]uint32, 1)); n != 0 || time.Since(start) < 1500*time.Microsecond {
		t.Fatalf("%d ready after %v", n, time.Since(start))
	}
}

func TestPollerDoesNotAllocate(t *testing.T) {
	p := newPoller(t)
	ready := make([]uint32, 4)
	if n := testing.AllocsPerRun(100, func() {
		p.Wake()
		p.Wait(time.Second, ready)
		p.Wait(0, ready)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
