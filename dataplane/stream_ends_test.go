// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// arrive gives a segment to the target, which checks every byte of it. One with little memory keeps only a part.
func (s *stream) arrive(pkt []byte, little bool) {
	s.diagram.Add("network", "target", pkt)
	pkttest.Verify(s, pkt)
	p := pkttest.Decode(s, pkt)
	off := int(int32(p.TCP.Seq - s.isn - 1))
	if off == 0 && len(p.Payload) > 0 && len(p.Payload) < headerLen {
		s.Errorf("the header straddles two segments, the first of %d bytes", len(p.Payload))
	}
	if end := off + len(p.Payload); end > s.offered && len(p.Payload) > 0 {
		s.Errorf("segment ends at %d, the window at %d", end, s.offered)
	}
	keep := len(p.Payload)
	if little && keep > 0 {
		keep = s.r.IntN(keep)
	}
	for i, b := range p.Payload {
		switch at := off + i; {
		case at < 0 || at >= len(s.want):
			s.Errorf("byte %d is not of the stream", at)
		case s.want[at] != b:
			s.Errorf("byte %d is %#02x, want %#02x", at, b, s.want[at])
			return
		case i < keep:
			s.got[at] = b
		}
	}
	if p.TCP.FIN {
		if end := off + len(p.Payload); end != len(s.want) {
			s.Errorf("FIN is at %d, want %d", end, len(s.want))
		}
		if keep == len(p.Payload) {
			s.fin = len(s.want)
		}
	}
	if s.r.IntN(4) != 0 {
		s.back = append(s.back, s.acknowledgement(s.r.IntN(6000)))
	}
}

// read is what the target's program has read, and whether it has seen the end.
func (s *stream) read() (b []byte, done bool) {
	for {
		v, ok := s.got[len(b)]
		if !ok {
			return b, s.fin == len(b)
		}
		b = append(b, v)
	}
}

// acknowledgement is what the target says, with a window of at least so many bytes: it never takes back what it has offered.
func (s *stream) acknowledgement(window int) []byte {
	read, done := s.read()
	ack := len(read)
	if done {
		ack++
	}
	edge := max(s.offered, ack+window)
	unit := 1 << s.shift
	field := min((edge-ack+unit-1)/unit, 0xffff)
	s.offered = max(s.offered, ack+field*unit)
	p := pkttest.TCP{Src: targetAddr, Dst: s.node, Seq: targetISN + 1, Ack: s.isn + 1 + uint32(ack), Flags: "A", Window: uint16(field)}
	if edges := s.islands(len(read)); len(edges) > 0 {
		p.Options = []layers.TCPOption{pkttest.NOP(), pkttest.NOP(), pkttest.SACK(edges...)}
	}
	return p.Bytes()
}

// islands are the edges of up to three ranges beyond the first gap, and perhaps one that the target has received twice.
func (s *stream) islands(from int) (edges []uint32) {
	number := func(at int) uint32 { return s.isn + 1 + uint32(at) }
	if from > 0 && s.r.IntN(8) == 0 {
		left := s.r.IntN(from)
		edges = append(edges, number(left), number(left+1+s.r.IntN(from-left)))
	}
	inside := false
	for at := from; at <= len(s.want) && len(edges) < 8; at++ {
		if _, ok := s.got[at]; ok != inside {
			edges = append(edges, number(at))
			inside = ok
		}
	}
	return edges[:len(edges)&^1]
}

// accept gives a segment to the client, which checks that it could have caused it.
func (s *stream) accept(pkt []byte) {
	p := pkttest.Decode(s, pkt)
	ack := int(int32(p.TCP.Ack - s.isn - 1))
	if ack < s.acked || ack > s.sent {
		s.Errorf("acknowledged %d, after %d; sent %d", ack, s.acked, s.sent)
	}
	if read, _ := s.read(); ack > 0 && ack <= len(s.sending) && ack > len(read)-headerLen {
		s.Errorf("acknowledged %d, but the target has only %d behind the header", ack, len(read)-headerLen)
	}
	s.acked = ack
	s.edge = max(s.edge, ack+int(p.TCP.Window)<<s.shift)
	for _, o := range p.TCP.Options {
		if o.OptionType == layers.TCPOptionKindSACK {
			s.acceptSACK(ack, o.OptionData)
		}
	}
}

// acceptSACK checks blocks as Linux does (tcp_is_sackblock_valid), and that the target really has what they say.
func (s *stream) acceptSACK(ack int, data []byte) {
	for i := 0; i < len(data); i += 8 {
		left := int(int32(binary.BigEndian.Uint32(data[i:]) - s.isn - 1))
		right := int(int32(binary.BigEndian.Uint32(data[i+4:]) - s.isn - 1))
		if left < 0 || left >= right || right > s.sent {
			s.Errorf("SACK block %d to %d, sent %d", left, right, s.sent)
			return
		}
		if i == 0 && right <= ack {
			continue // received twice
		}
		if left <= ack {
			s.Errorf("SACK block %d to %d begins before the acknowledgement %d", left, right, ack)
		}
		for at := left; at < min(right, len(s.sending)); at++ {
			if _, ok := s.got[at+headerLen]; !ok {
				s.Errorf("SACK block %d to %d, but the target lacks %d", left, right, at)
				return
			}
		}
	}
}
