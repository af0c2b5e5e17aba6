// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Numbers of the next header field that only IPv6 has a use for (RFC 8200 section 4).
const (
	ProtoHopByHop   = 0
	ProtoRouting    = 43
	ProtoFragment   = 44
	ProtoESP        = 50
	ProtoAH         = 51
	ProtoICMPv6     = 58
	ProtoNoNext     = 59
	ProtoDstOptions = 60
)

// Offsets in an extension header, and its unit of length in bytes.
const (
	extNext     = 0
	extLen      = 1 // units behind the first
	extFragment = 2 // fragment header: offset in units, two reserved bits, the M flag
	extID       = 4 // fragment header
	extUnit     = 8
)

// Bits of the 16-bit word at extFragment. The offset's unit makes the masked word an offset in bytes.
const (
	ipv6OffsetMask    = 0xfff8
	ipv6MoreFragments = 1
)

// maxExtensions is how many extension headers WalkIPv6 steps over. RFC 8200 section 4.1 has a use for six in one packet,
// of which these are five; 65,535 bytes could hold thousands.
const maxExtensions = 8

// WalkIPv6 steps over the extension headers of the IPv6 packet in b: hop-by-hop options, routing, destination options and
// fragment, in any order. It returns the number of the first header that is none of these, and its offset in b, which may
// be the end of b. AH, ESP and "no next header" end the walk like any protocol. The walk ends behind the fragment header of a
// later fragment, whose data is not a header: proto is then what that header says, see FragInfo.
//
// It is not ok, and the results are zero, when b has no IPv6 header, an extension header does not lie within b, there are more
// than eight of them, or two fragment headers. The payload length is not read, so that the head of a packet, which an ICMP
// error quotes, can be walked; cut b to it before, as ParseIPv6 does. Options are not read.
func WalkIPv6(b []byte) (proto uint8, off int, frag FragInfo, ok bool) {
	if len(b) < IPv6Len || IPv6(b).Version() != 6 {
		return 0, 0, FragInfo{}, false
	}
	proto, off = IPv6(b).NextHeader(), IPv6Len
	fragmented := false
	for n := 0; ; n++ {
		length := extUnit
		switch proto {
		case ProtoHopByHop, ProtoRouting, ProtoDstOptions:
			if len(b)-off >= extUnit {
				length += int(b[off+extLen]) * extUnit
			}
		case ProtoFragment:
			if fragmented {
				return 0, 0, FragInfo{}, false
			}
			fragmented = true
		default:
			return proto, off, frag, true
		}
		if n == maxExtensions || len(b)-off < length {
			return 0, 0, FragInfo{}, false
		}
		header := b[off : off+length]
		if proto == ProtoFragment {
			frag = fragmentHeader(header)
		}
		proto, off = header[extNext], off+length
		if frag.IsLater() {
			return proto, off, frag, true
		}
	}
}

// fragmentHeader is what the eight bytes of a fragment header say (RFC 8200 section 4.5).
func fragmentHeader(b []byte) FragInfo {
	word := binary.BigEndian.Uint16(b[extFragment:])
	f := FragInfo{
		ID:     binary.BigEndian.Uint32(b[extID:]),
		Offset: word & ipv6OffsetMask,
		More:   word&ipv6MoreFragments != 0,
	}
	if !f.IsFragment() {
		return FragInfo{}
	}
	return f
}
