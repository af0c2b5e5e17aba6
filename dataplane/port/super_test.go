// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// superSpec describes a packet or super-packet; build makes it and plain its segments, with gopacket alone.
type superSpec struct {
	v6, udp, ecn bool
	gso          int // 0: no super-packet
	payload      []byte
	options      []layers.TCPOption
	ipOptions    []layers.IPv4Option
	seq          uint32
	id           uint16
	fin, psh     bool
	src, dst     net.IP // nil: documentation addresses
	ttl          uint8
}

func randomSpec(r *rand.Rand) superSpec {
	s := superSpec{v6: r.IntN(3) == 0, udp: r.IntN(2) == 0, seq: r.Uint32(), id: uint16(r.Uint32()), ttl: 64,
		fin: r.IntN(2) == 0, psh: r.IntN(2) == 0, ecn: r.IntN(4) == 0}
	s.gso = 1 + r.IntN(1500)
	n := 1 + r.IntN(s.gso*r.IntN(12)+s.gso)
	s.payload = make([]byte, n)
	for i := range s.payload {
		s.payload[i] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		s.options = []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{1, 2, 3, 4, 5, 6, 7, 8}}}
	}
	if r.IntN(4) == 0 {
		s.ipOptions = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}
	return s
}

// segment is the packet with payload[from:to], as a sender that never heard of offloads would make it.
func (s *superSpec) segment(t testing.TB, from, to int) []byte {
	t.Helper()
	src, dst := s.src, s.dst
	var network gopacket.NetworkLayer
	var ip gopacket.SerializableLayer
	proto := layers.IPProtocolTCP
	if s.udp {
		proto = layers.IPProtocolUDP
	}
	index := 0
	if s.gso > 0 {
		index = from / s.gso
	}
	if s.v6 {
		if src == nil {
			src, dst = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8:ffff::2")
		}
		h := &layers.IPv6{Version: 6, NextHeader: proto, HopLimit: s.ttl, SrcIP: src, DstIP: dst}
		network, ip = h, h
	} else {
		if src == nil {
			src, dst = net.IPv4(192, 0, 2, 1), net.IPv4(203, 0, 113, 250)
		}
		h := &layers.IPv4{Version: 4, Protocol: proto, TTL: s.ttl, Id: s.id + uint16(index), SrcIP: src, DstIP: dst,
			Flags: layers.IPv4DontFragment, Options: s.ipOptions}
		network, ip = h, h
	}
	var l4 gopacket.SerializableLayer
	if s.udp {
		h := &layers.UDP{SrcPort: 4000, DstPort: 5000}
		_ = h.SetNetworkLayerForChecksum(network)
		l4 = h
	} else {
		last := to == len(s.payload)
		h := &layers.TCP{SrcPort: 4000, DstPort: 5000, Seq: s.seq + uint32(from), Ack: 77, ACK: true, Window: 500,
			PSH: s.psh && last, FIN: s.fin && last, CWR: s.ecn && index == 0, Options: s.options}
		_ = h.SetNetworkLayerForChecksum(network)
		l4 = h
	}
	out := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(out, opts, ip, l4, gopacket.Payload(s.payload[from:to])); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// plain is the packet cut into segments.
func (s *superSpec) plain(t testing.TB) [][]byte {
	if s.gso == 0 {
		return [][]byte{s.segment(t, 0, len(s.payload))}
	}
	var out [][]byte
	for from := 0; from < len(s.payload); from += s.gso {
		out = append(out, s.segment(t, from, min(from+s.gso, len(s.payload))))
	}
	return out
}

// super is the packet uncut, with offload fields and a partial checksum.
func (s *superSpec) super(t testing.TB) *Buffer {
	one := *s
	one.gso = 0
	p := one.segment(t, 0, len(s.payload))
	b := NewBuffer()
	b.Set(p)
	p = b.Bytes()
	l4, offset := 40, tcpCsumOffset
	if !s.v6 {
		l4 = int(p[0]&15) * 4
	}
	proto := uint32(6)
	hdrLen := l4 + 8
	if s.udp {
		proto, offset = 17, udpCsumOffset
	} else {
		hdrLen = l4 + int(p[l4+12]>>4)*4
	}
	b.Offload = Offload{Flags: NeedsCsum, CsumStart: uint16(l4), CsumOffset: uint16(offset)}
	if s.gso > 0 && len(s.payload) > s.gso {
		b.GSOSize, b.HdrLen = uint16(s.gso), uint16(hdrLen)
		switch {
		case s.udp:
			b.GSOType = GSOUDP
		case s.v6:
			b.GSOType = GSOTCPv6
		default:
			b.GSOType = GSOTCPv4
		}
		if s.ecn && !s.udp {
			b.GSOType |= GSOECN
		}
	}
	addrs := p[12:20]
	if s.v6 {
		addrs = p[8:40]
	}
	sum := proto + uint32(len(p)-l4)
	for i := 0; i < len(addrs); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(addrs[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[l4+offset:], uint16(sum))
	return b
}
