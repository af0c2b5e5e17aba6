// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/binary"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Complete finishes a partial checksum in place and clears the offload fields that described it. It does nothing to a
// packet without NeedsCsum. The packet must not be a super-packet, and the offsets must lie inside it.
func Complete(b *Buffer) {
	if b.Flags&NeedsCsum == 0 {
		return
	}
	p := b.Bytes()[b.CsumStart:]
	// The field holds the sum of the pseudo-header, so summing over it adds that.
	putChecksum(p[b.CsumOffset:], wire.Checksum(p, 0), b.CsumOffset == udpCsumOffset)
	b.Flags &^= NeedsCsum
	b.CsumStart, b.CsumOffset = 0, 0
}

// putChecksum stores a checksum; a UDP one of zero would say that there is none (RFC 768).
func putChecksum(field []byte, sum uint16, udp bool) {
	if sum == 0 && udp {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}

// Segmenter cuts a super-packet into the plain packets a device would make of it: of the payload GSOSize bytes each,
// the last what is left; IPv4 identifications counting up; CWR on the first segment only, PSH and FIN on the last only;
// all lengths and checksums complete. A packet without GSO is one segment, its checksum completed.
//
// The zero value is ready for Start. A Segmenter allocates nothing and has no state worth keeping between packets.
type Segmenter struct {
	src   *Buffer
	whole bool // the packet is no super-packet, and has not been given out
	gso   int  // payload bytes a segment
	hdr   int  // bytes of headers
	done  int  // payload bytes given out
	index int  // segments given out
}

// Start begins with src, which is borrowed until Next has returned false, and not changed. The offload fields of src
// must keep the rules that Receive guarantees.
func (s *Segmenter) Start(src *Buffer) {
	*s = Segmenter{src: src, whole: src.GSOType == GSONone, gso: int(src.GSOSize), hdr: int(src.HdrLen)}
}

// Next makes dst the next segment. It is false when there is none left; dst is unchanged then.
func (s *Segmenter) Next(dst *Buffer) bool {
	if s.src.GSOType == GSONone {
		if !s.whole {
			return false
		}
		s.whole = false
		dst.CopyFrom(s.src)
		Complete(dst)
		return true
	}
	payload, ok := s.Cut()
	if !ok {
		return false
	}
	dst.Reset()
	q := dst.SetLen(s.hdr + len(payload))
	copy(q[s.hdr:], payload)
	s.PutHeaders(q[:s.hdr], payload)
	return true
}

// Cut returns the payload of the next segment of a super-packet, where it lies in src. It is false when there is none
// left. For who wants a segment in two parts: PutHeaders makes the other one.
func (s *Segmenter) Cut() (payload []byte, ok bool) {
	p := s.src.Bytes()
	size := min(s.gso, len(p)-s.hdr-s.done)
	if size <= 0 {
		return nil, false
	}
	payload = p[s.hdr+s.done : s.hdr+s.done+size]
	s.done += size
	s.index++
	return payload, true
}

// PutHeaders writes to dst, HdrLen bytes long, the IP and transport headers of the segment whose payload Cut returned last,
// or a copy of it.
func (s *Segmenter) PutHeaders(dst, payload []byte) {
	src := s.src.Bytes()
	copy(dst, src[:s.hdr])
	l4, total := int(s.src.CsumStart), s.hdr+len(payload)
	var pseudo uint32
	proto := uint8(wire.ProtoTCP)
	if s.src.GSOType == GSOUDP {
		proto = wire.ProtoUDP
	}
	if dst[0]>>4 == 4 {
		ip := wire.IPv4(dst)
		ip.SetTotalLen(total)
		ip.SetID(ip.ID() + uint16(s.index-1))
		ip.SetChecksum(ip.CalcChecksum())
		pseudo = wire.PseudoSum4(ip.Src(), ip.Dst(), proto, uint16(total-l4))
	} else {
		binary.BigEndian.PutUint16(dst[ipv6PayloadLen:], uint16(total-ipv6Len))
		pseudo = wire.Sum(dst[ipv6Src:ipv6Dst+16], uint32(proto)+uint32(total-l4))
	}
	sum := wire.Sum(payload, pseudo)
	if proto == wire.ProtoUDP {
		u := wire.UDP(dst[l4:])
		u.SetLength(uint16(total - l4))
		u.SetChecksum(0)
		putChecksum(u[udpCsumOffset:], wire.Checksum(u, sum), true)
		return
	}
	t := wire.TCP(dst[l4:])
	t.SetSeq(t.Seq() + uint32(s.done-len(payload)))
	flags := t.Flags()
	if s.index > 1 {
		flags &^= wire.TCPCwr
	}
	if s.hdr+s.done < len(src) {
		flags &^= wire.TCPPsh | wire.TCPFin
	}
	t.SetFlags(flags)
	t.SetChecksum(0)
	t.SetChecksum(wire.Checksum(t, sum))
}

// Segments is how many plain packets b stands for: 1, or what a super-packet would be cut into.
func (b *Buffer) Segments() int {
	if b.GSOType == GSONone || b.GSOSize == 0 {
		return 1
	}
	return max(1, (b.Len()-int(b.HdrLen)+int(b.GSOSize)-1)/int(b.GSOSize))
}
