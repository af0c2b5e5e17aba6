// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// A tuple is copied for every packet: it must fit a cache line.
var _ [64 - unsafe.Sizeof(Tuple{})]struct{}

// parseTuple is Parse into a tuple that held something else.
func parseTuple(b []byte) (t Tuple, ok bool) {
	t = Tuple{Src: [16]byte{1}, TCPSeq: 1, Frag: FragInfo{1, 1, true}, SrcPort: 1, TCPFlags: 1}
	ok = t.Parse(b)
	return t, ok
}

// quotedTuple is ParseQuoted into a tuple that held something else.
func quotedTuple(b []byte) (t Tuple, ok bool) {
	t = Tuple{Src: [16]byte{1}, TCPSeq: 1, Frag: FragInfo{1, 1, true}, SrcPort: 1, TCPFlags: 1}
	ok = t.ParseQuoted(b)
	return t, ok
}

// tupleOf is the tuple of a whole packet from client to server, its transport header at l4.
func tupleOf(b []byte, src, dst netip.AddrPort, proto uint8, l4 int) Tuple {
	t := Tuple{Src: src.Addr().As16(), Dst: dst.Addr().As16(), Proto: proto, Version: b[0] >> 4, L4: uint16(l4), End: uint32(len(b))}
	if proto == ProtoTCP || proto == ProtoUDP {
		t.SrcPort, t.DstPort = src.Port(), dst.Port()
	}
	return t
}

func TestTupleParse(t *testing.T) {
	const flags = TCPFin | TCPSyn | TCPRst | TCPPsh | TCPAck | TCPUrg | TCPEce | TCPCwr
	a4, b4, a6, b6 := clientAddr.Addr(), serverAddr.Addr(), client6Addr.Addr(), server6Addr.Addr()
	udp4, udp6 := pkttest.UDP(clientAddr, serverAddr, make([]byte, 60)), pkttest.UDP(client6Addr, server6Addr, make([]byte, 40))
	IPv4(udp4).SetID(0x1234)
	parts4 := pkttest.Fragment(udp4, 24)
	parts6 := pkttest.Fragment6(pkttest.Extend(udp6, pkttest.Extension{Kind: ProtoDstOptions}), 24, 0x12345678)
	options := append(bytes.Clone(segment().Bytes()[:20]), append([]byte{1, 1, 1, 0}, segment().Bytes()[20:]...)...)
	options[0] = 0x46
	IPv4(options).SetTotalLen(len(options))
	port0 := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }

	for _, c := range []struct {
		name     string
		b        []byte
		src, dst netip.AddrPort
		proto    uint8
		l4       int
		more     func(*Tuple)
	}{
		{"tcp", segment().Bytes(), clientAddr, serverAddr, ProtoTCP, 20,
			func(t *Tuple) { t.TCPSeq, t.TCPFlags = 0xfffffffe, flags }},
		{"tcp behind IP options", options, clientAddr, serverAddr, ProtoTCP, 24,
			func(t *Tuple) { t.TCPSeq, t.TCPFlags = 0xfffffffe, flags }},
		{"udp", udp4, clientAddr, serverAddr, ProtoUDP, 20, nil},
		{"icmp", pkttest.ICMPEcho(a4, b4, 1, 2, nil), clientAddr, serverAddr, ProtoICMP, 20, nil},
		{"gre", pkttest.GRE(a4, b4, udp4), clientAddr, serverAddr, ProtoGRE, 20, nil},
		{"no payload", pkttest.Other(a4, b4, 99, nil), clientAddr, serverAddr, 99, 20, nil},
		{"first fragment", parts4[0], clientAddr, serverAddr, ProtoUDP, 20,
			func(t *Tuple) { t.Frag = FragInfo{0x1234, 0, true} }},
		{"later fragment", parts4[1], port0(a4), port0(b4), ProtoUDP, 20,
			func(t *Tuple) { t.Frag = FragInfo{0x1234, 24, true} }},
		{"last fragment", parts4[2], port0(a4), port0(b4), ProtoUDP, 20,
			func(t *Tuple) { t.Frag = FragInfo{0x1234, 48, false} }},

		{"tcp over IPv6", segment6().Bytes(), client6Addr, server6Addr, ProtoTCP, 40,
			func(t *Tuple) { t.TCPSeq, t.TCPFlags = 0xfffffffe, flags }},
		{"tcp behind extensions", extended(), client6Addr, server6Addr, ProtoTCP, 104,
			func(t *Tuple) { t.TCPSeq, t.TCPFlags = 0xfffffffe, flags }},
		{"udp over IPv6", udp6, client6Addr, server6Addr, ProtoUDP, 40, nil},
		{"icmpv6", pkttest.ICMPEcho(a6, b6, 1, 2, nil), client6Addr, server6Addr, ProtoICMPv6, 40, nil},
		{"nothing over IPv6", pkttest.Other(a6, b6, ProtoNoNext, nil), client6Addr, server6Addr, ProtoNoNext, 40, nil},
		{"first fragment over IPv6", parts6[0], client6Addr, server6Addr, ProtoUDP, 56,
			func(t *Tuple) { t.Frag = FragInfo{0x12345678, 0, true} }},
		{"later fragment over IPv6", parts6[1], port0(a6), port0(b6), ProtoDstOptions, 48,
			func(t *Tuple) { t.Frag = FragInfo{0x12345678, 24, true} }},
		{"atomic fragment", pkttest.Fragment6(udp6, 48, 7)[0], client6Addr, server6Addr, ProtoUDP, 48, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := tupleOf(c.b, c.src, c.dst, c.proto, c.l4)
			if c.more != nil {
				c.more(&want)
			}
			for _, b := range [][]byte{c.b, append(bytes.Clone(c.b), 1, 2, 3)} { // padding is not the packet's
				if got, ok := parseTuple(b); !ok || got != want {
					t.Errorf("ok %v\nwant %+v\n got %+v", ok, want, got)
				}
			}
		})
	}
}

