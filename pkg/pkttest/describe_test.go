// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

func TestDescribe(t *testing.T) {
	data := TCP{
		Src: client, Dst: server, Seq: 5, Ack: 6, Flags: "AP", Window: 7, Payload: []byte("abc"),
		Options: []layers.TCPOption{NOP(), NOP(), SACK(10, 20, 30, 40), FastOpen([]byte{0xab, 0xcd})},
	}.Bytes()
	fragments := Fragment(UDP(client, server, make([]byte, 40)), 24)
	for _, c := range []struct {
		name string
		pkt  []byte
		want string
	}{
		{"syn", syn().Bytes(), "10.0.3.7:45678 > 10.0.9.9:80 [SAU] seq 16909060 ack 84281096 win 4386 " +
			"opts [mss 8960, sackok, ts 7/9, nop, ws 7] len 3"},
		{"data", data, "10.0.3.7:45678 > 10.0.9.9:80 [PA] seq 5 ack 6 win 7 " +
			"opts [nop, nop, sack 10-20 30-40, opt 34 abcd] len 3"},
		{"no flags", TCP{Src: client, Dst: server}.Bytes(),
			"10.0.3.7:45678 > 10.0.9.9:80 [.] seq 0 ack 0 win 0 opts [] len 0"},
		{"padding", TCP{Src: client, Dst: server, Options: []layers.TCPOption{WScale(1)}}.Bytes(),
			"10.0.3.7:45678 > 10.0.9.9:80 [.] seq 0 ack 0 win 0 opts [ws 1, end] len 0"},
		{"udp", UDP(client, server, []byte("abcd")), "10.0.3.7:45678 > 10.0.9.9:80 udp len 4"},
		{"echo", ICMPEcho(client.Addr(), server.Addr(), 1, 2, []byte("p")),
			"10.0.3.7 > 10.0.9.9 icmp EchoRequest id 1 seq 2 len 1"},
		{"error", ICMPError(3, 3, server.Addr(), client.Addr(), data[:28]),
			"10.0.9.9 > 10.0.3.7 icmp DestinationUnreachable(Port) about (10.0.3.7:45678 > 10.0.9.9:80 TCP seq 5)"},
		{"error, little quoted", ICMPError(11, 0, server.Addr(), client.Addr(), data[:27]),
			"10.0.9.9 > 10.0.3.7 icmp TimeExceeded(TTLExceeded) about 27 bytes"},
		{"first fragment", fragments[0], "10.0.3.7 > 10.0.9.9 UDP fragment id 0 offset 0+ len 24"},
		{"last fragment", fragments[1], "10.0.3.7 > 10.0.9.9 UDP fragment id 0 offset 24 len 24"},
		{"cut", data[:30], "malformed (IPv4 total length is 67, packet is 30 bytes)"},
		{"empty", nil, "malformed (0 bytes are no IPv4 or IPv6 packet)"},
		{"gre", GRE(client.Addr(), server.Addr(), data), "10.0.3.7 > 10.0.9.9 GRE len 71"},
		{"other", Other(client.Addr(), server.Addr(), 50, []byte("1234")), "10.0.3.7 > 10.0.9.9 IPSecESP len 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Describe(c.pkt); got != c.want {
				t.Errorf("\nwant %s\n got %s", c.want, got)
			}
		})
	}
}

