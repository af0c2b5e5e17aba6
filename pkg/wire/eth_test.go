// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	macA = [6]byte{2, 0, 0, 0, 0, 0xa}
	macB = [6]byte{2, 0, 0, 0, 0, 0xb}
)

// frame is an ARP request in an Ethernet frame, by gopacket.
func frame(t testing.TB) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: macA[:], DstMAC: []byte{255, 255, 255, 255, 255, 255}, EthernetType: layers.EthernetTypeARP}
	arp := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: macA[:], SourceProtAddress: []byte{10, 0, 3, 7},
		DstHwAddress: macB[:], DstProtAddress: []byte{10, 0, 9, 9},
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, eth, arp); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestEthernet(t *testing.T) {
	want := frame(t)
	e := Ethernet(want)
	if e.Src() != macA || e.Dst() != [6]byte{255, 255, 255, 255, 255, 255} || e.EtherType() != EtherTypeARP {
		t.Errorf("header is % x", e[:EtherLen])
	}
	got := make(Ethernet, EtherLen)
	got.SetSrc(e.Src())
	got.SetDst(e.Dst())
	got.SetEtherType(EtherTypeARP)
	if !bytes.Equal(got, want[:EtherLen]) {
		t.Errorf("\nwant % x\n got % x", want[:EtherLen], got)
	}
}

func TestARP(t *testing.T) {
	want := frame(t)[EtherLen:]
	a, ok := ParseARP(append(want, 0, 0, 0)) // Ethernet pads short frames
	if !ok || len(a) != ARPLen {
		t.Fatalf("ok %v, %d bytes", ok, len(a))
	}
	if a.Op() != ARPRequest || a.SenderMAC() != macA || a.SenderIP() != [4]byte{10, 0, 3, 7} ||
		a.TargetMAC() != macB || a.TargetIP() != [4]byte{10, 0, 9, 9} {
		t.Errorf("packet is % x", []byte(a))
	}
	got := make([]byte, ARPLen)
	PutARP(got, ARPRequest, macA, [4]byte{10, 0, 3, 7}, macB, [4]byte{10, 0, 9, 9})
	if !bytes.Equal(got, want[:ARPLen]) {
		t.Errorf("\nwant % x\n got % x", want[:ARPLen], got)
	}
}

func TestParseARPRefuses(t *testing.T) {
	whole := frame(t)[EtherLen:]
	for off := range 6 { // hardware, protocol and the two lengths
		b := bytes.Clone(whole)
		b[off] ^= 0x10
		if _, ok := ParseARP(b); ok {
			t.Errorf("byte %d may be %#x", off, b[off])
		}
	}
	if _, ok := ParseARP(whole[:ARPLen-1]); ok {
		t.Error("27 bytes are a packet")
	}
}

func FuzzARP(f *testing.F) {
	f.Add(frame(f)[EtherLen:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := ParseARP(b)
		var want layers.ARP
		err := want.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		ours := err == nil && want.AddrType == layers.LinkTypeEthernet && want.Protocol == layers.EthernetTypeIPv4 &&
			want.HwAddressSize == 6 && want.ProtAddressSize == 4
		if ok != ours {
			t.Fatalf("parse is %v, gopacket has %+v, %v", ok, want, err)
		}
		if !ok {
			return
		}
		smac, sip, tmac, tip := a.SenderMAC(), a.SenderIP(), a.TargetMAC(), a.TargetIP()
		if a.Op() != want.Operation || !bytes.Equal(smac[:], want.SourceHwAddress) ||
			!bytes.Equal(sip[:], want.SourceProtAddress) || !bytes.Equal(tmac[:], want.DstHwAddress) ||
			!bytes.Equal(tip[:], want.DstProtAddress) {
			t.Fatalf("packet % x differs from %+v", []byte(a), want)
		}
		again := make([]byte, ARPLen)
		if PutARP(again, a.Op(), smac, sip, tmac, tip); !bytes.Equal(again, a) {
			t.Fatalf("written again: % x, was % x", again, []byte(a))
		}
	})
}