func TestTupleParseRefuses(t *testing.T) {
	a4, b4, a6, b6 := clientAddr.Addr(), serverAddr.Addr(), client6Addr.Addr(), server6Addr.Addr()
	tiny := pkttest.Fragment(pkttest.TCP{Src: clientAddr, Dst: serverAddr, NoDF: true}.Bytes(), 16)[0]
	tiny6 := pkttest.Fragment6(segment6().Bytes(), 16, 1)[0]
	for name, b := range map[string][]byte{
		"empty":                        nil,
		"19 bytes":                     segment().Bytes()[:19],
		"cut":                          segment().Bytes()[:60],
		"version 5":                    append([]byte{0x55}, segment().Bytes()[1:]...),
		"header of 16 bytes":           append([]byte{0x44}, segment().Bytes()[1:]...),
		"tcp of 19 bytes":              pkttest.Other(a4, b4, ProtoTCP, make([]byte, 19)),
		"udp of 7 bytes":               pkttest.Other(a4, b4, ProtoUDP, make([]byte, 7)),
		"first fragment of 16 bytes":   tiny,
		"39 bytes over IPv6":           segment6().Bytes()[:39],
		"cut over IPv6":                segment6().Bytes()[:80],
		"tcp of 19 bytes over IPv6":    pkttest.Other(a6, b6, ProtoTCP, make([]byte, 19)),
		"udp of 7 bytes over IPv6":     pkttest.Other(a6, b6, ProtoUDP, make([]byte, 7)),
		"first fragment of 16 on IPv6": tiny6,
		"nine extensions":              pkttest.Extend(segment6().Bytes(), make([]pkttest.Extension, 9)...),
		"extension over the end":       pkttest.Other(a6, b6, ProtoRouting, []byte{6, 1, 0, 0, 0, 0, 0, 0}),
	} {
		if got, ok := parseTuple(b); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTupleParseQuoted(t *testing.T) {
	tcp4, tcp6 := segment().Bytes(), segment6().Bytes()
	udp6 := pkttest.UDP(client6Addr, server6Addr, make([]byte, 40))
	later := pkttest.Fragment(pkttest.UDP(clientAddr, serverAddr, make([]byte, 40)), 24)[1]
	a4, b4, a6, b6 := clientAddr.Addr(), serverAddr.Addr(), client6Addr.Addr(), server6Addr.Addr()
	of := func(whole []byte) func() Tuple { // of the packet itself, where the quote has it
		return func() Tuple {
			q, _ := parseTuple(whole)
			return q
		}
	}
	for _, c := range []struct {
		name  string
		b     []byte
		quote int // length of the quote
		want  func() Tuple
		flags bool // the quote reaches to the TCP flags
	}{
		{"tcp, eight bytes", pkttest.ICMPError(3, 4, b4, a4, tcp4[:28]), 28, of(tcp4), false},
		{"tcp, whole header", pkttest.ICMPError(11, 0, b4, a4, tcp4[:40]), 40, of(tcp4), true},
		{"tcp, up to the flags", pkttest.ICMPError(12, 0, b4, a4, tcp4[:34]), 34, of(tcp4), true},
		{"tcp, all and RFC 4884 data", pkttest.ICMPError(11, 0, b4, a4, append(bytes.Clone(tcp4), 0x20, 0, 0, 0)), len(tcp4), of(tcp4), true},
		{"later fragment", pkttest.ICMPError(11, 1, b4, a4, later[:28]), 28, of(later), false},
		{"icmp", pkttest.ICMPError(3, 1, b4, a4, pkttest.ICMPEcho(a4, b4, 1, 2, nil)), 28, of(pkttest.ICMPEcho(a4, b4, 1, 2, nil)), false},
		{"error in a first fragment", pkttest.Fragment(pkttest.ICMPError(3, 3, b4, a4, tcp4), 48)[0], 40, of(tcp4), true},

		{"tcp over IPv6", pkttest.ICMPError(2, 0, b6, a6, tcp6), len(tcp6), of(tcp6), true},
		{"tcp over IPv6, eight bytes", pkttest.ICMPError(1, 0, b6, a6, tcp6[:48]), 48, of(tcp6), false},
		{"udp behind extensions", pkttest.ICMPError(3, 0, b6, a6, pkttest.Extend(udp6, pkttest.Extension{})[:56]), 56,
			of(pkttest.Extend(udp6, pkttest.Extension{})), false},
		{"error behind extension", pkttest.Extend(pkttest.ICMPError(4, 0, b6, a6, tcp6), pkttest.Extension{Kind: ProtoDstOptions}),
			len(tcp6), of(tcp6), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			outer, ok := parseTuple(c.b)
			if !ok {
				t.Fatal("the error itself is refused")
			}
			want := c.want()
			start := outer.L4 + 8
			want.L4, want.End = want.L4+start, uint32(c.quote)+uint32(start)
			if !c.flags {
				want.TCPFlags = 0
			}
			for _, b := range [][]byte{c.b, append(bytes.Clone(c.b), 1, 2, 3)} {
				if got, ok := quotedTuple(b); !ok || got != want {
					t.Errorf("ok %v\nwant %+v\n got %+v", ok, want, got)
				}
			}
		})
	}
}

func TestTupleParseQuotedRefuses(t *testing.T) {
	tcp4, tcp6 := segment().Bytes(), segment6().Bytes()
	a4, b4, a6, b6 := clientAddr.Addr(), serverAddr.Addr(), client6Addr.Addr(), server6Addr.Addr()
	whole := pkttest.ICMPError(3, 3, b4, a4, tcp4)
	for name, b := range map[string][]byte{
		"empty":                       nil,
		"tcp":                         tcp4,
		"echo":                        pkttest.ICMPEcho(a4, b4, 1, 2, tcp4),
		"echo over IPv6":              pkttest.ICMPEcho(a6, b6, 1, 2, tcp6),
		"redirect":                    pkttest.ICMPError(5, 0, b4, a4, tcp4),
		"cut":                         whole[:len(whole)-1],
		"message of 7 bytes":          pkttest.Other(b4, a4, ProtoICMP, []byte{3, 3, 0, 0, 0, 0, 0}),
		"nothing quoted":              pkttest.ICMPError(3, 3, b4, a4, nil),
		"header cut":                  pkttest.ICMPError(3, 3, b4, a4, tcp4[:19]),
		"header of 60 bytes in 40":    pkttest.ICMPError(3, 3, b4, a4, append([]byte{0x4f}, tcp4[1:40]...)),
		"seven bytes of tcp":          pkttest.ICMPError(3, 3, b4, a4, tcp4[:27]),
		"header cut over IPv6":        pkttest.ICMPError(1, 4, b6, a6, tcp6[:39]),
		"seven bytes of tcp on IPv6":  pkttest.ICMPError(1, 4, b6, a6, tcp6[:47]),
		"extensions cut":              pkttest.ICMPError(1, 4, b6, a6, extended()[:100]),
		"IPv6 quoted over IPv4":       pkttest.ICMPError(3, 3, b4, a4, tcp6),
		"IPv4 quoted over IPv6":       pkttest.ICMPError(1, 4, b6, a6, tcp4),
		"ICMP over IPv6":              pkttest.Other(b6, a6, ProtoICMP, whole[20:]),
		"ICMPv6 over IPv4":            pkttest.Other(b4, a4, ProtoICMPv6, pkttest.ICMPError(1, 4, b6, a6, tcp6)[40:]),
		"later fragment of the error": pkttest.Fragment(whole, 24)[1],
	} {
		if got, ok := quotedTuple(b); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// slowTuple is the twin of Parse, by gopacket.
func slowTuple(b []byte) (t Tuple, ok bool) {
	var l4 []byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		b = bytes.Clone(b)
		var ip layers.IPv4
		// The decoder refuses some options, which are not ours to judge, and takes a length of zero for the bytes'.
		if n := int(b[0]&0xf) * 4; n >= 20 && n <= len(b) {
			clear(b[20:n])
		}
		var cut truncated
		if err := ip.DecodeFromBytes(b, &cut); err != nil || bool(cut) || IPv4(b).TotalLen() == 0 {
			return t, false
		}
		t = Tuple{Version: 4, Proto: uint8(ip.Protocol), L4: uint16(ip.IHL) * 4, End: uint32(ip.Length)}
		t.Src, t.Dst = [16]byte(ip.SrcIP.To16()), [16]byte(ip.DstIP.To16())
		if more := ip.Flags&layers.IPv4MoreFragments != 0; more || ip.FragOffset != 0 {
			t.Frag = FragInfo{uint32(ip.Id), ip.FragOffset * 8, more}
		}
		l4 = ip.Payload
	case len(b) >= 40 && b[0]>>4 == 6:
		var ip layers.IPv6
		_ = ip.DecodeFromBytes(b, gopacket.NilDecodeFeedback) // see FuzzIPv6
		if int(ip.Length) > len(b)-40 {
			return t, false
		}
		w := slowWalk(b[:40+int(ip.Length)])
		if !w.ok {
			return t, false
		}
		t = Tuple{Version: 6, Proto: w.proto, L4: uint16(w.off), End: 40 + uint32(ip.Length), Frag: w.frag}
		t.Src, t.Dst = [16]byte(ip.SrcIP), [16]byte(ip.DstIP)
		l4 = bytes.Clone(b[w.off : 40+int(ip.Length)])
	default:
		return t, false
	}
	return t, t.Frag.Offset != 0 || slowTransport(&t, l4)
}

// slowTransport fills the twin's transport fields. What Parse does not judge is put right for gopacket before: TCP's
// data offset, and UDP's length.
func slowTransport(t *Tuple, l4 []byte) bool {
	switch {
	case t.Proto == ProtoTCP && len(l4) >= 20:
		l4[12] = 0x50
		tcp, err := decodeTCP(l4)
		if err != nil {
			return false
		}
		t.SrcPort, t.DstPort, t.TCPSeq = uint16(tcp.SrcPort), uint16(tcp.DstPort), tcp.Seq
		for i, set := range []bool{tcp.FIN, tcp.SYN, tcp.RST, tcp.PSH, tcp.ACK, tcp.URG, tcp.ECE, tcp.CWR} {
			if set {
				t.TCPFlags |= 1 << i
			}
		}
	case t.Proto == ProtoUDP && len(l4) >= 8:
		l4[4], l4[5] = 0, 8
		var udp layers.UDP
		if err := udp.DecodeFromBytes(l4, gopacket.NilDecodeFeedback); err != nil {
			return false
		}
		t.SrcPort, t.DstPort = uint16(udp.SrcPort), uint16(udp.DstPort)
	case t.Proto == ProtoTCP, t.Proto == ProtoUDP:
		return false
	}
	return true
}

func FuzzTuple(f *testing.F) {
	udp4, udp6 := pkttest.UDP(clientAddr, serverAddr, make([]byte, 40)), pkttest.UDP(client6Addr, server6Addr, make([]byte, 40))
	a4, b4, a6, b6 := clientAddr.Addr(), serverAddr.Addr(), client6Addr.Addr(), server6Addr.Addr()
	for _, b := range [][]byte{
		segment().Bytes(), segment6().Bytes(), extended(), udp4, udp6, pkttest.Fragment(udp4, 24)[0], pkttest.Fragment(udp4, 24)[1],
		pkttest.Fragment6(udp6, 24, 9)[0], pkttest.Fragment6(udp6, 24, 9)[1], pkttest.ICMPEcho(a4, b4, 1, 2, nil),
		pkttest.ICMPError(3, 4, b4, a4, segment().Bytes()[:28]), pkttest.ICMPError(2, 0, b6, a6, extended()),
		pkttest.GRE(a6, b6, udp4), pkttest.Other(a6, b6, ProtoNoNext, nil),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parseTuple(b)
		want, wantOK := slowTuple(b)
		if ok != wantOK || ok && got != want {
			t.Fatalf("ok %v, want %v\nwant %+v\n got %+v", ok, wantOK, want, got)
		}
		q, quoted := quotedTuple(b)
		if !quoted {
			return
		}
		if !ok || int(q.End) > len(b) || uint32(q.L4) > q.End || q.Version != got.Version {
			t.Fatalf("quote %+v in %+v", q, got)
		}
		checkQuote(t, b[got.L4+ICMPLen:q.End], q, got.L4+ICMPLen)
	})
}

// checkQuote fills what is missing of a quoted packet with zeros and reads it as a whole one.
func checkQuote(t *testing.T, quote []byte, q Tuple, start uint16) {
	t.Helper()
	filled := make([]byte, len(quote)+65536)
	copy(filled, quote)
	whole, ok := parseTuple(filled)
	if !ok {
		// A packet whose header says that it ends within the transport header may be quoted, but not sent.
		if n := int(q.End) - int(q.L4); q.Proto == ProtoTCP && n < TCPMinLen {
			return
		}
		t.Fatalf("quote %+v of no packet", q)
	}
	if q.End-uint32(q.L4) <= tcpFlags {
		whole.TCPFlags = 0
	}
	whole.L4, whole.End = whole.L4+start, q.End
	if q != whole {
		t.Fatalf("quoted\n     %+v\nwant %+v", q, whole)
	}
}

func BenchmarkTuple(b *testing.B) {
	for name, pkt := range map[string][]byte{
		"tcp": segment().Bytes(), "tcp6": segment6().Bytes(), "extended": extended(),
	} {
		b.Run(name, func(b *testing.B) {
			var t Tuple
			for b.Loop() {
				if !t.Parse(pkt) {
					b.Fatal("refused")
				}
			}
		})
	}
}
