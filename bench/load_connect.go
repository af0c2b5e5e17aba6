// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Both sides of this load use system calls on plain descriptors: a connection lives for a few of them, and entering it
// into the runtime's poller and leaving it again would cost as much as all that is measured.

// greeting is what the server sends: it proves to the client that the connection reached the server, which a proxy's
// own handshake would not.
var greeting = []byte{'.'}

// connectClient opens connections one after the other, each with an address and port pair of its turn. The number of
// connections begun is shared by all that run at a time.
func connectClient(s *loadSpec, t *tally, begun *atomic.Uint64) {
	for {
		from, to := s.source(begun.Add(1) - 1)
		if err := connectOnce(from, to); err != nil {
			t.fail(err)
			continue
		}
		t.count.Add(1)
		t.success()
	}
}

// connectOnce connects, reads the server's one byte and its FIN, and only then closes: the side that closes first
// keeps the connection in TIME_WAIT, and that is the server's.
func connectOnce(from netip.Addr, to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The port is chosen by connect, when the other three numbers are known, so that they share the ports' range.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	var answer [8]byte
	for got := 0; ; {
		if err := await(fd, unix.POLLIN); err != nil {
			return err
		}
		n, err := unix.Read(fd, answer[:])
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n > 0:
			got += n
		case got != len(greeting):
			return fmt.Errorf("server sent %d bytes instead of %d", got, len(greeting))
		default:
			return nil
		}
	}
}

// await returns when fd is ready for events, or an error when that takes longer than dialLimit.
func await(fd int, events int16) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(fds, int(dialLimit.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		default:
			return nil
		}
	}
}

// connectServer listens on every port and answers from one thread.
func connectServer(s *loadSpec, t *tally) error {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create epoll descriptor: %w", err)
	}
	for n := range s.Ports {
		fd, err := listenPlain(int(s.Service.Port()) + n)
		if err != nil {
			return err
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return fmt.Errorf("watch listener: %w", err)
		}
	}
	go func() {
		events := make([]unix.EpollEvent, s.Ports)
		for {
			n, err := unix.EpollWait(epfd, events, -1)
			if err != nil && !errors.Is(err, unix.EINTR) {
				t.fail(err)
				return
			}
			for _, event := range events[:max(n, 0)] {
				hangUp(int(event.Fd), t)
			}
		}
	}()
	return nil
}

func listenPlain(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return fd, nil
}

// hangUp accepts what waits on the listener, sends each connection one byte, which shares a segment with the FIN, and
// closes it.
func hangUp(listener int, t *tally) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			t.fail(err)
			return
		}
		if err := unix.Send(fd, greeting, unix.MSG_MORE|unix.MSG_NOSIGNAL); err != nil {
			t.fail(err)
		}
		unix.Close(fd)
		t.count.Add(1)
	}
}
