// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"

	"golang.org/x/sys/unix"
)

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
