// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in an IPv4 header (RFC 791 section 3.1).
const (
	ipv4VersIHL  = 0
	ipv4TOS      = 1
	ipv4TotalLen = 2
	ipv4ID       = 4
	ipv4Fragment = 6
	ipv4TTL      = 8
	ipv4Protocol = 9
	ipv4Checksum = 10
	ipv4Src      = 12
	ipv4Dst      = 16
)

// Bits of the 16-bit word at ipv4Fragment.
const (
	ipv4DontFragment  = 1 << 14
	ipv4MoreFragments = 1 << 13
	ipv4OffsetMask    = 1<<13 - 1
)

// IPv4MinLen is the length in bytes of an IPv4 header without options.
const IPv4MinLen = 20

// Protocol numbers of the IPv4 header's protocol field.
const (
	ProtoICMP = 1
	ProtoTCP  = 6
	ProtoUDP  = 17
	ProtoGRE  = 47
)

// IPv4 is an IPv4 header and whatever follows it.
type IPv4 []byte

// ParseIPv4 is b as an IPv4 packet, cut to its total length: version 4, a header of 20 bytes or more, and a total length
// that holds the header and lies within b. It does not verify the checksum and does not look at what the header carries.
func ParseIPv4(b []byte) (IPv4, bool) {
	h := IPv4(b)
	if len(h) < IPv4MinLen || h.Version() != 4 {
		return nil, false
	}
	header, total := h.HeaderLen(), h.TotalLen()
	if header < IPv4MinLen || total < header || total > len(h) {
		return nil, false
	}
	return h[:total], true
}

// Init writes a header without options: DF set, TOS and ID zero (RFC 6864 section 4.1: an atomic datagram's ID means
// nothing), and the checksum. The total length is in bytes, this header included.
func (h IPv4) Init(totalLen int, proto uint8, ttl uint8, src, dst [4]byte) {
	h[ipv4VersIHL] = 4<<4 | IPv4MinLen/4
	h[ipv4TOS] = 0
	h.SetTotalLen(totalLen)
	h.SetID(0)
	binary.BigEndian.PutUint16(h[ipv4Fragment:], ipv4DontFragment)
	h[ipv4TTL] = ttl
	h[ipv4Protocol] = proto
	h.SetSrc(src)
	h.SetDst(dst)
	h.SetChecksum(h.CalcChecksum())
}

// Version is the version field, 4 in a valid packet.
func (h IPv4) Version() int { return int(h[ipv4VersIHL] >> 4) }

// HeaderLen is the length of the header in bytes, options included.
func (h IPv4) HeaderLen() int { return int(h[ipv4VersIHL]&0xf) * 4 }

// HasOptions says whether the header is longer than IPv4MinLen.
func (h IPv4) HasOptions() bool { return h.HeaderLen() > IPv4MinLen }

// TOS is the type of service byte: DSCP and ECN (RFC 2474, RFC 3168).
func (h IPv4) TOS() uint8 { return h[ipv4TOS] }

// SetTOS writes the type of service byte and leaves the checksum alone.
func (h IPv4) SetTOS(tos uint8) { h[ipv4TOS] = tos }

// TotalLen is the length of header and payload in bytes.
func (h IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(h[ipv4TotalLen:])) }

// SetTotalLen writes the total length in bytes, at most 65535, and leaves the checksum alone.
func (h IPv4) SetTotalLen(n int) { binary.BigEndian.PutUint16(h[ipv4TotalLen:], uint16(n)) }

// ID is the identification field, which groups the fragments of a datagram.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[ipv4ID:]) }

// SetID writes the identification and leaves the checksum alone.
func (h IPv4) SetID(id uint16) { binary.BigEndian.PutUint16(h[ipv4ID:], id) }

// DontFragment says whether the DF flag is set.
func (h IPv4) DontFragment() bool {
	return binary.BigEndian.Uint16(h[ipv4Fragment:])&ipv4DontFragment != 0
}

// IsFragment says whether the packet is a part of a datagram: more fragments follow, or its offset is not zero.
func (h IPv4) IsFragment() bool {
	return binary.BigEndian.Uint16(h[ipv4Fragment:])&(ipv4MoreFragments|ipv4OffsetMask) != 0
}

// MoreFragments says whether the MF flag is set.
func (h IPv4) MoreFragments() bool {
	return binary.BigEndian.Uint16(h[ipv4Fragment:])&ipv4MoreFragments != 0
}

// FragmentOffset is where in the datagram's payload this packet's payload belongs, in bytes, a multiple of 8.
func (h IPv4) FragmentOffset() int {
	return int(binary.BigEndian.Uint16(h[ipv4Fragment:])&ipv4OffsetMask) * 8
}

// Fragment is which part of a datagram the packet is.
func (h IPv4) Fragment() FragInfo {
	if !h.IsFragment() {
		return FragInfo{}
	}
	return FragInfo{ID: uint32(h.ID()), Offset: uint16(h.FragmentOffset()), More: h.MoreFragments()}
}

// TTL is the time to live in hops.
func (h IPv4) TTL() uint8 { return h[ipv4TTL] }

// Protocol is the number of the protocol that follows the header.
func (h IPv4) Protocol() uint8 { return h[ipv4Protocol] }

// Checksum is the header checksum as it stands.
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[ipv4Checksum:]) }

// SetChecksum writes the header checksum.
func (h IPv4) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[ipv4Checksum:], c) }

// CalcChecksum is the checksum the header ought to have, options included. The field itself is not read.
func (h IPv4) CalcChecksum() uint16 {
	return Checksum(h[ipv4Src:h.HeaderLen()], Sum(h[:ipv4Checksum], 0))
}

// Src is the source address.
func (h IPv4) Src() [4]byte { return [4]byte(h[ipv4Src:]) }

// Dst is the destination address.
func (h IPv4) Dst() [4]byte { return [4]byte(h[ipv4Dst:]) }

// SrcUint32 is the source address as a number whose most significant byte is the address's first.
func (h IPv4) SrcUint32() uint32 { return binary.BigEndian.Uint32(h[ipv4Src:]) }

// DstUint32 is the destination address as a number whose most significant byte is the address's first.
func (h IPv4) DstUint32() uint32 { return binary.BigEndian.Uint32(h[ipv4Dst:]) }

// SetSrc writes the source address and leaves all checksums alone.
func (h IPv4) SetSrc(a [4]byte) { *(*[4]byte)(h[ipv4Src:]) = a }

// SetDst writes the destination address and leaves all checksums alone.
func (h IPv4) SetDst(a [4]byte) { *(*[4]byte)(h[ipv4Dst:]) = a }

// RewriteSrc writes the source address and repairs the header checksum, but not the transport's, which also covers it.
func (h IPv4) RewriteSrc(a [4]byte) {
	h.SetChecksum(Update32(h.Checksum(), h.SrcUint32(), binary.BigEndian.Uint32(a[:])))
	h.SetSrc(a)
}

// RewriteDst writes the destination address and repairs the header checksum, but not the transport's, which also covers it.
func (h IPv4) RewriteDst(a [4]byte) {
	h.SetChecksum(Update32(h.Checksum(), h.DstUint32(), binary.BigEndian.Uint32(a[:])))
	h.SetDst(a)
}

// RewriteTotalLen writes the total length in bytes, at most 65535, and repairs the header checksum, but not the
// transport's, whose pseudo-header holds the length of the payload.
func (h IPv4) RewriteTotalLen(n int) {
	h.SetChecksum(Update16(h.Checksum(), uint16(h.TotalLen()), uint16(n)))
	h.SetTotalLen(n)
}
