// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// batch is how many packets one system call sends at most.
const batch = 64

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// socket sends and receives IP packets on a TUN device as the kernel's driver would. It is for one goroutine.
type socket struct {
	fd   int
	to   unix.RawSockaddrLinklayer
	iovs [batch]unix.Iovec
	hdrs [batch]mmsghdr
}

// protoIP is ETH_P_IP in network byte order.
const protoIP = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8

// openSocket opens a socket on a device; one that does not listen receives nothing.
func openSocket(ns *netns.NS, device string, listens bool) (*socket, error) {
	link, err := netns.LinkByName(ns, device)
	if err != nil {
		return nil, err
	}
	s := &socket{to: unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: protoIP, Ifindex: int32(link.Index), Halen: 6}}
	err = netns.Do(ns, func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", device, err)
	}
	// Past queueing disciplines, so that the device alone decides what it has room for.
	err = unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil && listens {
		err = unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: protoIP, Ifindex: link.Index})
	}
	if err != nil {
		unix.Close(s.fd)
		return nil, fmt.Errorf("use a packet socket on %s: %w", device, err)
	}
	for i := range s.hdrs {
		h := &s.hdrs[i].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.to)), unix.SizeofSockaddrLinklayer
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
	}
	return s, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// send puts packets, at most batch of them, on the device. Those that its queue has no room for are lost, as those of a
// kernel's would be, and count as sent.
func (s *socket) send(packets [][]byte) error {
	for i, p := range packets {
		s.iovs[i].Base = &p[0]
		s.iovs[i].SetLen(len(p))
	}
	for done := 0; done < len(packets); {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.hdrs[done])), uintptr(len(packets)-done), 0, 0, 0)
		switch errno {
		case 0:
			// Of several, the one that fails ends the call, which tells of those before it alone.
			done = min(done+int(n)+1, len(packets))
		case unix.EINTR:
		case unix.ENOBUFS:
			done++
		default:
			return os.NewSyscallError("sendmmsg", errno)
		}
	}
	return nil
}

// receive waits for a packet, until the time is over: then there is none.
func (s *socket) receive(buf []byte, limit time.Duration) ([]byte, error) {
	timeout := unix.NsecToTimeval(max(limit, time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	n, _, err := unix.Recvfrom(s.fd, buf, 0)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil, nil
	case err != nil:
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return buf[:n], nil
}
