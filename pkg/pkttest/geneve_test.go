// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// tunnel is a packet as a Gateway Load Balancer sends it.
func tunnel() Geneve {
	return Geneve{
		Src: netip.MustParseAddrPort("10.1.0.5:50000"), Dst: netip.MustParseAddrPort("10.1.0.9:6081"),
		Options: AWSOptions(0x123456789abcdef0, 0, 0xc0ffee), Inner: UDP(client, server, nil),
	}
}

func TestGeneveBytes(t *testing.T) {
	// Written by hand from RFC 791, RFC 768, RFC 8926 and the layout that AWS sends.
	g := tunnel()
	g.TTL, g.TOS, g.ID, g.NoDF = 9, 3, 0x1122, true
	want := unhex(t, `
		45 03 0060 1122 0000 09 11 0000 0a010005 0a010009
		c350 17c1 004c 0000
		08 00 0800 000000 00  0108 01 02 123456789abcdef0  0108 02 02 0000000000000000  0108 03 01 00c0ffee`)
	binary.BigEndian.PutUint16(want[10:], ^slowSum(want[:20]))
	want = append(want, g.Inner...)

	got := g.Bytes()
	if d := Diff(want, got); d != "" {
		t.Error(d)
	}
	Verify(t, got)
	p := Decode(t, got)
	if p.Geneve == nil || p.Inner == nil || p.Inner.UDP == nil || !bytes.Equal(p.Payload, g.Inner) {
		t.Errorf("decodes as %s", Describe(got))
	}
}

func TestGeneveFields(t *testing.T) {
	g := tunnel()
	g.Version, g.OAM, g.Critical, g.VNI, g.Protocol = 2, true, true, 0xabcdef, 0x6558
	g.Options = append(g.Options[2:], GeneveOption(0xfff0, 0x81, []byte{1, 2, 3, 4, 5, 6, 7, 8}))
	want := unhex(t, "85 c0 6558 abcdef 00  0108 03 01 00c0ffee  fff0 81 02 0102030405060708")
	if got := g.Bytes()[28:]; !bytes.HasPrefix(got, want) {
		t.Errorf("\nwant % x\n got % x", want, got)
	}
}

func TestGeneveIPv6Inside(t *testing.T) {
	g := tunnel()
	g.Inner = syn6().Bytes()
	b := g.Bytes()
	Verify(t, b)
	if p := Decode(t, b); p.Inner == nil || p.Inner.IP6 == nil || p.Inner.TCP == nil || binary.BigEndian.Uint16(b[30:]) != 0x86dd {
		t.Errorf("decodes as %s", Describe(b))
	}
}

// TestVerifyGeneve checks that what is wrong inside is found, and that what cannot be read is said.
func TestVerifyGeneve(t *testing.T) {
	good := tunnel().Bytes()
	mistyped := tunnel()
	mistyped.Protocol = 0x86dd
	edit := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	for name, b := range map[string][]byte{
		"inner checksum": edit(len(good)-1, good[len(good)-1]^1),
		"inner address":  edit(68+12, 11),
		"inner version":  edit(68, 0x65),
		"protocol":       mistyped.Bytes(),
		"options short":  edit(28, 7),
		"options long":   edit(28, 9),
		"option long":    edit(39, 31),
		"UDP length":     edit(25, 75),
		"not Geneve":     UDP(tunnel().Src, tunnel().Dst, []byte("what?")),
	} {
		if err := verify(b); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	other := edit(22, 0)
	other[len(other)-1] ^= 1
	if err := verify(other); err != nil {
		t.Errorf("a datagram to another port is read as Geneve: %v", err)
	}
}
