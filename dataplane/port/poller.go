// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pollerEvents is how many ready descriptors one Wait reports at most; the others are reported by the next.
const pollerEvents = 128

// Poller waits for one worker until one of its descriptors is readable. It wraps epoll, level-triggered: a descriptor is
// reported by every Wait as long as it is readable. Wait and Close belong to one goroutine; Add, Remove and Wake may be
// called from any.
type Poller struct {
	epfd   int
	wakefd int
	woken  atomic.Bool
	events [pollerEvents]unix.EpollEvent
}

// wakeMark is in the unused half of an event's data, and tells the poller's own descriptor from added ones.
const wakeMark = 1

// NewPoller returns a poller with no descriptors.
func NewPoller() (*Poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll descriptor (raise the limit of open files?): %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("create event descriptor (raise the limit of open files?): %w", err)
	}
	p := &Poller{epfd: epfd, wakefd: wakefd}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Pad: wakeMark}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wakefd, &ev); err != nil {
		p.Close()
		return nil, fmt.Errorf("watch event descriptor: %w", err)
	}
	return p, nil
}

// Add watches fd; Wait reports it by token. A port's descriptor must be removed before the port is closed, or a later
// Remove may meet a different file of the same number.
func (p *Poller) Add(fd int, token uint32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(token)}
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Remove stops watching fd.
func (p *Poller) Remove(fd int) error {
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("unwatch descriptor %d: %w", fd, err)
	}
	return nil
}

// Wait puts the tokens of readable descriptors into ready and returns how many. It returns 0 when timeout has passed or
// Wake was called and nothing is readable. A timeout of zero does not block, a negative one never passes; others are
// rounded up to milliseconds. A removed or failed device counts as readable: reading it gives the error.
func (p *Poller) Wait(timeout time.Duration, ready []uint32) int {
	// One place more than asked for, so that a wake-up cannot hide a ready descriptor.
	limit := min(len(ready)+1, len(p.events))
	var n uintptr
	var errno unix.Errno
	if timeout == 0 {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(limit), 0, 0, 0)
	} else {
		ms := -1
		if timeout > 0 {
			ms = int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<31-1))
		}
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(limit), uintptr(ms), 0, 0)
	}
	if errno != 0 {
		return 0 // EINTR, or closed; the caller looks at its clock and its state and comes back
	}
	count := 0
	for i := range p.events[:n] {
		if ev := &p.events[i]; ev.Pad == wakeMark {
			p.consume()
		} else if count < len(ready) {
			ready[count] = uint32(ev.Fd)
			count++
		}
	}
	return count
}

// Wake makes a Wait that is under way, or else the next one, return. What the caller wrote before Wake is visible to
// the goroutine that Wait returns to. Wakes that no Wait has consumed yet are one.
func (p *Poller) Wake() {
	if p.woken.Swap(true) {
		return
	}
	one := [8]byte{1}
	unix.RawSyscall(unix.SYS_WRITE, uintptr(p.wakefd), uintptr(unsafe.Pointer(&one)), 8)
}

// consume empties the event counter, and only then lets Wake write again: the other way round a Wake between the two
// would be swallowed and the flag left set, and no later Wake would write.
func (p *Poller) consume() {
	var v [8]byte
	unix.RawSyscall(unix.SYS_READ, uintptr(p.wakefd), uintptr(unsafe.Pointer(&v)), 8)
	p.woken.Swap(false)
}

// Close releases the poller's descriptors, not those that were added. No other method may be called during or after it.
func (p *Poller) Close() error {
	unix.Close(p.wakefd)
	return unix.Close(p.epfd)
}
