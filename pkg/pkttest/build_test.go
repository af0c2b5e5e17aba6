// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

var (
	client = netip.MustParseAddrPort("10.0.3.7:45678")
	server = netip.MustParseAddrPort("10.0.9.9:80")

	client6 = netip.MustParseAddrPort("[2001:db8::7]:45678")
	server6 = netip.MustParseAddrPort("[2001:db8:9::9]:80")
)

// syn is a segment with every field set.
func syn() TCP {
	return TCP{
		Src: client, Dst: server, Seq: 0x01020304, Ack: 0x05060708, Flags: "SAU", Window: 0x1122,
		Options: []layers.TCPOption{MSS(8960), SACKPermitted(), Timestamps(7, 9), NOP(), WScale(7)},
		Payload: []byte("odd"), TTL: 61, ID: 0x3344, NoDF: true, TOS: 0x2e, Urgent: 0x5566,
	}
}

func TestTCPBytes(t *testing.T) {
	// Written by hand from RFC 791 and RFC 9293, the checksums filled in below by the slow sum.
	want := unhex(t, `
		45 2e 00 3f 33 44 00 00 3d 06 0000 0a000307 0a000909
		b26e 0050 01020304 05060708 a0 32 1122 0000 5566
		02 04 2300  04 02  08 0a 00000007 00000009  01  03 03 07
		6f6464`)
	binary.BigEndian.PutUint16(want[10:], ^slowSum(want[:20]))
	pseudo := append(unhex(t, "0a000307 0a000909 00 06 002b"), want[20:]...)
	binary.BigEndian.PutUint16(want[36:], ^slowSum(pseudo))

	got := syn().Bytes()
	if d := Diff(want, got); d != "" {
		t.Error(d)
	}
	Verify(t, got)
}

func TestTCPDefaults(t *testing.T) {
	p := Decode(t, TCP{Src: client, Dst: server, Flags: "R"}.Bytes())
	if p.IP.TTL != 64 || p.IP.Flags != layers.IPv4DontFragment || p.TCP.Window != 0 || len(p.TCP.Options) != 0 {
		t.Errorf("TTL %d, flags %v, window %d, options %v", p.IP.TTL, p.IP.Flags, p.TCP.Window, p.TCP.Options)
	}
}

func TestTCPUnknownFlag(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("flag X was accepted")
		}
	}()
	TCP{Src: client, Dst: server, Flags: "SX"}.Bytes()
}

func TestOtherBuilders(t *testing.T) {
	udp := UDP(client, server, []byte("datagram"))
	Verify(t, udp)
	if p := Decode(t, udp); p.UDP == nil || p.UDP.SrcPort != 45678 || p.UDP.DstPort != 80 || string(p.Payload) != "datagram" {
		t.Errorf("UDP decodes as %s", Describe(udp))
	}
	echo := ICMPEcho(client.Addr(), server.Addr(), 1, 2, []byte("ping"))
	Verify(t, echo)
	if p := Decode(t, echo); p.ICMP == nil || p.ICMP.Id != 1 || p.ICMP.Seq != 2 || string(p.Payload) != "ping" {
		t.Errorf("echo decodes as %s", Describe(echo))
	}
	icmp := ICMPError(3, 1, server.Addr(), client.Addr(), udp[:28])
	Verify(t, icmp)
	if p := Decode(t, icmp); p.ICMP == nil || !bytes.Equal(p.Payload, udp[:28]) {
		t.Errorf("error decodes as %s", Describe(icmp))
	}
}

func TestFragment(t *testing.T) {
	whole := UDP(client, server, bytes.Repeat([]byte("0123456789"), 10))
	var payload []byte
	parts := Fragment(whole, 48)
	for i, b := range parts {
		Verify(t, b)
		p := Decode(t, b)
		if int(p.IP.FragOffset)*8 != len(payload) || p.UDP != nil {
			t.Errorf("fragment %d is %s", i, Describe(b))
		}
		if last := i == len(parts)-1; (p.IP.Flags&layers.IPv4MoreFragments == 0) != last {
			t.Errorf("fragment %d of %d has flags %v", i, len(parts), p.IP.Flags)
		}
		payload = append(payload, p.Payload...)
	}
	if len(parts) != 3 || !bytes.Equal(payload, whole[20:]) {
		t.Errorf("%d fragments hold % x, want % x", len(parts), payload, whole[20:])
	}
}

// TestPartial finishes a partial checksum as a device does: it adds up everything from the transport header on.
func TestPartial(t *testing.T) {
	for name, c := range map[string]struct {
		pkt       []byte
		l4, field int // offsets of the transport header, and of the checksum in it
	}{
		"tcp":                  {syn().Bytes(), 20, 16},
		"udp":                  {UDP(client, server, []byte("datagram")), 20, 6},
		"tcp over IPv6":        {syn6().Bytes(), 40, 16},
		"udp over IPv6":        {UDP(client6, server6, []byte("datagram")), 40, 6},
		"udp behind extension": {Extend(UDP(client6, server6, []byte("datagram")), Extension{Kind: 60}), 48, 6},
	} {
		t.Run(name, func(t *testing.T) {
			partial := Partial(c.pkt)
			if err := verify(partial); err == nil {
				t.Error("a partial checksum passes for a complete one")
			}
			binary.BigEndian.PutUint16(partial[c.l4+c.field:], ^slowSum(partial[c.l4:]))
			if d := Diff(c.pkt, partial); d != "" {
				t.Errorf("finished:\n%s", d)
			}
		})
	}
}

// slowSum is the Internet checksum before its complement, one word at a time.
func slowSum(b []byte) uint16 {
	var sum int
	for i, v := range b {
		if i%2 == 0 {
			sum += int(v) << 8
		} else {
			sum += int(v)
		}
	}
	for sum > 0xffff {
		sum = sum%0x10000 + sum/0x10000
	}
	return uint16(sum)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.Join(bytes.Fields([]byte(s)), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
