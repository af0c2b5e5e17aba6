// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// threadNice is the niceness of threads that carry packets (setpriority(2)): on a processor that they share they get about
// nine times as much as others.
const threadNice = -10

// RaiseThread puts the calling thread before the process's others. A queue of packets overflows in some milliseconds, and what
// else the process does can wait: where it may not be raised, for want of CAP_SYS_NICE, the thread goes on as it is. The
// caller holds runtime.LockOSThread and does not let go of the thread.
func RaiseThread() {
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, threadNice) // 0 is the thread; the kernel knows no other processes
}

// PinThread binds the calling thread to the n-th of the processors that it may run on, counting round. The caller holds
// runtime.LockOSThread.
func PinThread(n int) error {
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("pin thread: %w", err)
	}
	count := allowed.Count()
	if n < 0 || count == 0 {
		return fmt.Errorf("pin thread: no processor %d among %d", n, count)
	}
	n %= count
	for cpu := 0; ; cpu++ {
		if !allowed.IsSet(cpu) {
			continue
		}
		if n == 0 {
			one.Set(cpu)
			break
		}
		n--
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("pin thread: %w", err)
	}
	return nil
}
