// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// segment is a TCP segment with every field set and options at even and odd offsets.
func segment() pkttest.TCP {
	return pkttest.TCP{
		Src: clientAddr, Dst: serverAddr, Seq: 0xfffffffe, Ack: 0x01020304, Flags: "FSRPAUEC", Window: 0x5678, Urgent: 0x9abc,
		Options: []layers.TCPOption{
			pkttest.NOP(), pkttest.MSS(8961), pkttest.WScale(7), pkttest.SACKPermitted(), pkttest.Timestamps(1, 2),
		},
		Payload: []byte("payload"),
	}
}

func TestTCPFields(t *testing.T) {
	want := segment()
	tcp, ok := ParseTCP(want.Bytes()[IPv4MinLen:])
	if !ok {
		t.Fatal("refused")
	}
	if tcp.SrcPort() != 45678 || tcp.DstPort() != 80 || tcp.Seq() != want.Seq || tcp.Ack() != want.Ack ||
		tcp.HeaderLen() != 40 || tcp.Window() != want.Window || tcp.Urgent() != want.Urgent ||
		tcp.Flags() != TCPFin|TCPSyn|TCPRst|TCPPsh|TCPAck|TCPUrg|TCPEce|TCPCwr || len(tcp.Options()) != 20 {
		t.Errorf("header is % x", tcp[:tcp.HeaderLen()])
	}
	for i, flag := range []uint8{TCPFin, TCPSyn, TCPRst, TCPPsh, TCPAck, TCPUrg, TCPEce, TCPCwr} {
		want.Flags = "FSRPAUEC"[i : i+1]
		if got := TCP(want.Bytes()[IPv4MinLen:]).Flags(); got != flag {
			t.Errorf("flag %s is %#x, want %#x", want.Flags, got, flag)
		}
	}
}

func TestTCPSet(t *testing.T) {
	want := TCP(pkttest.TCP{
		Src: clientAddr, Dst: serverAddr, Seq: 0xfffffffe, Ack: 0x01020304, Flags: "SA", Window: 0x5678, Urgent: 0x9abc,
	}.Bytes()[IPv4MinLen:])
	got := make(TCP, TCPMinLen)
	got.SetSrcPort(45678)
	got.SetDstPort(80)
	got.SetSeq(0xfffffffe)
	got.SetAck(0x01020304)
	got.SetHeaderLen(TCPMinLen)
	got.SetFlags(TCPSyn | TCPAck)
	got.SetWindow(0x5678)
	got.SetUrgent(0x9abc)
	got.SetChecksum(Checksum(got, PseudoSum4(clientAddr.Addr().As4(), serverAddr.Addr().As4(), ProtoTCP, TCPMinLen)))
	if string(got) != string(want) {
		t.Errorf("\nwant % x\n got % x", want, got)
	}
	for n := TCPMinLen; n <= 60; n += 4 {
		if got.SetHeaderLen(n); got.HeaderLen() != n {
			t.Errorf("header length is %d, want %d", got.HeaderLen(), n)
		}
	}
}

func TestParseTCP(t *testing.T) {
	whole := segment().Bytes()[IPv4MinLen:]
	short := append([]byte(nil), whole...)
	short[12] = 4 << 4
	for _, c := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"whole", whole, true},
		{"header alone", whole[:40], true},
		{"cut in the options", whole[:39], false},
		{"cut in the header", whole[:19], false},
		{"data offset 16", short, false},
	} {
		if tcp, ok := ParseTCP(c.b); ok != c.ok || ok && len(tcp) != len(c.b) {
			t.Errorf("%s: ok is %v", c.name, ok)
		}
	}
}

func TestSeqOrder(t *testing.T) {
	for _, c := range []struct {
		a, b          uint32
		after, before bool
	}{
		{1, 0, true, false},
		{0, 1, false, true},
		{7, 7, false, false},
		{0, 0xffffffff, true, false},
		{0xffffffff, 0, false, true},
		{0x7fffffff, 0, true, false},
		{0x80000001, 0, false, true},
	} {
		if SeqAfter(c.a, c.b) != c.after || SeqBefore(c.a, c.b) != c.before {
			t.Errorf("%#x, %#x: after %v, before %v", c.a, c.b, SeqAfter(c.a, c.b), SeqBefore(c.a, c.b))
		}
	}
}

