// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package null

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a connection that keeps packets apart, as a device does. Only the copier's end does not block.
func pair(t *testing.T) (ours, copiers int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// read reads a packet. A socket with a time limit tells of signals, such as those of the runtime, even where they restart calls.
func read(fd int, b []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

func TestRunCopiesBothWaysInOrder(t *testing.T) {
	left, a := pair(t)
	right, b := pair(t)
	failed := make(chan error, 1)
	go func() { failed <- Run([]int{a}, []int{b}, true) }() // until the test's process ends
	answer := make([]byte, largest)
	for n := range 3 * budget {
		for _, way := range [][2]int{{left, right}, {right, left}} {
			packet := fmt.Sprintf("packet %d from %d", n, way[0])
			if _, err := unix.Write(way[0], []byte(packet)); err != nil {
				t.Fatal(err)
			}
			length, err := read(way[1], answer)
			if err != nil || string(answer[:length]) != packet {
				t.Fatalf("got %q, %v; want %q", answer[:max(length, 0)], err, packet)
			}
		}
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}
