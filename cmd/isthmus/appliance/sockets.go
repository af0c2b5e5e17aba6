// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

const (
	socketsMost = 512 // bound sockets of a sender
	outerTTL    = 64
	outerHeader = wire.IPv4MinLen + wire.UDPLen
	rawBatch    = 64
	rawPieces   = 5 // of a datagram: headers and what add may pass
)

// rawSocket sends datagrams under IPv4 and UDP headers of its own, without a UDP checksum.
type rawSocket struct {
	fd      int
	counts  *sendCounts
	n       int
	hdrs    [rawBatch]mmsghdr
	names   [rawBatch]unix.RawSockaddrInet4
	iovs    [rawBatch][rawPieces]unix.Iovec
	headers [rawBatch][outerHeader]byte
	sizes   [rawBatch]int
}

func newRawSocket(counts *sendCounts) (*rawSocket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w (it needs CAP_NET_RAW)", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketRoom) // best effort: it waits sooner without
	return &rawSocket{fd: fd, counts: counts}, nil
}

// add sends a datagram of size bytes at the next flush, or before. The pieces are borrowed, not their slice.
func (r *rawSocket) add(to *route, pieces []unix.Iovec, size int) {
	if r.n == rawBatch {
		r.flush()
	}
	i := r.n
	r.n++
	b := r.headers[i][:]
	ip := wire.IPv4(b)
	ip.Init(outerHeader+size, wire.ProtoUDP, outerTTL, to.local, to.peer)
	wire.PutUDP(b[wire.IPv4MinLen:], to.port, wire.GenevePort, wire.UDPLen+size)
	r.names[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.peer}
	r.iovs[i][0].Base = &b[0]
	r.iovs[i][0].SetLen(outerHeader)
	n := 1 + copy(r.iovs[i][1:], pieces)
	h := &r.hdrs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
	h.Namelen = unix.SizeofSockaddrInet4
	h.Iov = &r.iovs[i][0]
	h.SetIovlen(n)
	r.sizes[i] = size
}

// flush sends what has been added. A datagram that the kernel refuses is counted and left out.
func (r *rawSocket) flush() {
	for sent := 0; sent < r.n; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.hdrs[sent])), uintptr(r.n-sent), 0, 0, 0)
		r.counts.calls.Add(1)
		switch errno {
		case 0:
			r.counts.singles.Add(uint64(n))
			sent += int(n)
		case unix.EINTR:
		default:
			r.counts.failed.Add(1)
			r.counts.failedBytes.Add(uint64(r.sizes[sent]))
			sent++
		}
	}
	r.n = 0
}

func (r *rawSocket) close() { unix.Close(r.fd) }

// boundSockets are sockets bound to the source port of a route and connected to its other end, the most recently used ones.
type boundSockets struct {
	counts *sendCounts
	open   *lru[route, boundSocket]
}

// boundSocket is a descriptor, or -1 where the port is another's.
type boundSocket struct{ fd int }

func newBoundSockets(counts *sendCounts) *boundSockets {
	return &boundSockets{counts: counts, open: newLRU(socketsMost, func(_ route, s *boundSocket) {
		if s.fd >= 0 {
			unix.Close(s.fd)
		}
	})}
}

// get is the socket of a route, or -1 when there cannot be one.
func (b *boundSockets) get(to *route) int {
	if s := b.open.get(*to); s != nil {
		return s.fd
	}
	fd, err := bound(to)
	if err != nil {
		fd = -1
	}
	b.counts.sockets.Add(1)
	*b.open.add(*to) = boundSocket{fd}
	return fd
}

func (b *boundSockets) close() {
	for b.open.len() > 0 {
		b.open.evict()
	}
}

// bound opens the socket of a route in the namespace of the calling thread.
func bound(to *route) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	steps := []struct {
		name string
		err  error
	}{
		// Toward another load balancer node the port may be in use, by us.
		{"SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)},
		// DF as the load balancer sets it, and nobody's word about a smaller path MTU.
		{"IP_MTU_DISCOVER", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)},
		{"bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: to.local, Port: int(to.port)})},
		{"connect", unix.Connect(fd, &unix.SockaddrInet4{Addr: to.peer, Port: wire.GenevePort})},
	}
	for _, step := range steps {
		if step.err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError(step.name, step.err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketRoom) // best effort: it waits sooner without
	return fd, nil
}
