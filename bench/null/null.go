// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package null

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// vnetHeader is the size of struct virtio_net_hdr, which precedes each packet and is copied with it.
	vnetHeader = 10
	// largest is the largest packet with its header.
	largest = vnetHeader + 65535
	// budget is how many packets one direction may pass before the other has its turn.
	budget = 64
)

// Offloads is what Open asks for, in words.
const Offloads = "vnet_hdr csum tso4 tso6 ecn uso4 uso6"

// Open creates a TUN device in the network namespace of the calling thread and returns a non-blocking descriptor for
// each of its queues. The device is down, and is gone when all descriptors are closed.
func Open(device string, queues int) ([]int, error) {
	var fds []int
	for range queues {
		fd, err := openQueue(device, queues > 1)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("open %s: %w", device, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func openQueue(device string, multi bool) (int, error) {
	request, err := unix.NewIfreq(device)
	if err != nil {
		return -1, err
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(flags)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6|
			unix.TUN_F_TSO_ECN|unix.TUN_F_USO4|unix.TUN_F_USO6)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Run copies between queue i of a and queue i of b, both ways, with one worker for each i, until a device fails. With
// pin, worker i runs on the ith of the processors that the process may use. There is no other way to stop it than to
// end the process.
func Run(a, b []int, pin bool) error {
	return each(len(a), pin, func(i int) error {
		buffer := make([]byte, largest)
		return alternate(a[i], b[i],
			func() (int, error) { return drain(a[i], b[i], buffer) },
			func() (int, error) { return drain(b[i], a[i], buffer) })
	})
}

// each does work for every i below n, each on a thread of its own, until one fails.
func each(n int, pin bool, work func(i int) error) error {
	failed := make(chan error)
	for i := range n {
		go func() {
			runtime.LockOSThread()
			if pin {
				if err := pinTo(i); err != nil {
					failed <- err
					return
				}
			}
			failed <- work(i)
		}()
	}
	return <-failed
}

func pinTo(n int) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("read processor affinity: %w", err)
	}
	n %= all.Count()
	for cpu := 0; ; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if n--; n < 0 {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("set processor affinity: %w", err)
	}
	return nil
}

// alternate carries packets there, from a to b, and back, in turns, until neither queue has any, then sleeps until one has.
// Either way returns how many packets it read.
func alternate(a, b int, there, back func() (int, error)) error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create epoll descriptor: %w", err)
	}
	defer unix.Close(epfd)
	for _, fd := range []int{a, b} {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return fmt.Errorf("watch queue: %w", err)
		}
	}
	var events [2]unix.EpollEvent
	for {
		m, err := there()
		if err != nil {
			return err
		}
		n, err := back()
		if err != nil {
			return err
		}
		if m+n > 0 {
			continue
		}
		if _, err := unix.EpollWait(epfd, events[:], -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for packets: %w", err)
		}
	}
}

// drain copies from one queue to the other, one read and one write a packet, and returns how many it read. What the
// other side does not take is lost, as on any wire. The calls do not block, so the runtime need not hear of them.
func drain(from, to int, buffer []byte) (int, error) {
	start := unsafe.Pointer(&buffer[0])
	for n := range budget {
		length, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(from), uintptr(start), uintptr(len(buffer)))
		if errno == unix.EAGAIN {
			return n, nil
		}
		if errno != 0 {
			return n, fmt.Errorf("read packet: %w", errno)
		}
		unix.RawSyscall(unix.SYS_WRITE, uintptr(to), uintptr(start), length)
	}
	return budget, nil
}
