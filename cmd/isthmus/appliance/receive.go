// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

const (
	batchSize  = 16      // messages of one receive; each may be a super-packet of 64 KiB
	bufferSize = 1 << 16 // holds every UDP payload
	socketRoom = 8 << 20 // bytes that may wait in a socket
)

// route is the way an answer goes: from the address the datagram came to, with the source port it came with, to the
// address it came from, port 6081.
type route struct {
	local, peer [4]byte
	port        uint16 // host byte order
}

// message is what one receive brought: a datagram, or several of one sender that the kernel left together.
type message struct {
	route
	bytes []byte
	size  int // of each datagram but the last
}

// next takes the first datagram off the message; false means that none is left. An empty datagram is one.
func (m *message) next() (datagram []byte, ok bool) {
	if m.size < 0 {
		return nil, false
	}
	n := min(m.size, len(m.bytes))
	datagram, m.bytes = m.bytes[:n:n], m.bytes[n:]
	if len(m.bytes) == 0 {
		m.size = -1
	}
	return datagram, true
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// controlSize holds both control messages that are asked for, in words.
const controlSize = 8

// receiver reads a socket in batches. Its buffers are good until the next receive.
type receiver struct {
	fd       int
	hdrs     [batchSize]mmsghdr
	iovs     [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet4
	controls [batchSize][controlSize]uint64
	buffers  [batchSize][]byte
	messages [batchSize]message
}

// listen opens the socket in the namespace of the calling thread.
func listen(addr netip.AddrPort, supers bool) (*receiver, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &receiver{fd: fd}
	if err := r.set(addr, supers); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	for i := range r.hdrs {
		r.buffers[i] = make([]byte, bufferSize)
		r.iovs[i].Base = &r.buffers[i][0]
		r.iovs[i].SetLen(bufferSize)
		h := &r.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
	return r, nil
}

func (r *receiver) set(addr netip.AddrPort, supers bool) error {
	if err := unix.SetsockoptInt(r.fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	// Best effort both: without UDP_GRO the kernel cuts super-packets, without a larger buffer it drops sooner.
	if supers {
		_ = unix.SetsockoptInt(r.fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	}
	_ = unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketRoom)
	err := unix.Bind(r.fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	return os.NewSyscallError("bind", err)
}

// receive reads what is there, without waiting. No messages and no error mean that nothing is.
func (r *receiver) receive() ([]message, error) {
	for i := range r.hdrs {
		h := &r.hdrs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet4
		h.SetControllen(controlSize * 8)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.hdrs)), batchSize, 0, 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return nil, nil
	default:
		return nil, os.NewSyscallError("recvmmsg", errno)
	}
	for i := range int(n) {
		r.messages[i] = r.message(i)
	}
	return r.messages[:n], nil
}

func (r *receiver) message(i int) message {
	length := int(r.hdrs[i].n)
	m := message{bytes: r.buffers[i][:length], size: length}
	m.peer = r.names[i].Addr
	m.port = binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&r.names[i].Port))[:])
	h := &r.hdrs[i].hdr
	control := unsafe.Slice(h.Control, int(h.Controllen))
	for len(control) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case hdr.Level == unix.SOL_UDP && hdr.Type == unix.UDP_GRO && len(data) >= 4:
			m.size = int(*(*int32)(unsafe.Pointer(&data[0])))
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			m.local = (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Addr
		}
		control = rest
	}
	return m
}

func (r *receiver) close() { unix.Close(r.fd) }

// alarm ends waits.
type alarm struct{ fd int }

func newAlarm() (*alarm, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &alarm{fd}, nil
}

// ring ends all waits, those under way and those to come.
func (a *alarm) ring() { _, _ = unix.Write(a.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (a *alarm) close() { unix.Close(a.fd) }

// wait blocks until fd is readable; false means that the alarm has been rung.
func (a *alarm) wait(fd int) (bool, error) {
	fds := [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(a.fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds[:], -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false, os.NewSyscallError("poll", err)
		case fds[1].Revents != 0:
			return false, nil
		default:
			return true, nil
		}
	}
}

// defaultListen is every address of the host.
var defaultListen = netip.AddrPortFrom(netip.IPv4Unspecified(), wire.GenevePort)
