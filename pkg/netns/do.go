// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// threadPath leads to the network namespace of the thread that opens it. (/proc/self would be the main thread's.)
const threadPath = "/proc/thread-self/ns/net"

// Do runs f inside ns and returns its error. f runs on a goroutine and thread of its own while the caller waits, so it
// must not start goroutines that expect to be inside. An f that ends by runtime.Goexit (t.Fatal) ends the caller's
// goroutine as well. A nil ns runs f where the process is.
//
// The thread is never the main one. An f that changes the thread in other ways too (a mount namespace) calls
// runtime.LockOSThread once more: then the thread ends with it.
func Do(ns *NS, f func() error) error {
	if ns == nil {
		return f()
	}
	return onThread(func() error {
		err := ns.control(func(fd int) error { return unix.Setns(fd, unix.CLONE_NEWNET) })
		if err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns, explain(err))
		}
		return f()
	})
}

// onThread runs f on a locked thread and moves the thread back to its namespace afterwards. When that fails the thread
// stays locked, and the runtime ends it with its goroutine: nobody else ever runs on it.
func onThread(f func() error) error {
	var (
		err    error
		exited = true
		done   = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The runtime only parks the main thread, never ends it, and what the main thread looks like is what
			// /proc shows of the process. While it is held here, the next try runs on another.
			defer runtime.UnlockOSThread()
			err = onThread(f)
		} else {
			err = visit(f)
		}
		exited = false
	}()
	<-done
	if exited {
		runtime.Goexit()
	}
	return err
}

// visit runs f on the calling goroutine's thread, which is locked, and unlocks it if it could be moved back.
func visit(f func() error) error {
	home, err := os.Open(threadPath)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the thread's network namespace: %w (is /proc mounted?)", err)
	}
	defer func() {
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	}()
	return f()
}
