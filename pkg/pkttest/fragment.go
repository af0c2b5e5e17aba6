// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"fmt"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Fragment cuts an IPv4 packet without IP options into fragments of at most size bytes of payload, a multiple of 8, in
// order. DF is cleared; all else is as in the packet.
func Fragment(pkt []byte, size int) [][]byte {
	checkFragmentSize(size)
	var whole layers.IPv4
	must(whole.DecodeFromBytes(pkt, gopacket.NilDecodeFeedback))
	var out [][]byte
	for off := 0; off < len(whole.Payload); off += size {
		ip, end := whole, min(off+size, len(whole.Payload))
		ip.Flags, ip.FragOffset = 0, uint16(off/8)
		if end < len(whole.Payload) {
			ip.Flags = layers.IPv4MoreFragments
		}
		out = append(out, serialize(&ip, gopacket.Payload(whole.Payload[off:end])))
	}
	return out
}

// Fragment6 is Fragment for an IPv6 packet: all that follows its 40 bytes is cut. A packet that fits becomes one atomic fragment.
func Fragment6(pkt []byte, size int, id uint32) [][]byte {
	checkFragmentSize(size)
	head, payload := pkt[:40], pkt[40:]
	var out [][]byte
	for off := 0; off < len(payload); off += size {
		end := min(off+size, len(payload))
		out = append(out, serialize(
			ipv6Like(head, layers.IPProtocolIPv6Fragment),
			&layers.IPv6Fragment{
				NextHeader: layers.IPProtocol(head[6]), FragmentOffset: uint16(off / 8),
				MoreFragments: end < len(payload), Identification: id,
			},
			gopacket.Payload(payload[off:end]),
		))
	}
	return out
}

func checkFragmentSize(size int) {
	if size <= 0 || size%8 != 0 {
		panic(fmt.Sprintf("pkttest: fragment size %d is not a positive multiple of 8", size))
	}
}

// Extension is an IPv6 extension header.
type Extension struct {
	Kind uint8  // 0 hop-by-hop options, 43 routing, 44 fragment, 60 destination options
	Body []byte // what follows the header's first two bytes; zeros, which are options that pad, fill it to a multiple of 8
}

// Extend is a copy of an IPv6 packet with the headers put between its 40 bytes and what followed them. (They are put
// together by hand: gopacket pads headers to the wrong length.)
func Extend(pkt []byte, list ...Extension) []byte {
	kind := layers.IPProtocol(pkt[6])
	var headers []byte
	for i := len(list) - 1; i >= 0; i-- {
		units := (2 + len(list[i].Body) + 7) / 8
		h := make([]byte, units*8)
		h[0], h[1] = uint8(kind), uint8(units-1)
		copy(h[2:], list[i].Body)
		headers = append(h, headers...)
		kind = layers.IPProtocol(list[i].Kind)
	}
	return serialize(ipv6Like(pkt, kind), gopacket.Payload(append(headers, pkt[40:]...)))
}

// ipv6Like is the IPv6 header that pkt begins with, but for what follows it.
func ipv6Like(pkt []byte, next layers.IPProtocol) *layers.IPv6 {
	if len(pkt) < 40 || pkt[0]>>4 != 6 {
		panic("pkttest: no IPv6 packet: " + Describe(pkt))
	}
	return &layers.IPv6{
		Version: 6, TrafficClass: pkt[0]<<4 | pkt[1]>>4,
		FlowLabel: uint32(pkt[1]&0xf)<<16 | uint32(pkt[2])<<8 | uint32(pkt[3]),
		HopLimit:  pkt[7], NextHeader: next, SrcIP: pkt[8:24], DstIP: pkt[24:40],
	}
}