func TestUDP(t *testing.T) {
	payload := []byte("datagram")
	b := pkttest.UDP(clientAddr, serverAddr, payload)
	u := UDP(b[IPv4MinLen:])
	if u.SrcPort() != 45678 || u.DstPort() != 80 || int(u.Length()) != UDPLen+len(payload) {
		t.Errorf("header is % x", u[:UDPLen])
	}
	if sum := u.Checksum(); Checksum(u, PseudoSum4(IPv4(b).Src(), IPv4(b).Dst(), ProtoUDP, u.Length())) != 0 {
		t.Errorf("checksum %04x does not check", sum)
	}
	got := make(UDP, UDPLen, UDPLen+len(payload))
	got.SetSrcPort(45678)
	got.SetDstPort(80)
	got.SetLength(uint16(UDPLen + len(payload)))
	got.SetChecksum(u.Checksum())
	if got = append(got, payload...); string(got) != string(u) {
		t.Errorf("\nwant % x\n got % x", u, got)
	}
}

func TestPutUDP(t *testing.T) {
	payload := []byte("datagram")
	want := pkttest.UDP(clientAddr, serverAddr, payload)[IPv4MinLen:]
	got := append(bytes.Repeat([]byte{0xee}, UDPLen), payload...)
	PutUDP(got, 45678, 80, len(got))
	if UDP(want).SetChecksum(0); !bytes.Equal(got, want) {
		t.Errorf("\nwant % x\n got % x", want, got)
	}
}

func TestParseUDP(t *testing.T) {
	whole := pkttest.UDP(clientAddr, serverAddr, []byte("datagram"))[IPv4MinLen:]
	length := func(n uint16) []byte {
		b := bytes.Clone(whole)
		UDP(b).SetLength(n)
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want int // length of the datagram, 0 when refused
	}{
		{"whole", whole, len(whole)},
		{"with a trailer", append(bytes.Clone(whole), 1, 2, 3), len(whole)},
		{"header alone", length(8), 8},
		{"cut", whole[:len(whole)-1], 0},
		{"cut in the header", whole[:7], 0},
		{"length beyond the bytes", length(uint16(len(whole) + 1)), 0},
		{"length below the header", length(7), 0},
		{"length zero", length(0), 0},
		{"empty", nil, 0},
	} {
		if u, ok := ParseUDP(c.b); ok != (c.want > 0) || len(u) != c.want {
			t.Errorf("%s: length %d, ok %v; want length %d", c.name, len(u), ok, c.want)
		}
	}
}

func TestICMP(t *testing.T) {
	quoted := segment().Bytes()[:28]
	for _, c := range []struct {
		typ, code uint8
		isError   bool
	}{
		{ICMPUnreachable, ICMPFragNeeded, true},
		{ICMPTimeExceeded, 0, true},
		{ICMPParameter, 0, true},
		{ICMPEchoRequest, 0, false},
		{ICMPEchoReply, 0, false},
		{4, 0, false},
		{5, 0, false},
	} {
		m := ICMP(pkttest.ICMPError(c.typ, c.code, serverAddr.Addr(), clientAddr.Addr(), quoted)[IPv4MinLen:])
		if m.Type() != c.typ || m.Code() != c.code || m.IsError() != c.isError || string(m.Payload()) != string(quoted) {
			t.Errorf("type %d code %d: message is % x, error %v", c.typ, c.code, []byte(m), m.IsError())
		}
		want := m.Checksum()
		if m.SetChecksum(0); Checksum(m, 0) != want {
			t.Errorf("type %d code %d: checksum is %04x, want %04x", c.typ, c.code, Checksum(m, 0), want)
		}
		if m.SetChecksum(want); Checksum(m, 0) != 0 {
			t.Errorf("type %d code %d: checksum %04x does not check", c.typ, c.code, want)
		}
	}
}

// decodeTCP is gopacket's reading of a segment.
func decodeTCP(b []byte) (*layers.TCP, error) {
	t := new(layers.TCP)
	return t, t.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
}