func TestDescribeIPv6(t *testing.T) {
	data := TCP{Src: client6, Dst: server6, Seq: 5, Flags: "S", Window: 7}.Bytes()
	udp := UDP(client6, server6, make([]byte, 40))
	fragments := Fragment6(udp, 24, 0x12345678)
	a, b := client6.Addr(), server6.Addr()
	for _, c := range []struct {
		name string
		pkt  []byte
		want string
	}{
		{"tcp", data, "[2001:db8::7]:45678 > [2001:db8:9::9]:80 [S] seq 5 ack 0 win 7 opts [] len 0"},
		{"udp", udp, "[2001:db8::7]:45678 > [2001:db8:9::9]:80 udp len 40"},
		{"echo", ICMPEcho(a, b, 1, 2, []byte("p")), "2001:db8::7 > 2001:db8:9::9 icmp6 EchoRequest id 1 seq 2 len 1"},
		{"error", ICMPError(1, 4, b, a, data[:48]), "2001:db8:9::9 > 2001:db8::7 icmp6 DestinationUnreachable(PortUnreachable) " +
			"about ([2001:db8::7]:45678 > [2001:db8:9::9]:80 TCP seq 5)"},
		{"error, little quoted", ICMPError(3, 0, b, a, data[:47]),
			"2001:db8:9::9 > 2001:db8::7 icmp6 TimeExceeded(HopLimitExceeded) about 47 bytes"},
		{"other message", ICMPError(135, 0, a, b, make([]byte, 16)), "2001:db8::7 > 2001:db8:9::9 icmp6 NeighborSolicitation len 16"},
		{"extended", Extend(udp, Extension{Kind: 0}, Extension{Kind: 60, Body: make([]byte, 9)}),
			"[2001:db8::7]:45678 > [2001:db8:9::9]:80 udp len 40"},
		{"first fragment", fragments[0], "2001:db8::7 > 2001:db8:9::9 UDP fragment id 305419896 offset 0+ len 24"},
		{"last fragment", fragments[1], "2001:db8::7 > 2001:db8:9::9 UDP fragment id 305419896 offset 24 len 24"},
		{"atomic fragment", Fragment6(udp, 48, 1)[0], "[2001:db8::7]:45678 > [2001:db8:9::9]:80 udp len 40"},
		{"nothing in it", Other(a, b, 59, nil), "2001:db8::7 > 2001:db8:9::9 NoNextHeader len 0"},
		{"cut", data[:59], "malformed (IPv6 payload length is 20, packet is 59 bytes)"},
		{"two fragment headers", Extend(udp, Extension{Kind: 44}, Extension{Kind: 44}), "malformed (there are two fragment headers)"},
		{"extension beyond the end", Other(a, b, 60, []byte{6, 1, 0, 0, 0, 0, 0, 0}),
			"malformed (decode IPv6Destination: Invalid ip6-extension header. Length 8 less than specified length 16)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Describe(c.pkt); got != c.want {
				t.Errorf("\nwant %s\n got %s", c.want, got)
			}
		})
	}
}

