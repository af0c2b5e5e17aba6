// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"encoding/binary"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// complete computes a checksum that the kernel left to the device: the field holds the sum of the pseudo-header. It is not ok
// when the field lies outside of the packet.
func complete(packet []byte, o *offload) bool {
	at := o.csumStart + o.csumOff
	if at+2 > len(packet) {
		return false
	}
	sum := wire.Checksum(packet[o.csumStart:], 0)
	if sum == 0 {
		sum = 0xffff // to UDP zero means none; to all others it is the same number
	}
	binary.BigEndian.PutUint16(packet[at:], sum)
	return true
}

// cutter cuts a TCP super-packet into its segments, without copying payload.
type cutter struct {
	packet  []byte
	l4      int
	headers int // bytes of headers, the same in front of each segment
	size    int // payload bytes of each segment but the last
	v6      bool
	at      int // next payload byte
	index   int
}

// start takes a super-packet from the kernel. It is not ok when the packet is no such thing.
func (c *cutter) start(packet []byte, t *wire.Tuple, o *offload) bool {
	want := uint8(vnetTCPv4)
	if t.Version == 6 {
		want = vnetTCPv6
	}
	if o.gsoType != want || o.gsoSize == 0 || t.Proto != wire.ProtoTCP || t.Frag.IsFragment() {
		return false
	}
	*c = cutter{packet: packet, l4: int(t.L4), size: o.gsoSize, v6: t.Version == 6}
	length := wire.TCP(packet[c.l4:]).HeaderLen()
	c.headers = c.l4 + length
	c.at = c.headers
	return length >= wire.TCPMinLen && c.headers < len(packet)
}

// total is how many segments there are and how many bytes they have together.
func (c *cutter) total() (segments, size int) {
	payload := len(c.packet) - c.headers
	segments = (payload + c.size - 1) / c.size
	return segments, payload + segments*c.headers
}

// more says whether a segment is left.
func (c *cutter) more() bool { return c.at < len(c.packet) }

// next writes the headers of the next segment to dst, which has room for them, and returns its payload.
func (c *cutter) next(dst []byte) (payload []byte) {
	end := min(c.at+c.size, len(c.packet))
	payload = c.packet[c.at:end]
	copy(dst, c.packet[:c.headers])
	length := c.headers - c.l4 + len(payload)
	sum := uint32(0)
	if c.v6 {
		ip := wire.IPv6(dst)
		ip.SetPayloadLen(c.headers + len(payload) - wire.IPv6Len)
		sum = wire.PseudoSum6(ip.Src(), ip.Dst(), wire.ProtoTCP, uint32(length))
	} else {
		ip := wire.IPv4(dst)
		ip.SetTotalLen(c.headers + len(payload))
		ip.SetID(ip.ID() + uint16(c.index))
		ip.SetChecksum(ip.CalcChecksum())
		sum = wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoTCP, uint16(length))
	}
	tcp := wire.TCP(dst[c.l4:c.headers])
	tcp.SetSeq(tcp.Seq() + uint32(c.at-c.headers))
	flags := tcp.Flags()
	if end < len(c.packet) {
		flags &^= wire.TCPFin | wire.TCPPsh
	}
	if c.index > 0 {
		flags &^= wire.TCPCwr
	}
	tcp.SetFlags(flags)
	tcp.SetChecksum(0)
	// The header's length is even, so the payload begins at an even offset.
	tcp.SetChecksum(wire.Checksum(payload, wire.Sum(tcp, sum)))
	c.at = end
	c.index++
	return payload
}
