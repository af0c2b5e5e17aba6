// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// socketRoom is how many bytes may wait in a socket.
const socketRoom = 8 << 20

// udpHeader is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type udpHeader struct {
	hdr unix.Msghdr
	n   uint32
}

// openUDP opens a socket at an address and port in the namespace of the calling thread, until the test ends.
func openUDP(t testing.TB, addr [4]byte, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, socketRoom); err != nil {
			return -1, fmt.Errorf("make room in a socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr, Port: port}); err != nil {
		return -1, fmt.Errorf("bind to %v port %d: %w", addr, port, err)
	}
	return fd, nil
}

// segmentSize is the control message of UDP_SEGMENT.
type segmentSize struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte
}

// sendTogether sends count datagrams of size bytes, whose payloads follow each other in parts, by one call.
func sendTogether(fd int, parts []unix.Iovec, count, size int, to *unix.RawSockaddrInet4) error {
	msg := unix.Msghdr{Iov: &parts[0]}
	msg.SetIovlen(len(parts))
	if to != nil {
		msg.Name, msg.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrInet4
	}
	control := segmentSize{size: uint16(size)}
	if count > 1 {
		control.hdr.Level, control.hdr.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		control.hdr.SetLen(unix.CmsgLen(2))
		msg.Control = (*byte)(unsafe.Pointer(&control))
		msg.SetControllen(unix.CmsgSpace(2))
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), 0); errno != 0 {
		return fmt.Errorf("send %d datagrams of %d bytes: %w", count, size, errno)
	}
	return nil
}

// udpMessage is what one message brought: a datagram, or several of one sender that the kernel left together.
type udpMessage struct {
	from  unix.RawSockaddrInet4
	bytes []byte
	size  int // of all datagrams but the last; 0 where there is one
}

// receiverBatch is how many messages one call takes.
const receiverBatch = 64

// udpReceiver takes datagrams at port 6081, those that the kernel has together in one message.
type udpReceiver struct {
	descriptor int
	headers    [receiverBatch]udpHeader
	names      [receiverBatch]unix.RawSockaddrInet4
	vectors    [receiverBatch]unix.Iovec
	controls   [receiverBatch][4]uint64
	buffers    [receiverBatch][]byte
}

// newUDPReceiver opens the socket in the namespace of the calling thread.
func newUDPReceiver(t testing.TB, addr [4]byte) (*udpReceiver, error) {
	fd, err := openUDP(t, addr, wire.GenevePort)
	if err != nil {
		return nil, err
	}
	r := &udpReceiver{descriptor: fd}
	for i := range r.headers {
		r.buffers[i] = make([]byte, 1<<16)
		r.vectors[i] = vectorOf(r.buffers[i])
		h := &r.headers[i].hdr
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&r.names[i])), &r.vectors[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		return nil, fmt.Errorf("set UDP_GRO: %w", err)
	}
	return r, nil
}

// receive takes all that has come, and returns how many datagrams that were. A message is good until take returns.
func (r *udpReceiver) receive(take func(*udpMessage)) (count int, err error) {
	for {
		n, err := r.batch()
		if n == 0 || err != nil {
			return count, err
		}
		for i := range n {
			m := r.message(i)
			take(&m)
			count += split(m.bytes, m.size, nil)
		}
	}
}

// batch takes messages by one call and returns their number. They are good until the next.
func (r *udpReceiver) batch() (int, error) {
	for i := range r.headers {
		h := &r.headers[i].hdr
		h.Namelen = unix.SizeofSockaddrInet4
		h.SetControllen(len(r.controls[i]) * 8)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.descriptor), uintptr(unsafe.Pointer(&r.headers)), receiverBatch, 0, 0, 0)
	if errno == unix.EAGAIN {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("recvmmsg: %w", errno)
	}
	return int(n), nil
}

// message is the i-th of a batch. The only control message there can be is that of UDP_GRO.
func (r *udpReceiver) message(i int) udpMessage {
	h := &r.headers[i]
	m := udpMessage{from: r.names[i], bytes: r.buffers[i][:h.n]}
	if int(h.hdr.Controllen) >= unix.CmsgLen(4) {
		data := (*byte)(unsafe.Add(unsafe.Pointer(&r.controls[i]), unix.CmsgLen(0)))
		m.size = int(*(*int32)(unsafe.Pointer(data)))
	}
	return m
}

// echoPeer sends back every datagram, from the port it came from: what follows each other of one flow by one call.
type echoPeer struct {
	in    *udpReceiver
	out   []int // by flow
	parts []unix.Iovec
}

// newEchoPeer opens the sockets in the namespace of the calling thread.
func newEchoPeer(t testing.TB, flows int) (*echoPeer, error) {
	in, err := newUDPReceiver(t, peerAddr)
	if err != nil {
		return nil, err
	}
	p := &echoPeer{in: in}
	for i := range flows {
		fd, err := openUDP(t, peerAddr, firstFlowPort+i)
		if err != nil {
			return nil, err
		}
		p.out = append(p.out, fd)
	}
	return p, nil
}

// echo sends back what has come, and returns how many datagrams that were.
func (p *echoPeer) echo() (count int, err error) {
	for {
		n, err := p.in.batch()
		if n == 0 || err != nil {
			return count, err
		}
		for i := 0; i < n; {
			together, datagrams, err := p.echoFrom(i, n)
			if err != nil {
				return count, err
			}
			i += together
			count += datagrams
		}
	}
}

// echoFrom sends back the i-th message of n, and those behind it that may go with it.
func (p *echoPeer) echoFrom(i, n int) (messages, datagrams int, err error) {
	const most = 64 // datagrams by one call, which every kernel allows
	first := p.in.message(i)
	size, bytes := first.size, 0
	if size == 0 {
		size = len(first.bytes)
	}
	p.parts = p.parts[:0]
	for ; i < n; i++ {
		m := p.in.message(i)
		more := split(m.bytes, m.size, nil)
		if m.from != first.from || bytes%size != 0 || bytes+len(m.bytes) > 65507 || datagrams+more > most || m.size != first.size {
			break
		}
		p.parts = append(p.parts, vectorOf(m.bytes))
		bytes += len(m.bytes)
		datagrams += more
		messages++
	}
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&first.from.Port))[:])
	to := first.from
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], wire.GenevePort)
	return messages, datagrams, sendTogether(p.out[port-firstFlowPort], p.parts, datagrams, size, &to)
}
