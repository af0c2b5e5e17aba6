// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// maxPacket is the longest IP packet in bytes.
const maxPacket = 65535

// merger writes packets to a device, in the order in which they were added. TCP segments that follow upon each other become
// super-packets by the rules of the kernel's own GRO (net/ipv4/tcp_offload.c), so that nobody can tell. What is added is
// borrowed until flush, and its headers are changed.
type merger struct {
	fd       int
	super    bool // the device takes super-packets
	failed   *atomic.Uint64
	header   [vnetLen]byte
	iovs     []unix.Iovec // header, first packet, payloads
	first    []byte       // packet that began the run; nil when there is none
	tuple    wire.Tuple   // of it
	headers  int          // bytes of its headers
	size     int          // of payload of every member but the last
	payload  int          // bytes of all payload
	count    int
	sequence uint32 // that the next member has
	closed   bool   // no member can follow
}

func newMerger(d *device, super bool, failed *atomic.Uint64) *merger {
	return &merger{fd: d.fd, super: super, failed: failed}
}

// add writes the packet with the given tuple some time before flush returns.
func (m *merger) add(packet []byte, t *wire.Tuple) {
	headers, mergeable := 0, false
	if m.super {
		headers, mergeable = segment(packet, t)
	}
	if m.first != nil {
		if mergeable && m.continues(packet, t, headers) {
			m.join(packet, headers)
			return
		}
		m.flush()
	}
	m.first, m.tuple, m.headers = packet, *t, headers
	m.iovs = append(m.iovs[:0], unix.Iovec{Base: &m.header[0], Len: vnetLen}, piece(packet))
	m.size, m.payload, m.count = len(packet)-headers, len(packet)-headers, 1
	m.sequence = t.TCPSeq + uint32(m.size)
	m.closed = !mergeable || t.TCPFlags&wire.TCPPsh != 0
}

func piece(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// segment says how long the headers of a TCP segment are, and whether it may be part of a super-packet: plain data, without IP
// options or extension headers, with a checksum that is right.
func segment(packet []byte, t *wire.Tuple) (headers int, ok bool) {
	if t.Proto != wire.ProtoTCP || t.Frag.IsFragment() || t.TCPFlags&^wire.TCPPsh != wire.TCPAck {
		return 0, false
	}
	var sum uint32
	length := len(packet) - int(t.L4)
	switch {
	case t.Version == 4 && t.L4 == wire.IPv4MinLen:
		ip := wire.IPv4(packet)
		sum = wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoTCP, uint16(length))
	case t.Version == 6 && t.L4 == wire.IPv6Len:
		sum = wire.PseudoSum6(t.Src, t.Dst, wire.ProtoTCP, uint32(length))
	default:
		return 0, false
	}
	tcp := wire.TCP(packet[t.L4:])
	headers = int(t.L4) + tcp.HeaderLen()
	if tcp.HeaderLen() < wire.TCPMinLen || headers >= len(packet) {
		return 0, false
	}
	return headers, wire.Checksum(tcp, sum) == 0
}

// continues says whether a segment could be the next that was cut from the run.
func (m *merger) continues(packet []byte, t *wire.Tuple, headers int) bool {
	n := len(packet) - headers
	if m.closed || t.TCPSeq != m.sequence || headers != m.headers || n > m.size || headers+m.payload+n > maxPacket {
		return false
	}
	if t.Version != m.tuple.Version || t.Src != m.tuple.Src || t.Dst != m.tuple.Dst ||
		t.SrcPort != m.tuple.SrcPort || t.DstPort != m.tuple.DstPort {
		return false
	}
	return m.sameNetwork(packet) && sameTransport(m.first[t.L4:headers], packet[t.L4:headers])
}

// sameNetwork compares what a super-packet's segments share of the IP header: TOS, TTL and DF; identifications count up unless
// DF makes them meaningless.
func (m *merger) sameNetwork(packet []byte) bool {
	if packet[0]>>4 == 6 {
		return bytes.Equal(m.first[:4], packet[:4]) && m.first[7] == packet[7]
	}
	first, next := wire.IPv4(m.first), wire.IPv4(packet)
	if !first.DontFragment() && next.ID() != first.ID()+uint16(m.count) {
		return false
	}
	return first.TOS() == next.TOS() && first.TTL() == next.TTL() && first.DontFragment() == next.DontFragment()
}

// sameTransport compares what segments share of the TCP header: acknowledgement, window and options.
func sameTransport(a, b wire.TCP) bool {
	return a.Ack() == b.Ack() && a.Window() == b.Window() && bytes.Equal(a.Options(), b.Options())
}

// join appends a segment that continues the run.
func (m *merger) join(packet []byte, headers int) {
	m.iovs = append(m.iovs, piece(packet[headers:]))
	n := len(packet) - headers
	m.payload += n
	m.count++
	m.sequence += uint32(n)
	flags := wire.TCP(packet[m.tuple.L4:]).Flags()
	m.closed = n < m.size || flags&wire.TCPPsh != 0
	tcp := wire.TCP(m.first[m.tuple.L4:])
	tcp.SetFlags(tcp.Flags() | flags)
}

// flush writes what has been added.
func (m *merger) flush() {
	if m.first == nil {
		return
	}
	m.header = [vnetLen]byte{}
	if m.count > 1 {
		m.finish()
	}
	for {
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(m.fd), uintptr(unsafe.Pointer(&m.iovs[0])), uintptr(len(m.iovs)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			m.failed.Add(uint64(m.count))
		}
		break
	}
	m.first = nil
}

// finish makes the run's first packet the headers of a super-packet, whose checksum the kernel completes.
func (m *merger) finish() {
	l4 := int(m.tuple.L4)
	length := m.headers + m.payload - l4
	gsoType, sum := byte(vnetTCPv4), uint32(0)
	if m.tuple.Version == 6 {
		gsoType = vnetTCPv6
		wire.IPv6(m.first).SetPayloadLen(length)
		sum = wire.PseudoSum6(m.tuple.Src, m.tuple.Dst, wire.ProtoTCP, uint32(length))
	} else {
		ip := wire.IPv4(m.first)
		ip.RewriteTotalLen(l4 + length)
		sum = wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoTCP, uint16(length))
	}
	wire.TCP(m.first[l4:]).SetChecksum(wire.Fold(sum))
	h := m.header[:]
	h[vnetFlags], h[vnetType] = vnetNeedsCsum, gsoType
	binary.NativeEndian.PutUint16(h[vnetHdrLen:], uint16(m.headers))
	binary.NativeEndian.PutUint16(h[vnetGSOSize:], uint16(m.size))
	binary.NativeEndian.PutUint16(h[vnetCsumStart:], uint16(l4))
	binary.NativeEndian.PutUint16(h[vnetCsumOff:], tcpChecksum)
}

// tcpChecksum is the offset of the checksum in a TCP header.
const tcpChecksum = 16
