// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Tuple is what tells the flows of one network apart, read from a packet of either family, and where its parts lie. Numbers
// are in host byte order. It holds no pointers.
type Tuple struct {
	// Src and Dst are the addresses, those of IPv4 in their IPv4-mapped IPv6 form.
	Src, Dst [16]byte

	// TCPSeq is the sequence number of a TCP segment, zero otherwise.
	TCPSeq uint32

	// End is the offset of the packet's end, beyond which the bytes may hold padding.
	End uint32

	// Frag says which part of a datagram the packet is.
	Frag FragInfo

	// SrcPort and DstPort are the ports of TCP and UDP. They are zero for other protocols and in later fragments.
	SrcPort, DstPort uint16

	// L4 is the offset of the transport header, of the data in a later fragment. It may equal End.
	L4 uint16

	// Version is 4 or 6.
	Version uint8

	// Proto is the transport protocol, behind the extension headers of IPv6; see WalkIPv6 and FragInfo.
	Proto uint8

	// TCPFlags are the control bits of a TCP segment, zero otherwise and where a quote is cut before them.
	TCPFlags uint8
}

// quotedL4 is how much of a transport header an ICMP error quotes at least, in bytes (RFC 792; ICMPv6 quotes more).
const quotedL4 = 8

// Parse makes t the tuple of the IPv4 or IPv6 packet that b begins with. It is not ok, and t means nothing, unless the IP
// header is as ParseIPv4 or ParseIPv6 wants it, WalkIPv6 finds the end of the extension headers, and a packet of TCP or UDP
// other than a later fragment holds the 20 or 8 bytes of the fixed transport header: a first fragment without it serves only
// to deceive (RFC 1858, RFC 8200 section 4.5). Checksums, TCP's data offset and UDP's length are not judged, other protocols
// not read. (A tuple returned by value costs as much again, in copies.)
func (t *Tuple) Parse(b []byte) (ok bool) {
	*t = Tuple{}
	return t.parse(b, false)
}

// ParseQuoted makes t the tuple of the packet that the ICMP or ICMPv6 error in b is about. L4 and End are offsets in b, and
// End is that of the quote, which may be shorter than the packet was. It is not ok, and t means nothing, when b is no such
// error (see the IsError methods) or a later fragment of one, or when the quote is not of b's own family or has less than the
// IP header, extension headers and eight bytes of TCP or UDP. Checksums are not judged. The sender of what is quoted is the
// receiver of b.
func (t *Tuple) ParseQuoted(b []byte) (ok bool) {
	var outer Tuple
	if !outer.parse(b, false) || outer.Frag.IsLater() || int(outer.End)-int(outer.L4) < ICMPLen {
		return false
	}
	message := b[outer.L4:outer.End]
	switch {
	case outer.Version == 4 && outer.Proto == ProtoICMP:
		ok = ICMP(message).IsError()
	case outer.Version == 6 && outer.Proto == ProtoICMPv6:
		ok = ICMPv6(message).IsError()
	}
	*t = Tuple{}
	if !ok || !t.parse(message[ICMPLen:], true) || t.Version != outer.Version {
		return false
	}
	start := outer.L4 + ICMPLen
	t.L4 += start
	t.End += uint32(start)
	return true
}

// parse fills a zero tuple. A quoted packet may end before its header says.
func (t *Tuple) parse(b []byte, quoted bool) bool {
	if len(b) < IPv4MinLen {
		return false
	}
	var ok bool
	switch t.Version = b[0] >> 4; t.Version {
	case 4:
		ok = t.parseIPv4(b, quoted)
	case 6:
		ok = t.parseIPv6(b, quoted)
	}
	return ok && t.parseTransport(b[:t.End], quoted)
}

// parseIPv4 fills what the IPv4 header says.
func (t *Tuple) parseIPv4(b []byte, quoted bool) bool {
	h := IPv4(b)
	header, total := h.HeaderLen(), h.TotalLen()
	if quoted && total > len(b) {
		total = len(b)
	}
	if header < IPv4MinLen || total < header || total > len(b) {
		return false
	}
	putMapped(&t.Src, h.SrcUint32())
	putMapped(&t.Dst, h.DstUint32())
	t.Frag = h.Fragment()
	t.Proto = h.Protocol()
	t.L4, t.End = uint16(header), uint32(total)
	return true
}

// parseIPv6 fills what the IPv6 header and its extensions say.
func (t *Tuple) parseIPv6(b []byte, quoted bool) bool {
	if len(b) < IPv6Len {
		return false
	}
	h := IPv6(b)
	total := h.TotalLen()
	if quoted && total > len(b) {
		total = len(b)
	}
	if total > len(b) {
		return false
	}
	proto, off, frag, ok := WalkIPv6(b[:total])
	if !ok {
		return false
	}
	t.Src, t.Dst = h.Src(), h.Dst()
	t.Frag = frag
	t.Proto = proto
	t.L4, t.End = uint16(off), uint32(total)
	return true
}

// parseTransport fills what the transport header says, where the packet has one.
func (t *Tuple) parseTransport(b []byte, quoted bool) bool {
	if t.Frag.IsLater() {
		return true
	}
	b = b[t.L4:]
	switch t.Proto {
	case ProtoTCP:
		if len(b) < TCPMinLen && (!quoted || len(b) < quotedL4) {
			return false
		}
		h := TCP(b)
		t.SrcPort, t.DstPort, t.TCPSeq = h.SrcPort(), h.DstPort(), h.Seq()
		if len(b) > tcpFlags {
			t.TCPFlags = h.Flags()
		}
	case ProtoUDP:
		if len(b) < UDPLen {
			return false
		}
		t.SrcPort, t.DstPort = UDP(b).SrcPort(), UDP(b).DstPort()
	}
	return true
}

// putMapped writes an IPv4 address in its IPv4-mapped IPv6 form (RFC 4291 section 2.5.5.2) over a zero one. It is one store, so
// that whoever loads the address as words need not wait for its bytes.
func putMapped(dst *[16]byte, a uint32) { binary.BigEndian.PutUint64(dst[8:], 0xffff<<32|uint64(a)) }
