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

// tunNode is a node as it is: a TUN port, with outer headers of its own.
type tunNode struct {
	port    *TUN
	x       *gatewayRound
	pieces  [][]byte
	out, in []*Buffer
}

func newTUNNode(p *TUN, x *gatewayRound) *tunNode {
	const batch = 64
	return &tunNode{port: p, x: x, pieces: x.pieces(), out: newBuffers(x.flows * x.rounds), in: newBuffers(batch)}
}

func (n *tunNode) send() error {
	for i, b := range n.out {
		n.fill(b, firstFlowPort+uint16(i/n.x.rounds))
	}
	if sent := n.port.Send(0, n.out); sent != len(n.out) {
		return fmt.Errorf("the device took %d packets of %d", sent, len(n.out))
	}
	return nil
}

// fill makes a super-packet, or a datagram by itself, in the way in which runs of datagrams are finished.
func (n *tunNode) fill(b *Buffer, source uint16) {
	size := n.x.whole * n.x.size()
	b.Reset()
	p := b.SetLen(wire.IPv4MinLen + wire.UDPLen)
	wire.IPv4(p).Init(len(p)+size, wire.ProtoUDP, 255, tunNodeAddr, peerAddr)
	wire.PutUDP(p[wire.IPv4MinLen:], source, wire.GenevePort, wire.UDPLen+size)
	if n.x.whole > 1 {
		sum := wire.Fold(wire.PseudoSum4(tunNodeAddr, peerAddr, wire.ProtoUDP, uint16(wire.UDPLen+size)))
		binary.BigEndian.PutUint16(p[wire.IPv4MinLen+udpCsumOffset:], sum)
		b.Offload = Offload{Flags: NeedsCsum, GSOType: GSOUDP, HdrLen: uint16(len(p)), GSOSize: uint16(n.x.size()),
			CsumStart: wire.IPv4MinLen, CsumOffset: udpCsumOffset}
	}
	for _, piece := range n.pieces {
		b.AddTail(piece)
	}
}

func (n *tunNode) receive(each func([]byte)) (count int, err error) {
	for {
		k, err := n.port.Receive(0, n.in)
		if err != nil || k == 0 {
			return count, err
		}
		for _, b := range n.in[:k] {
			p := b.Bytes()
			if p[0]>>4 != 4 || p[9] != wire.ProtoUDP {
				continue
			}
			count += split(p[wire.IPv4MinLen+wire.UDPLen:], int(b.GSOSize), each)
		}
	}
}

func (n *tunNode) fd() int { return n.port.FD(0) }

// split calls each, unless it is nil, for the datagrams of a super-packet, which has size bytes of payload in all but the
// last and 0 where it is none. It returns how many there are.
func split(payload []byte, size int, each func([]byte)) int {
	if size == 0 {
		size = max(1, len(payload))
	}
	if each != nil {
		for at := 0; at < len(payload); at += size {
			each(payload[at:min(at+size, len(payload))])
		}
	}
	return (len(payload) + size - 1) / size
}

// boundNode is a node of UDP sockets: one bound to the port that appliances return packets to, and one for each source
// port to send from, since a datagram's source port is its socket's. Such a node has no port that the kernel, or another
// process, uses at its address, and no more ports than descriptors. The address has to be the kernel's.
type boundNode struct {
	in    *udpReceiver
	out   []int
	x     *gatewayRound
	parts []unix.Iovec
}

// newBoundNode opens the sockets in the namespace of the calling thread.
func newBoundNode(t testing.TB, x *gatewayRound) (*boundNode, error) {
	in, err := newUDPReceiver(t, udpNodeAddr)
	if err != nil {
		return nil, err
	}
	n := &boundNode{in: in, x: x, parts: vectorsOf(x.pieces())}
	for i := range x.flows {
		fd, err := openUDP(t, udpNodeAddr, firstFlowPort+i)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrInet4{Addr: peerAddr, Port: wire.GenevePort})
		}
		if err != nil {
			return nil, err
		}
		n.out = append(n.out, fd)
	}
	return n, nil
}

func (n *boundNode) send() error {
	for _, fd := range n.out {
		for range n.x.rounds {
			if err := sendTogether(fd, n.parts, n.x.whole, n.x.size(), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *boundNode) receive(each func([]byte)) (int, error) {
	return n.in.receive(func(m *udpMessage) { split(m.bytes, m.size, each) })
}

func (n *boundNode) fd() int { return n.in.descriptor }

// rawNode is a node of two sockets: that of a boundNode to receive from, and a raw one to send from, which writes the IP
// and UDP header itself. It may have any source port, at an address of the kernel's or not; but the kernel cuts nothing for
// it, so that every datagram is a message, if many a call.
type rawNode struct {
	in       *udpReceiver
	out      int
	messages []udpHeader
}

const rawHeaders = wire.IPv4MinLen + wire.UDPLen

// newRawNode opens the sending socket in the namespace of the calling thread.
func newRawNode(t testing.TB, x *gatewayRound, in *udpReceiver) (*rawNode, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	n := &rawNode{in: in, out: fd, messages: make([]udpHeader, x.datagrams())}
	pieces := vectorsOf(x.pieces())
	each := len(pieces) / x.whole
	name := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: peerAddr}
	for i := range n.messages {
		header := make([]byte, rawHeaders)
		wire.IPv4(header).Init(rawHeaders+x.size(), wire.ProtoUDP, 255, udpNodeAddr, peerAddr)
		source := firstFlowPort + i/(x.whole*x.rounds)
		wire.PutUDP(header[wire.IPv4MinLen:], uint16(source), wire.GenevePort, wire.UDPLen+x.size())
		at := i % x.whole * each
		vectors := append([]unix.Iovec{vectorOf(header)}, pieces[at:at+each]...)
		h := &n.messages[i].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(name)), unix.SizeofSockaddrInet4
		h.Iov = &vectors[0]
		h.SetIovlen(len(vectors))
	}
	return n, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketRoom)
}

func (n *rawNode) send() error {
	const batch = 64
	for left := n.messages; len(left) > 0; {
		k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(n.out), uintptr(unsafe.Pointer(&left[0])),
			uintptr(min(batch, len(left))), 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("sendmmsg: %w", errno)
		}
		left = left[k:]
	}
	return nil
}

func (n *rawNode) receive(each func([]byte)) (int, error) {
	return n.in.receive(func(m *udpMessage) { split(m.bytes, m.size, each) })
}

func (n *rawNode) fd() int { return n.in.descriptor }

func vectorsOf(pieces [][]byte) (vectors []unix.Iovec) {
	for _, p := range pieces {
		vectors = append(vectors, vectorOf(p))
	}
	return vectors
}
