// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"fmt"
	"testing"
)

func TestVerifyFindsEveryBit(t *testing.T) {
	checksummed := tunnel()
	checksummed.Checksum = true
	for name, pkt := range map[string][]byte{
		"tcp":      syn().Bytes(),
		"udp":      UDP(client, server, []byte("datagram")),
		"icmp":     ICMPEcho(client.Addr(), server.Addr(), 1, 2, []byte("ping!")),
		"geneve":   checksummed.Bytes(),
		"fragment": Fragment(UDP(client, server, make([]byte, 40)), 24)[1][:20:20],
	} {
		t.Run(name, func(t *testing.T) {
			if name == "fragment" {
				pkt = append(pkt, make([]byte, 24)...)
			}
			if err := verify(pkt); err != nil {
				t.Fatal(err)
			}
			checked := len(pkt)
			if name == "fragment" {
				checked = 20 // the rest is covered by a checksum of the whole datagram
			}
			for bit := range checked * 8 {
				pkt[bit/8] ^= 1 << (bit % 8)
				if err := verify(pkt); err == nil {
					t.Errorf("bit %d of byte %d may be wrong", bit%8, bit/8)
				}
				pkt[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
}

// TestVerifyFindsEveryBitIPv6 leaves out what no checksum covers: class, label, hop limit, and the number of what follows, as
// long as Verify knows nothing of that.
func TestVerifyFindsEveryBitIPv6(t *testing.T) {
	for name, pkt := range map[string][]byte{
		"tcp":      syn6().Bytes(),
		"udp":      UDP(client6, server6, []byte("datagram")),
		"icmp":     ICMPEcho(client6.Addr(), server6.Addr(), 1, 2, []byte("ping!")),
		"extended": Extend(UDP(client6, server6, nil), Extension{Kind: 60})[:56:56],
	} {
		t.Run(name, func(t *testing.T) {
			Verify(t, pkt)
			for bit := range len(pkt) * 8 {
				at := bit / 8
				if at == 0 && bit < 4 || at > 0 && at < 4 || at == 6 || at == 7 || name == "extended" && at >= 40 && at < 48 {
					continue
				}
				pkt[at] ^= 1 << (bit % 8)
				if err := verify(pkt); err == nil {
					t.Errorf("bit %d of byte %d may be wrong", bit%8, at)
				}
				pkt[at] ^= 1 << (bit % 8)
			}
		})
	}
}

func TestVerifyLengths(t *testing.T) {
	pkt := syn().Bytes()
	for _, b := range [][]byte{nil, pkt[:19], pkt[:len(pkt)-1], append(syn().Bytes(), 0)} {
		if err := verify(b); err == nil {
			t.Errorf("%d of %d bytes pass", len(b), len(pkt))
		}
	}
}

func TestVerifyUDPWithoutChecksum(t *testing.T) {
	pkt := UDP(client, server, []byte("datagram"))
	pkt[26], pkt[27] = 0, 0
	Verify(t, pkt)
	over6 := UDP(client6, server6, []byte("datagram"))
	over6[46], over6[47] = 0, 0
	if err := verify(over6); err == nil {
		t.Error("passes over IPv6")
	}
}

// TestVerifyReports checks that Verify and Decode fail the test they are given.
func TestVerifyReports(t *testing.T) {
	bad := syn().Bytes()
	bad[len(bad)-1] ^= 1
	var r recorder
	Verify(&r, bad)
	if r.errors != 1 || r.fatals != 0 {
		t.Errorf("Verify: %d errors and %d fatal ones", r.errors, r.fatals)
	}
	r = recorder{}
	Decode(&r, bad[:30])
	if r.fatals != 1 {
		t.Errorf("Decode: %d fatal errors", r.fatals)
	}
}

// recorder is a testing.TB that counts failures. A method it lacks panics, the embedded interface being nil.
type recorder struct {
	testing.TB
	errors, fatals int
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, v ...any) {
	_ = fmt.Sprintf(format, v...)
	r.errors++
}

func (r *recorder) Fatalf(format string, v ...any) {
	_ = fmt.Sprintf(format, v...)
	r.fatals++
}
