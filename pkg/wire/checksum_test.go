// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gopacket/gopacket"
)

// slowSum is the folded Internet checksum before its complement, byte by byte: the twin of Sum.
func slowSum(b []byte, initial uint32) uint16 {
	sum := uint64(initial)
	for i, v := range b {
		if i%2 == 0 {
			sum += uint64(v) << 8
		} else {
			sum += uint64(v)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// edges are the words at which ones'-complement arithmetic goes wrong if it does.
var edges = []uint16{0, 1, 0x00ff, 0x7fff, 0x8000, 0xff00, 0xfffe, 0xffff}

func TestSumRFC1071(t *testing.T) {
	// RFC 1071 section 3.
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := Fold(Sum(b, 0)); got != 0xddf2 {
		t.Errorf("sum is %04x, want ddf2", got)
	}
	if got := Checksum(b, 0); got != 0x220d {
		t.Errorf("checksum is %04x, want 220d", got)
	}
}

func TestSumEveryLength(t *testing.T) {
	random := make([]byte, 400)
	for i := range random {
		random[i] = uint8(rand.Uint32())
	}
	for name, data := range map[string][]byte{
		"zeros":  make([]byte, 400),
		"ones":   bytes.Repeat([]byte{0xff}, 400),
		"fe":     bytes.Repeat([]byte{0xff, 0xfe}, 200),
		"random": random,
	} {
		t.Run(name, func(t *testing.T) {
			for n := range len(data) {
				for _, initial := range []uint32{0, 1, 0xffff, 0x10000, 0xffffffff} {
					checkSum(t, data[n%8:n], initial)
				}
			}
		})
	}
}

// TestSumAlignments sums bytes at every offset from a cache line, of lengths around those where the loops of Sum end.
func TestSumAlignments(t *testing.T) {
	data := make([]byte, 2000)
	for i := range data {
		data[i] = uint8(rand.Uint32())
	}
	for start := range 64 {
		for _, n := range []int{255, 256, 257, 287, 288, 319, 351, 383, 384, 385, 415, 511, 512, 1460, 1461} {
			checkSum(t, data[start:start+n], rand.Uint32())
		}
	}
	for range 2000 {
		start := rand.IntN(len(data))
		checkSum(t, data[start:start+rand.IntN(len(data)-start)], rand.Uint32())
	}
}

func TestSumLargest(t *testing.T) {
	checkSum(t, bytes.Repeat([]byte{0xff}, 65535), 0xffffffff)
	checkSum(t, bytes.Repeat([]byte{0xff}, 1<<22), 0xffffffff)
}

func checkSum(t *testing.T, b []byte, initial uint32) {
	t.Helper()
	got := Sum(b, initial)
	if got >= 1<<17 {
		t.Fatalf("sum of %d bytes and %#x is %#x, too large to be added to", len(b), initial, got)
	}
	if want := slowSum(b, initial); Fold(got) != want {
		t.Fatalf("sum of %d bytes and %#x is %04x, want %04x", len(b), initial, Fold(got), want)
	}
}

func FuzzChecksum(f *testing.F) {
	f.Add([]byte{}, uint32(0), uint(0))
	f.Add([]byte{0xff}, uint32(0xffffffff), uint(1))
	f.Add(bytes.Repeat([]byte{0xff, 0xfe, 1}, 50), uint32(1), uint(33))
	f.Add(bytes.Repeat([]byte{0xff, 0xfe, 1}, 150), uint32(1), uint(33))
	f.Fuzz(func(t *testing.T, b []byte, initial uint32, cut uint) {
		checkSum(t, b, initial)
		if want := gopacket.FoldChecksum(gopacket.ComputeChecksum(b, initial)); Checksum(b, initial) != want {
			t.Fatalf("checksum is %04x, gopacket says %04x", Checksum(b, initial), want)
		}
		// Whatever the parity of the cut, the sums of two parts make the sum of the whole.
		n := int(cut % uint(len(b)+1))
		rest := Fold(Sum(b[n:], 0))
		if n%2 != 0 {
			rest = SwapParity(rest)
		}
		if got, want := Fold(Sum(b[:n], initial)+uint32(rest)), slowSum(b, initial); got != want {
			t.Fatalf("cut at %d: sum is %04x, want %04x", n, got, want)
		}
	})
}

// TestUpdate changes one word, and two, between all edges, beside all edges, and computes anew. As in every IPv4 header one
// more word is not zero; its complement is among the edges, so that sums come out as all ones, where RFC 1141 goes wrong.
func TestUpdate(t *testing.T) {
	const constant = 0x4500
	words := append([]uint16{^uint16(constant)}, edges...)
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, constant)
	for _, first := range words {
		for _, second := range words {
			for _, old := range words {
				for _, new := range words {
					binary.BigEndian.PutUint16(b[2:], first)
					checkUpdate16(t, b, second, old, new)
					o, n := uint32(old)<<16|uint32(first), uint32(new)<<16|uint32(second)
					checkUpdate32(t, b, o, n)
				}
			}
		}
	}
}

func checkUpdate16(t *testing.T, b []byte, other, old, new uint16) {
	t.Helper()
	binary.BigEndian.PutUint16(b[4:], other)
	binary.BigEndian.PutUint16(b[6:], old)
	before := slowSum(b, 0)
	binary.BigEndian.PutUint16(b[6:], new)
	after := slowSum(b, 0)
	if got := Update16(^before, old, new); got != ^after {
		t.Errorf("Update16(%04x, %04x, %04x) = %04x, want %04x", ^before, old, new, got, ^after)
	}
	if got := Seed16(before, old, new); got != after {
		t.Errorf("Seed16(%04x, %04x, %04x) = %04x, want %04x", before, old, new, got, after)
	}
}

func checkUpdate32(t *testing.T, b []byte, old, new uint32) {
	t.Helper()
	binary.BigEndian.PutUint32(b[4:], old)
	before := slowSum(b, 0)
	binary.BigEndian.PutUint32(b[4:], new)
	after := slowSum(b, 0)
	if got := Update32(^before, old, new); got != ^after {
		t.Errorf("Update32(%04x, %08x, %08x) = %04x, want %04x", ^before, old, new, got, ^after)
	}
	if got := Seed32(before, old, new); got != after {
		t.Errorf("Seed32(%04x, %08x, %08x) = %04x, want %04x", before, old, new, got, after)
	}
}

func TestPseudoSum4(t *testing.T) {
	for _, c := range []struct {
		src, dst [4]byte
		proto    uint8
		length   uint16
	}{
		{[4]byte{10, 0, 3, 7}, [4]byte{10, 0, 9, 9}, ProtoTCP, 20},
		{[4]byte{255, 255, 255, 255}, [4]byte{255, 255, 255, 255}, 255, 65535},
		{proto: ProtoUDP},
	} {
		header := append(append(append([]byte{}, c.src[:]...), c.dst[:]...), 0, c.proto, byte(c.length>>8), byte(c.length))
		if got, want := Fold(PseudoSum4(c.src, c.dst, c.proto, c.length)), slowSum(header, 0); got != want {
			t.Errorf("%+v: sum is %04x, want %04x", c, got, want)
		}
	}
}

func TestPseudoSum6(t *testing.T) {
	ones := [16]byte(bytes.Repeat([]byte{0xff}, 16))
	for _, c := range []struct {
		src, dst [16]byte
		proto    uint8
		length   uint32
	}{
		{mapped("2001:db8::7"), mapped("2001:db8:9::9"), ProtoTCP, 20},
		{ones, ones, 255, 65535},
		{ones, ones, 255, 0xffffffff},
		{proto: ProtoUDP},
	} {
		header := append(append([]byte{}, c.src[:]...), c.dst[:]...)
		header = append(binary.BigEndian.AppendUint32(header, c.length), 0, 0, 0, c.proto)
		got := PseudoSum6(c.src, c.dst, c.proto, c.length)
		if want := slowSum(header, 0); Fold(got) != want || got >= 1<<17 {
			t.Errorf("%+v: sum is %#x, want %04x", c, got, want)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 40, 1460, 8460, 65535} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			var sum uint32
			for b.Loop() {
				sum = Sum(data, sum&0xffff)
			}
		})
	}
}
