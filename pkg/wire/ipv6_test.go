// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

var (
	client6Addr = netip.MustParseAddrPort("[2001:db8::7]:45678")
	server6Addr = netip.MustParseAddrPort("[2001:db8:9::9]:80")
)

// segment6 is segment over IPv6.
func segment6() pkttest.TCP {
	p := segment()
	p.Src, p.Dst = client6Addr, server6Addr
	return p
}

// extended is segment6 behind one of each extension header, the fragment header atomic.
func extended() []byte {
	return pkttest.Extend(segment6().Bytes(),
		pkttest.Extension{Kind: ProtoHopByHop}, pkttest.Extension{Kind: ProtoDstOptions, Body: make([]byte, 9)},
		pkttest.Extension{Kind: ProtoRouting, Body: make([]byte, 22)}, pkttest.Extension{Kind: ProtoFragment},
		pkttest.Extension{Kind: ProtoDstOptions})
}

func TestParseIPv6(t *testing.T) {
	whole := segment6().Bytes()
	edit := func(off int, v byte) []byte {
		b := bytes.Clone(whole)
		b[off] = v
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want int // length of the packet, 0 when refused
	}{
		{"whole", whole, len(whole)},
		{"with a trailer", append(bytes.Clone(whole), 1, 2, 3), len(whole)},
		{"header alone", edit(5, 0), 40},
		{"empty", nil, 0},
		{"39 bytes", whole[:39], 0},
		{"cut", whole[:len(whole)-1], 0},
		{"version 4", edit(0, 0x45), 0},
		{"payload length beyond the bytes", edit(4, 1), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ok := ParseIPv6(c.b)
			if ok != (c.want > 0) || len(h) != c.want {
				t.Errorf("length %d, ok %v; want length %d", len(h), ok, c.want)
			}
		})
	}
}