func TestDescribeGeneve(t *testing.T) {
	const outer, inner = "10.1.0.5:50000 > 10.1.0.9:6081 geneve", "10.0.3.7:45678 > 10.0.9.9:80 udp len 0"
	usual := tunnel()
	strange := usual
	strange.OAM, strange.Critical, strange.VNI, strange.Version = true, true, 123, 1
	strange.Options = append(strange.Options[1:2:2], GeneveOption(0x0103, 0x80, []byte{1, 2, 3, 4}), GeneveOption(classAWS, 1, nil))
	unknown := usual
	unknown.Options, unknown.Protocol = nil, 0x88be
	mistyped := usual
	mistyped.Options, mistyped.Protocol = nil, 0x86dd
	cut := usual
	cut.Inner = cut.Inner[:27]
	options := usual.Bytes()
	options[28] = 7 // words, where there are eight
	for _, c := range []struct {
		name string
		pkt  []byte
		want string
	}{
		{"usual", usual.Bytes(), outer + " opts [endpoint 123456789abcdef0, attachment 0, cookie 00c0ffee] (" + inner + ")"},
		{"strange", strange.Bytes(), outer + " version 1 oam critical vni 123 " +
			"opts [attachment 0, 0x0103/128 01020304, 0x0108/1] (" + inner + ")"},
		{"unknown protocol", unknown.Bytes(), outer + " opts [] ERSPAN Type II len 28"},
		{"mistyped", mistyped.Bytes(), outer + " opts [] malformed (decode packet in Geneve: Geneve says it is IPv6)"},
		{"inner cut", cut.Bytes(), outer + " opts [endpoint 123456789abcdef0, attachment 0, cookie 00c0ffee] " +
			"malformed (decode packet in Geneve: IPv4 total length is 28, packet is 27 bytes)"},
		{"options beyond their length", options,
			"10.1.0.5:50000 > 10.1.0.9:6081 udp len 68 malformed (decode Geneve: options of 32 bytes in 28)"},
		{"no header", UDP(usual.Src, usual.Dst, []byte{0}),
			"10.1.0.5:50000 > 10.1.0.9:6081 udp len 1 malformed (decode Geneve: geneve packet too short)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Describe(c.pkt); got != c.want {
				t.Errorf("\nwant %s\n got %s", c.want, got)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	base := syn()
	seq, payload := base, base
	cookie := tunnel()
	cookie.Options, cookie.Inner = AWSOptions(0, 0, 1), UDP(client, server, []byte("abc"))
	seq.Seq++
	payload.Payload = []byte("ODD, and longer than the other so that more rows differ, row after row after row of sixteen bytes each, " +
		"until the limit of what is shown has been passed and an ellipsis stands for the rest")
	for _, c := range []struct {
		name      string
		want, got []byte
		has, not  []string
	}{
		{"field", base.Bytes(), seq.Bytes(),
			[]string{"tcp.seq: want 16909060, got 16909061", "tcp.checksum", "0010 want"}, []string{"tcp.ack", "0000 want"}},
		{"payload", base.Bytes(), payload.Bytes(), []string{"ip.length", "payload length: want 3", "..."}, []string{"tcp.seq"}},
		{"protocol", base.Bytes(), UDP(client, server, nil),
			[]string{"ip.protocol: want TCP, got UDP", "tcp.seq: want 16909060, got none", "udp.length: want none, got 8"}, nil},
		{"family", base.Bytes(), UDP(client6, server6, nil), []string{"ip.ttl: want 61, got none", "ip6.hop limit: want none, got 64"}, nil},
		{"icmp6", ICMPEcho(client6.Addr(), server6.Addr(), 1, 2, nil), ICMPEcho(client6.Addr(), server6.Addr(), 1, 3, nil),
			[]string{"icmp6.rest: want 00010002, got 00010003", "icmp6.checksum"}, []string{"ip6", "icmp6.type"}},
		{"fragment id", Fragment6(UDP(client6, server6, nil), 8, 1)[0], Fragment6(UDP(client6, server6, nil), 8, 2)[0],
			[]string{"ip6.fragment id: want 0x00000001, got 0x00000002"}, []string{"udp."}},
		{"cookie", tunnel().Bytes(), cookie.Bytes(), []string{"geneve.options: want [endpoint", "payload length: want 28, got 31",
			"inner payload length: want 0, got 3"}, []string{"geneve.vni", "geneve.options length", "udp.src"}},
		{"nothing", base.Bytes(), nil, []string{"got malformed"}, []string{"tcp.seq"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Diff(c.want, c.got)
			for _, s := range c.has {
				if !strings.Contains(got, s) {
					t.Errorf("%q is missing in\n%s", s, got)
				}
			}
			for _, s := range c.not {
				if strings.Contains(got, s) {
					t.Errorf("%q should not be in\n%s", s, got)
				}
			}
		})
	}
	if d := Diff(base.Bytes(), base.Bytes()); d != "" {
		t.Errorf("equal packets differ:\n%s", d)
	}
}

func TestSequence(t *testing.T) {
	var s Sequence
	s.Add("client", "endpoint", UDP(client, server, nil))
	s.Note("endpoint", "dropped; reason #1")
	want := `sequenceDiagram
    client->>endpoint: 10.0.3.7:45678 > 10.0.9.9:80 udp len 0
    Note over endpoint: dropped#59; reason #35;1
`
	if got := s.String(); got != want {
		t.Errorf("\nwant %s\n got %s", want, got)
	}
}
