// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"testing"
)

// mapped is an IPv4 address in its IPv4-mapped IPv6 form.
func mapped(v4 uint32) [16]byte {
	a := [16]byte{10: 0xff, 11: 0xff}
	binary.BigEndian.PutUint32(a[12:], v4)
	return a
}

// slowHash is SipHash-2-4 as its paper states it (Aumasson, Bernstein: SipHash, a fast short-input PRF, 2012).
func slowHash(key [16]byte, message []byte) uint64 {
	k0, k1 := halves(key)
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0] += v[1]
			v[2] += v[3]
			v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
			v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
			v[0] = bits.RotateLeft64(v[0], 32)
			v[2] += v[1]
			v[0] += v[3]
			v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
			v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	padded := append([]byte{}, message...)
	for len(padded)%8 != 7 {
		padded = append(padded, 0)
	}
	padded = append(padded, byte(len(message)))
	for ; len(padded) > 0; padded = padded[8:] {
		m := binary.LittleEndian.Uint64(padded)
		v[3] ^= m
		rounds(2)
		v[0] ^= m
	}
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

// TestHashLayout spells out the bytes that are hashed.
func TestHashLayout(t *testing.T) {
	v6 := func(last byte) [16]byte { return [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: last} }
	for _, c := range []struct {
		name         string
		proto        uint8
		src, dst     [16]byte
		sport, dport uint16
		isn          uint32
		bytes        string
	}{
		{
			"TCP over IPv4", 6, mapped(0x0a000001), mapped(0x0a000102), 0xc001, 443, 0x01020304,
			"06" + "00000000000000000000ffff0a000001" + "00000000000000000000ffff0a000102" + "c001" + "01bb" + "01020304",
		},
		{
			"UDP over IPv6", 17, v6(1), v6(2), 0xc001, 53, 0,
			"11" + "20010db8000000000000000000000001" + "20010db8000000000000000000000002" + "c001" + "0035" + "00000000",
		},
	} {
		message, err := hex.DecodeString(c.bytes)
		if err != nil {
			t.Fatal(err)
		}
		got := Hash(testKey(), c.proto, c.src, c.dst, c.sport, c.dport, c.isn)
		if want := slowHash(testKey(), message); got != want {
			t.Errorf("%s: %#x, want %#x", c.name, got, want)
		}
	}
}

// TestSlowHash holds the oracle to the vector of the paper's appendix A.
func TestSlowHash(t *testing.T) {
	var key [16]byte
	message := make([]byte, 15)
	for i := range key {
		key[i] = byte(i)
	}
	copy(message, key[:])
	if got := slowHash(key, message); got != 0xa129ca6149be45e5 {
		t.Errorf("%#x, want 0xa129ca6149be45e5", got)
	}
}

// TestSequenceNumberMatters finds that connections of one client and port spread over the targets.
func TestSequenceNumberMatters(t *testing.T) {
	const connections = 10_000
	table := Build(testKey(), testNames(4), 1009)
	var counts [4]int
	for isn := range uint32(connections) {
		counts[table.Pick(Hash(testKey(), 6, mapped(1), mapped(2), 40000, 443, isn<<8))]++
	}
	for n, count := range counts {
		if count < connections/4*9/10 || count > connections/4*11/10 {
			t.Errorf("target %d has %d of %d connections", n, count, connections)
		}
	}
}

func TestChoiceDoesNotAllocate(t *testing.T) {
	table := Build(testKey(), testNames(4), 1009)
	key, src, dst := testKey(), mapped(1), mapped(2)
	sum := 0
	if n := testing.AllocsPerRun(100, func() { sum += table.Pick(Hash(key, 6, src, dst, 40000, 443, 1)) }); n != 0 {
		t.Errorf("Hash and Pick allocate %v times", n)
	}
}

func BenchmarkHash(b *testing.B) {
	key, src, dst := testKey(), mapped(1), mapped(2)
	for isn := uint32(0); b.Loop(); isn++ {
		Hash(key, 6, src, dst, 40000, 443, isn)
	}
}