func TestIPv6Init(t *testing.T) {
	p := segment6()
	p.TTL = 3
	want := p.Bytes()
	got := bytes.Clone(want)
	copy(got, bytes.Repeat([]byte{0xee}, IPv6Len))
	IPv6(got).Init(len(got)-IPv6Len, ProtoTCP, 3, client6Addr.Addr().As16(), server6Addr.Addr().As16())
	if d := pkttest.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestIPv6Set(t *testing.T) {
	h := make(IPv6, IPv6Len)
	h.Init(0, 0, 0, [16]byte{}, [16]byte{})
	h.SetTrafficClass(0xa5)
	h.SetFlowLabel(0xfff12345)
	h.SetPayloadLen(0x1234)
	h.SetNextHeader(0x56)
	h.SetHopLimit(0x78)
	h.SetSrc(mapped("2001:db8::7"))
	h.SetDst(mapped("2001:db8::9"))
	want := "\x6a\x51\x23\x45\x12\x34\x56\x78 \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		" \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09"
	if string(h) != want {
		t.Errorf("\nwant % x\n got % x", want, []byte(h))
	}
	for _, edge := range []uint8{0, 0xff, 0x0f, 0xf0} {
		h.SetTrafficClass(edge)
		if h.Version() != 6 || h.TrafficClass() != edge || h.FlowLabel() != 0x12345 {
			t.Errorf("class %#x: header is % x", edge, []byte(h))
		}
	}
}

func TestWalkIPv6(t *testing.T) {
	const hop, dst, routing, fragment = ProtoHopByHop, ProtoDstOptions, ProtoRouting, ProtoFragment
	type ext = pkttest.Extension
	a, b := client6Addr.Addr(), server6Addr.Addr()
	tcp, udp := segment6().Bytes(), pkttest.UDP(client6Addr, server6Addr, make([]byte, 40))
	parts := pkttest.Fragment6(pkttest.Extend(udp, ext{Kind: dst}), 24, 0x12345678)
	many := func(n int) []byte { return pkttest.Extend(tcp, make([]ext, n)...) }
	for _, c := range []struct {
		name  string
		b     []byte
		proto uint8
		off   int // 0 when refused
		frag  FragInfo
	}{
		{"tcp", tcp, ProtoTCP, 40, FragInfo{}},
		{"header alone", tcp[:40], ProtoTCP, 40, FragInfo{}},
		{"every extension", extended(), ProtoTCP, 40 + 8 + 16 + 24 + 8 + 8, FragInfo{}},
		{"longest extension", pkttest.Extend(udp, ext{Kind: dst, Body: make([]byte, 2046)}), ProtoUDP, 40 + 2048, FragInfo{}},
		{"length of a fragment header ignored", pkttest.Extend(udp, ext{Kind: fragment, Body: []byte{0, 6, 0, 0, 0, 9}}),
			ProtoUDP, 48, FragInfo{}},
		{"first fragment", parts[0], ProtoUDP, 56, FragInfo{0x12345678, 0, true}},
		{"later fragment", parts[1], ProtoDstOptions, 48, FragInfo{0x12345678, 24, true}},
		{"last fragment", parts[2], ProtoDstOptions, 48, FragInfo{0x12345678, 48, false}},
		{"later fragment, behind another header", pkttest.Extend(parts[1], ext{Kind: hop}), ProtoDstOptions, 56,
			FragInfo{0x12345678, 24, true}},
		{"later fragment without data", parts[1][:48], ProtoDstOptions, 48, FragInfo{0x12345678, 24, true}},
		{"atomic fragment", pkttest.Fragment6(udp, 48, 7)[0], ProtoUDP, 48, FragInfo{}},
		{"esp", pkttest.Extend(pkttest.Other(a, b, ProtoESP, make([]byte, 8)), ext{Kind: hop}), ProtoESP, 48, FragInfo{}},
		{"ah", pkttest.Other(a, b, ProtoAH, make([]byte, 24)), ProtoAH, 40, FragInfo{}},
		{"no next header", pkttest.Extend(pkttest.Other(a, b, ProtoNoNext, nil), ext{Kind: dst}), ProtoNoNext, 48, FragInfo{}},
		{"eight extensions", many(8), ProtoTCP, 40 + 8*8, FragInfo{}},

		{"nine extensions", many(9), 0, 0, FragInfo{}},
		{"two fragment headers", pkttest.Extend(udp, ext{Kind: fragment}, ext{Kind: fragment}), 0, 0, FragInfo{}},
		{"fragment of a fragment", pkttest.Extend(parts[0], ext{Kind: fragment, Body: []byte{0, 1}}), 0, 0, FragInfo{}},
		{"extension cut", extended()[:40+7], 0, 0, FragInfo{}},
		{"extension missing", extended()[:40], 0, 0, FragInfo{}},
		{"second extension cut", extended()[:40+8+15], 0, 0, FragInfo{}},
		{"routing header cut", extended()[:40+8+16+23], 0, 0, FragInfo{}},
		{"fragment header cut", parts[1][:47], 0, 0, FragInfo{}},
		{"jumbogram", pkttest.Extend(udp, ext{Kind: hop, Body: []byte{0xc2, 4, 0, 1, 0, 0}})[:40], 0, 0, FragInfo{}},
		{"39 bytes", tcp[:39], 0, 0, FragInfo{}},
		{"empty", nil, 0, 0, FragInfo{}},
		{"IPv4", segment().Bytes(), 0, 0, FragInfo{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			proto, off, frag, ok := WalkIPv6(c.b)
			if ok != (c.off > 0) || proto != c.proto || off != c.off || frag != c.frag {
				t.Errorf("protocol %d at %d, %+v, %v; want %d at %d, %+v", proto, off, frag, ok, c.proto, c.off, c.frag)
			}
			if twin := slowWalk(c.b); twin != (walk{proto, off, frag, ok}) {
				t.Errorf("the twin says %+v", twin)
			}
		})
	}
}

// walk is what WalkIPv6 returns.
type walk struct {
	proto uint8
	off   int
	frag  FragInfo
	ok    bool
}

// slowWalk is the twin of WalkIPv6, by gopacket's decoders of single headers.
func slowWalk(b []byte) walk {
	if len(b) < 40 || b[0]>>4 != 6 {
		return walk{}
	}
	w := walk{proto: b[6], off: 40, ok: true}
	for headers, fragments := 0, 0; ; headers++ {
		var next layers.IPProtocol
		var rest []byte
		var err error
		switch layers.IPProtocol(w.proto) {
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Routing:
			var ext layers.IPv6ExtensionSkipper
			err = ext.DecodeFromBytes(b[w.off:], gopacket.NilDecodeFeedback)
			next, rest = ext.NextHeader, ext.Payload
		case layers.IPProtocolIPv6Fragment:
			fragments++
			var f layers.IPv6Fragment
			err = f.DecodeFromBytes(b[w.off:], gopacket.NilDecodeFeedback)
			next, rest = f.NextHeader, f.Payload
			if f.MoreFragments || f.FragmentOffset != 0 {
				w.frag = FragInfo{f.Identification, f.FragmentOffset * 8, f.MoreFragments}
			}
		default:
			return w
		}
		if err != nil || headers == 8 || fragments == 2 {
			return walk{}
		}
		w.proto, w.off = uint8(next), len(b)-len(rest)
		if w.frag.Offset != 0 {
			return w
		}
	}
}

func FuzzIPv6(f *testing.F) {
	udp := pkttest.UDP(client6Addr, server6Addr, make([]byte, 40))
	f.Add(segment6().Bytes())
	f.Add(extended())
	f.Add(pkttest.Fragment6(udp, 24, 9)[1])
	f.Add(pkttest.Extend(udp, make([]pkttest.Extension, 9)...))
	f.Add(pkttest.Other(client6Addr.Addr(), server6Addr.Addr(), ProtoNoNext, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		proto, off, frag, ok := WalkIPv6(b)
		if twin := slowWalk(b); twin != (walk{proto, off, frag, ok}) {
			t.Fatalf("walk is %d at %d, %+v, %v; the twin says %+v", proto, off, frag, ok, twin)
		}
		h, ok := ParseIPv6(b)
		var want layers.IPv6
		var cut truncated
		// The decoder's errors are about lengths of zero and options, which come after the fields are read.
		_ = want.DecodeFromBytes(b, &cut)
		whole := len(b) >= IPv6Len && want.Version == 6 && int(want.Length) <= len(b)-IPv6Len
		if ok != whole {
			t.Fatalf("parse is %v, gopacket reads %+v", ok, want)
		}
		if ok {
			compareIPv6(t, h, &want)
		}
	})
}

func compareIPv6(t *testing.T, h IPv6, want *layers.IPv6) {
	t.Helper()
	src, dst := h.Src(), h.Dst()
	if len(h) != IPv6Len+int(want.Length) || h.Version() != int(want.Version) || h.TrafficClass() != want.TrafficClass ||
		h.FlowLabel() != want.FlowLabel || h.PayloadLen() != int(want.Length) || h.NextHeader() != uint8(want.NextHeader) ||
		h.HopLimit() != want.HopLimit || !want.SrcIP.Equal(src[:]) || !want.DstIP.Equal(dst[:]) {
		t.Fatalf("header % x differs from %+v", h[:IPv6Len], want)
	}
	again := make(IPv6, IPv6Len)
	again.Init(h.PayloadLen(), h.NextHeader(), h.HopLimit(), src, dst)
	again.SetTrafficClass(h.TrafficClass())
	again.SetFlowLabel(h.FlowLabel())
	if !bytes.Equal(again, h[:IPv6Len]) {
		t.Fatalf("written again: % x, was % x", []byte(again), h[:IPv6Len])
	}
}

func TestICMPv6(t *testing.T) {
	quoted := segment6().Bytes()[:48]
	for _, c := range []struct {
		typ, code uint8
		isError   bool
	}{
		{ICMPv6Unreachable, 4, true},
		{ICMPv6TooBig, 0, true},
		{ICMPv6TimeExceeded, 0, true},
		{ICMPv6Parameter, 1, true},
		{127, 0, true},
		{ICMPv6EchoRequest, 0, false},
		{ICMPv6EchoReply, 0, false},
		{137, 0, false},
	} {
		b := pkttest.ICMPError(c.typ, c.code, server6Addr.Addr(), client6Addr.Addr(), quoted)
		m := ICMPv6(b[IPv6Len:])
		if m.Type() != c.typ || m.Code() != c.code || m.IsError() != c.isError || string(m.Payload()) != string(quoted) {
			t.Errorf("type %d code %d: message is % x, error %v", c.typ, c.code, []byte(m), m.IsError())
		}
		pseudo := PseudoSum6(IPv6(b).Src(), IPv6(b).Dst(), ProtoICMPv6, uint32(len(m)))
		want := m.Checksum()
		if m.SetChecksum(0); Checksum(m, pseudo) != want {
			t.Errorf("type %d code %d: checksum is %04x, want %04x", c.typ, c.code, Checksum(m, pseudo), want)
		}
		m.SetChecksum(want)
		pkttest.Verify(t, b)
	}
}
