// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in an IPv6 header (RFC 8200 section 3).
const (
	ipv6VersClassFlow = 0
	ipv6PayloadLen    = 4
	ipv6NextHeader    = 6
	ipv6HopLimit      = 7
	ipv6Src           = 8
	ipv6Dst           = 24
)

// Fields of the 32-bit word at ipv6VersClassFlow.
const (
	ipv6ClassShift = 20
	ipv6ClassMask  = 0xff << ipv6ClassShift
	ipv6FlowMask   = 1<<ipv6ClassShift - 1
)

// IPv6Len is the length in bytes of an IPv6 header without extension headers.
const IPv6Len = 40

// IPv6 is an IPv6 header and whatever follows it. There is no header checksum.
type IPv6 []byte

// ParseIPv6 is b as an IPv6 packet, cut to its payload length: version 6, 40 bytes or more, and a payload that lies within
// b. It does not look at extension headers, see WalkIPv6, and knows no jumbograms (RFC 2675).
func ParseIPv6(b []byte) (IPv6, bool) {
	h := IPv6(b)
	if len(h) < IPv6Len || h.Version() != 6 {
		return nil, false
	}
	total := h.TotalLen()
	if total > len(h) {
		return nil, false
	}
	return h[:total], true
}

// Init writes a header with traffic class and flow label zero. The payload length is in bytes, extension headers included.
func (h IPv6) Init(payloadLen int, nextHeader, hopLimit uint8, src, dst [16]byte) {
	binary.BigEndian.PutUint32(h[ipv6VersClassFlow:], 6<<28)
	h.SetPayloadLen(payloadLen)
	h.SetNextHeader(nextHeader)
	h.SetHopLimit(hopLimit)
	h.SetSrc(src)
	h.SetDst(dst)
}

// Version is the version field, 6 in a valid packet.
func (h IPv6) Version() int { return int(h[ipv6VersClassFlow] >> 4) }

// TrafficClass is the traffic class: DSCP and ECN (RFC 2474, RFC 3168).
func (h IPv6) TrafficClass() uint8 { return uint8(h.word() >> ipv6ClassShift) }

// FlowLabel is the flow label, 20 bits (RFC 6437).
func (h IPv6) FlowLabel() uint32 { return h.word() & ipv6FlowMask }

// PayloadLen is the length in bytes of everything behind the 40 bytes.
func (h IPv6) PayloadLen() int { return int(binary.BigEndian.Uint16(h[ipv6PayloadLen:])) }

// TotalLen is the length of header and payload in bytes.
func (h IPv6) TotalLen() int { return IPv6Len + h.PayloadLen() }

// NextHeader is the number of what follows the header: a protocol or an extension header.
func (h IPv6) NextHeader() uint8 { return h[ipv6NextHeader] }

// HopLimit is the hop limit.
func (h IPv6) HopLimit() uint8 { return h[ipv6HopLimit] }

// Src is the source address.
func (h IPv6) Src() [16]byte { return [16]byte(h[ipv6Src:]) }

// Dst is the destination address, that of the next stop where a routing header has segments left.
func (h IPv6) Dst() [16]byte { return [16]byte(h[ipv6Dst:]) }

// SetTrafficClass writes the traffic class.
func (h IPv6) SetTrafficClass(c uint8) {
	binary.BigEndian.PutUint32(h[ipv6VersClassFlow:], h.word()&^ipv6ClassMask|uint32(c)<<ipv6ClassShift)
}

// SetFlowLabel writes the lower 20 bits of l as the flow label.
func (h IPv6) SetFlowLabel(l uint32) {
	binary.BigEndian.PutUint32(h[ipv6VersClassFlow:], h.word()&^ipv6FlowMask|l&ipv6FlowMask)
}

// SetPayloadLen writes the payload length in bytes, at most 65535. Where only extension headers change, that leaves the
// transport checksum right; see PseudoSum6.
func (h IPv6) SetPayloadLen(n int) { binary.BigEndian.PutUint16(h[ipv6PayloadLen:], uint16(n)) }

// SetNextHeader writes the number of what follows the header.
func (h IPv6) SetNextHeader(n uint8) { h[ipv6NextHeader] = n }

// SetHopLimit writes the hop limit.
func (h IPv6) SetHopLimit(n uint8) { h[ipv6HopLimit] = n }

// SetSrc writes the source address and leaves the transport checksum alone.
func (h IPv6) SetSrc(a [16]byte) { *(*[16]byte)(h[ipv6Src:]) = a }

// SetDst writes the destination address and leaves the transport checksum alone.
func (h IPv6) SetDst(a [16]byte) { *(*[16]byte)(h[ipv6Dst:]) = a }

// word is the first word of the header.
func (h IPv6) word() uint32 { return binary.BigEndian.Uint32(h[ipv6VersClassFlow:]) }
