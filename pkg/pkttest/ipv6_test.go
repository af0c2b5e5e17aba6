// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// syn6 is a segment over IPv6 with every field set that can be.
func syn6() TCP {
	p := syn()
	p.Src, p.Dst, p.ID, p.NoDF = client6, server6, 0, false
	return p
}

func TestTCPBytesIPv6(t *testing.T) {
	// Written by hand from RFC 8200 and RFC 9293, the checksum filled in below by the slow sum.
	want := unhex(t, `
		62 e0 0000 002b 06 3d 20010db8000000000000000000000007 20010db8000900000000000000000009
		b26e 0050 01020304 05060708 a0 32 1122 0000 5566
		02 04 2300  04 02  08 0a 00000007 00000009  01  03 03 07
		6f6464`)
	pseudo := append(bytes.Clone(want[8:40]), unhex(t, "0000002b 000000 06")...)
	binary.BigEndian.PutUint16(want[56:], ^slowSum(append(pseudo, want[40:]...)))

	got := syn6().Bytes()
	if d := Diff(want, got); d != "" {
		t.Error(d)
	}
	Verify(t, got)
}

// TestRefusedByBuilders are mistakes in tests.
func TestRefusedByBuilders(t *testing.T) {
	for name, build := range map[string]func(){
		"families mixed":           func() { UDP(client, server6, nil) },
		"families mixed over ICMP": func() { ICMPEcho(client6.Addr(), server.Addr(), 1, 1, nil) },
		"ID over IPv6":             func() { TCP{Src: client6, Dst: server6, ID: 1}.Bytes() },
		"DF over IPv6":             func() { TCP{Src: client6, Dst: server6, NoDF: true}.Bytes() },
		"fragment of 12 bytes":     func() { Fragment6(syn6().Bytes(), 12, 1) },
		"IPv4 extended":            func() { Extend(syn().Bytes(), Extension{}) },
		"Geneve over IPv6":         func() { Geneve{Src: client6, Dst: server6}.Bytes() },
		"Geneve option of 3 bytes": func() { GeneveOption(1, 1, make([]byte, 3)) },
		"partial ICMP":             func() { Partial(ICMPEcho(client6.Addr(), server6.Addr(), 1, 1, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			build()
		})
	}
}

func TestOtherBuildersIPv6(t *testing.T) {
	udp := UDP(client6, server6, []byte("datagram"))
	Verify(t, udp)
	if p := Decode(t, udp); p.UDP == nil || p.UDP.SrcPort != 45678 || p.UDP.DstPort != 80 || string(p.Payload) != "datagram" {
		t.Errorf("UDP decodes as %s", Describe(udp))
	}
	echo := ICMPEcho(client6.Addr(), server6.Addr(), 1, 2, []byte("ping"))
	Verify(t, echo)
	want := unhex(t, "80 00 0000 0001 0002 70696e67")
	copy(want[2:], echo[42:44])
	if !bytes.Equal(echo[40:], want) || Decode(t, echo).Proto != layers.IPProtocolICMPv6 {
		t.Errorf("echo is % x", echo)
	}
	icmp := ICMPError(1, 4, server6.Addr(), client6.Addr(), udp[:48])
	Verify(t, icmp)
	if p := Decode(t, icmp); p.ICMP6 == nil || !bytes.Equal(p.Payload, udp[:48]) || !bytes.Equal(icmp[44:48], make([]byte, 4)) {
		t.Errorf("error decodes as %s", Describe(icmp))
	}
}

func TestGRE(t *testing.T) {
	for inner, head := range map[string]string{
		string(syn().Bytes()):  "0000 0800",
		string(syn6().Bytes()): "0000 86dd",
		"":                     "0000 0000",
	} {
		for _, ends := range [][2]netip.Addr{{client.Addr(), server.Addr()}, {client6.Addr(), server6.Addr()}} {
			b := GRE(ends[0], ends[1], []byte(inner))
			Verify(t, b)
			p := Decode(t, b)
			if want := append(unhex(t, head), inner...); p.Proto != layers.IPProtocolGRE || !bytes.Equal(p.Payload, want) {
				t.Errorf("got %s: % x", Describe(b), b)
			}
		}
	}
}

func TestFragment6(t *testing.T) {
	whole := UDP(client6, server6, bytes.Repeat([]byte("0123456789"), 10))
	whole[1], whole[7] = 0x2b, 9 // of the traffic class and the flow label, and the hop limit
	var payload []byte
	parts := Fragment6(whole, 48, 0x12345678)
	for i, b := range parts {
		Verify(t, b)
		more := byte(1)
		if i == len(parts)-1 {
			more = 0
		}
		head := []byte{17, 0, byte(len(payload) >> 8), byte(len(payload)) | more, 0x12, 0x34, 0x56, 0x78}
		if !bytes.Equal(b[40:48], head) || b[1] != 0x2b || b[6] != 44 || b[7] != 9 {
			t.Errorf("fragment %d is % x", i, b[:48])
		}
		payload = append(payload, Decode(t, b).Payload...)
	}
	if len(parts) != 3 || !bytes.Equal(payload, whole[40:]) {
		t.Errorf("%d fragments hold % x, want % x", len(parts), payload, whole[40:])
	}
	atomic := Fragment6(whole, 800, 1)
	if p := Decode(t, atomic[0]); len(atomic) != 1 || p.UDP == nil || p.Frag6 == nil {
		t.Errorf("atomic fragment is %s", Describe(atomic[0]))
	}
	Verify(t, atomic[0])
}

func TestExtend(t *testing.T) {
	whole := UDP(client6, server6, []byte("datagram"))
	got := Extend(whole, Extension{Kind: 0, Body: []byte{5, 2, 0, 0, 1}}, Extension{Kind: 43}, Extension{Kind: 60, Body: make([]byte, 7)})
	want := bytes.Clone(whole[:40])
	want[5], want[6] = 16+8+8+16, 0
	want = append(want, unhex(t, "2b00 050200000100 3c00 000000000000 1101 0000000000000000000000000000")...)
	want = append(want, whole[40:]...)
	if d := Diff(want, got); d != "" {
		t.Error(d)
	}
	Verify(t, got)
	if p := Decode(t, got); p.UDP == nil || string(p.Payload) != "datagram" || len(p.L4) != 16 {
		t.Errorf("decodes as %s", Describe(got))
	}
	if same := Extend(whole); !bytes.Equal(same, whole) {
		t.Error("no extension changes the packet")
	}
}
