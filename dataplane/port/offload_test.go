// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestVnetHdrRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		spec := randomSpec(rand.New(rand.NewPCG(seed, 2)))
		b := spec.super(t)
		for _, l2 := range []uint16{0, 14} {
			h := bytes.Repeat([]byte{0xee}, vnetHdrLen)
			putVnetHdr(h, &b.Offload, l2)
			if b.GSOType != GSONone && binary.LittleEndian.Uint16(h[2:]) != b.HdrLen+l2 {
				t.Fatalf("header length in %x", h)
			}
			got, ok := getVnetHdr(h, l2)
			got.HdrLen = b.HdrLen // a hint, not read
			if !ok || got != b.Offload {
				t.Fatalf("%+v became %+v", b.Offload, got)
			}
		}
	}
	h := bytes.Repeat([]byte{0xee}, vnetHdrLen)
	putVnetHdr(h, &Offload{Flags: DataValid}, 14)
	if !bytes.Equal(h, make([]byte, vnetHdrLen)) {
		t.Errorf("header of a plain packet: %x", h)
	}
	if _, ok := getVnetHdr([]byte{NeedsCsum, 0, 0, 0, 0, 0, 13, 0, 0, 0}, 14); ok {
		t.Error("a checksum inside the link header passes")
	}
}

func TestCheck(t *testing.T) {
	tcp := superSpec{gso: 100, payload: make([]byte, 450), ttl: 64}
	udp := superSpec{udp: true, gso: 100, payload: make([]byte, 450), ttl: 64}
	six := superSpec{v6: true, gso: 100, payload: make([]byte, 450), ttl: 64}
	plain := superSpec{payload: make([]byte, 450), ttl: 64}
	for _, c := range []struct {
		name   string
		spec   superSpec
		change func(*Buffer)
		ok     bool
	}{
		{"TCP super-packet", tcp, func(*Buffer) {}, true},
		{"UDP super-packet", udp, func(*Buffer) {}, true},
		{"IPv6 super-packet", six, func(*Buffer) {}, true},
		{"partial checksum", plain, func(*Buffer) {}, true},
		{"complete checksum", plain, Complete, true},
		{"ECN", tcp, func(b *Buffer) { b.GSOType |= GSOECN }, true},
		{"truncated", plain, func(b *Buffer) { b.SetLen(b.Len() - 1) }, false},
		{"truncated IPv6", six, func(b *Buffer) { b.SetLen(b.Len() - 1) }, false},
		{"empty", plain, func(b *Buffer) { b.SetLen(0) }, false},
		{"ARP's first byte", plain, func(b *Buffer) { b.Bytes()[0] = 0 }, false},
		{"header length", plain, func(b *Buffer) { b.Bytes()[0] = 0x44 }, false},
		{"checksum past the end", plain, func(b *Buffer) { b.CsumOffset = 500 }, false},
		{"checksum in the IP header", plain, func(b *Buffer) { b.CsumStart = 4 }, false},
		{"super-packet without partial checksum", tcp, func(b *Buffer) { b.Flags = 0 }, false},
		{"super-packet of no size", tcp, func(b *Buffer) { b.GSOSize = 0 }, false},
		{"unknown type", tcp, func(b *Buffer) { b.GSOType = 3 }, false},
		{"UDP with ECN", udp, func(b *Buffer) { b.GSOType |= GSOECN }, false},
		{"type of the other family", tcp, func(b *Buffer) { b.GSOType = GSOTCPv6 }, false},
		{"type of the other protocol", tcp, func(b *Buffer) { b.GSOType, b.CsumOffset = GSOUDP, udpCsumOffset }, false},
		{"UDP typed as TCP", udp, func(b *Buffer) { b.GSOType, b.CsumOffset = GSOTCPv4, tcpCsumOffset }, false},
		{"TCP header too short", tcp, func(b *Buffer) { b.Bytes()[32] = 0x40 }, false},
		{"TCP header past the end", superSpec{payload: make([]byte, 4), ttl: 64},
			func(b *Buffer) { b.GSOType, b.GSOSize, b.Bytes()[32] = GSOTCPv4, 2, 0xf0 }, false},
		{"fragment", tcp, func(b *Buffer) { b.Bytes()[6] |= 0x20 }, false},
	} {
		b := c.spec.super(t)
		b.HdrLen = 7 // never believed
		c.change(b)
		if got := b.check(); got != c.ok {
			t.Errorf("%s: %v", c.name, got)
		} else if ok := b.GSOType == GSONone || b.HdrLen > 20; got && !ok {
			t.Errorf("%s: header length %d", c.name, b.HdrLen)
		}
	}
}

func TestCheckNormalises(t *testing.T) {
	// One segment only: no super-packet.
	spec := superSpec{gso: 100, payload: make([]byte, 101), ttl: 64}
	b := spec.super(t)
	b.GSOSize = 101
	if !b.check() || b.GSOType != GSONone || b.GSOSize != 0 || b.HdrLen != 0 || b.Flags != NeedsCsum {
		t.Errorf("one segment: %+v", b.Offload)
	}
	// Ethernet padding.
	spec = superSpec{udp: true, payload: []byte("x"), ttl: 64}
	b = spec.super(t)
	want := spec.plain(t)
	clear(b.SetLen(46)[29:])
	if !b.check() || b.Len() != 29 {
		t.Errorf("padding: %d bytes", b.Len())
	}
	Complete(b)
	comparePackets(t, [][]byte{b.Bytes()}, want)
	// A partial checksum of an inner packet: completed, the outer one is left alone.
	inner := superSpec{payload: []byte("inner"), ttl: 64}
	partial := inner.super(t)
	outer := superSpec{udp: true, payload: partial.Bytes(), ttl: 64}
	b.Set(outer.segment(t, 0, len(outer.payload)))
	b.Offload = Offload{Flags: NeedsCsum, CsumStart: 28 + partial.CsumStart, CsumOffset: partial.CsumOffset}
	if !b.check() || b.Offload != (Offload{}) {
		t.Errorf("tunnel: %+v", b.Offload)
	}
	comparePackets(t, [][]byte{b.Bytes()[28:]}, inner.plain(t))
}

// FuzzCheck looks for packets that pass and then break the segmenter: what it gives must be right by gopacket's account.
func FuzzCheck(f *testing.F) {
	for seed := range uint64(20) {
		spec := randomSpec(rand.New(rand.NewPCG(seed, 3)))
		b := spec.super(f)
		h := make([]byte, vnetHdrLen)
		putVnetHdr(h, &b.Offload, 0)
		f.Add(append(h, b.Bytes()...))
	}
	b, dst := NewBuffer(), NewBuffer()
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < vnetHdrLen || len(frame) > 4096 {
			return
		}
		b.Set(frame[vnetHdrLen:])
		o, ok := getVnetHdr(frame, 0)
		if b.Offload = o; !ok || !b.check() {
			return
		}
		var seg Segmenter
		seg.Start(b)
		n, payload := 0, 0
		for seg.Next(dst) {
			n++
			payload += dst.Len() - int(b.HdrLen)
			if dst.Offload != (Offload{Flags: dst.Flags & DataValid}) {
				t.Fatalf("segment with offload %+v", dst.Offload)
			}
			if b.GSOType != GSONone && !validChecksums(dst.Bytes()) {
				t.Fatalf("segment %x of %+v", dst.Bytes(), b.Offload)
			}
		}
		if n != b.Segments() || payload != b.Len()-int(b.HdrLen) {
			t.Fatalf("%d segments of %d, %d bytes of %d", n, b.Segments(), payload, b.Len()-int(b.HdrLen))
		}
	})
}
