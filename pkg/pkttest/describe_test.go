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
		{"empty", nil, "malformed (0 bytes are no IPv4 packet)"},
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
