// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestNewStickyKey(t *testing.T) {
	low, high := mapped(0x0a000001), mapped(0x0a000002)
	type key = StickyKey
	for _, c := range []struct {
		name         string
		kind         Kind
		proto        uint8
		src, dst     [16]byte
		sport, dport uint16
		want         StickyKey
		reverse      bool
	}{
		{"TCP", FiveTuple, 6, low, high, 40000, 443, key{A: low, B: high, APort: 40000, BPort: 443, Proto: 6}, false},
		{"TCP back", FiveTuple, 6, high, low, 443, 40000, key{A: low, B: high, APort: 40000, BPort: 443, Proto: 6}, true},
		{"UDP back", FiveTuple, 17, high, low, 1, 2, key{A: low, B: high, APort: 2, BPort: 1, Proto: 17}, true},
		{"ICMP", FiveTuple, 1, low, high, 8, 0, key{A: low, B: high, Proto: 1, Kind: ThreeTuple}, false},
		{"GRE back", FiveTuple, 47, high, low, 1, 2, key{A: low, B: high, Proto: 47, Kind: ThreeTuple}, true},
		{"three", ThreeTuple, 6, low, high, 3, 4, key{A: low, B: high, Proto: 6, Kind: ThreeTuple}, false},
		{"two back", TwoTuple, 6, high, low, 3, 4, key{A: low, B: high, Kind: TwoTuple}, true},
		{"one host", FiveTuple, 6, low, low, 3, 4, key{A: low, B: low, APort: 3, BPort: 4, Proto: 6}, false},
		{"one host back", FiveTuple, 6, low, low, 4, 3, key{A: low, B: low, APort: 3, BPort: 4, Proto: 6}, true},
		{"one end", FiveTuple, 6, low, low, 3, 3, key{A: low, B: low, APort: 3, BPort: 3, Proto: 6}, false},
		{"one host without ports", ThreeTuple, 6, low, low, 4, 3, key{A: low, B: low, Proto: 6, Kind: ThreeTuple}, false},
	} {
		c.want.Scope = 9
		got, reverse := NewStickyKey(c.kind, 9, c.proto, c.src, c.dst, c.sport, c.dport)
		if got != c.want || reverse != c.reverse {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.name, got, reverse, c.want, c.reverse)
		}
	}
}

// header is what NewStickyKey is given.
type header struct {
	kind         Kind
	scope        uint16
	proto        uint8
	src, dst     [16]byte
	sport, dport uint16
}

func (h header) key() (StickyKey, bool) {
	return NewStickyKey(h.kind, h.scope, h.proto, h.src, h.dst, h.sport, h.dport)
}

func (h header) back() header {
	h.src, h.dst, h.sport, h.dport = h.dst, h.src, h.dport, h.sport
	return h
}

// sameFlow is what a key is for, said without one.
func (h header) sameFlow(o header) bool {
	if h.scope != o.scope {
		return false
	}
	sameEnds := func(o header) bool {
		switch h.counts() {
		case FiveTuple:
			return h.proto == o.proto && h.src == o.src && h.dst == o.dst && h.sport == o.sport && h.dport == o.dport
		case ThreeTuple:
			return h.proto == o.proto && h.src == o.src && h.dst == o.dst
		}
		return h.src == o.src && h.dst == o.dst
	}
	return h.counts() == o.counts() && (sameEnds(o) || sameEnds(o.back()))
}

func (h header) counts() Kind {
	if h.kind == FiveTuple && h.proto != 6 && h.proto != 17 {
		return ThreeTuple
	}
	return h.kind
}

func drawHeader(t *rapid.T) header {
	address := rapid.SampledFrom([][16]byte{mapped(0x0a000001), mapped(0x0a0000ff), {0x20, 1, 15: 1}, {0x20, 1, 7: 1}})
	return header{
		kind:  Kind(rapid.IntRange(int(FiveTuple), int(TwoTuple)).Draw(t, "kind")),
		scope: rapid.Uint16Range(0, 1).Draw(t, "scope"),
		proto: rapid.SampledFrom([]uint8{1, 6, 17}).Draw(t, "proto"),
		src:   address.Draw(t, "src"), dst: address.Draw(t, "dst"),
		sport: rapid.Uint16Range(255, 257).Draw(t, "sport"), dport: rapid.Uint16Range(255, 257).Draw(t, "dport"),
	}
}

// TestStickyKeyIsTheFlow wants equal keys for packets of one flow and no others, and the directions told apart.
func TestStickyKeyIsTheFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawHeader(t), drawHeader(t)
		if rapid.Bool().Draw(t, "related") { // else they hardly ever are
			ports := [2]uint16{b.sport, b.dport}
			b = a
			b.sport, b.dport = ports[0], ports[1]
		}
		key, reverse := a.key()
		back, reverseBack := a.back().key()
		if key != back {
			t.Fatalf("%+v has key %+v, the way back %+v", a, key, back)
		}
		toItself := a.src == a.dst && (a.counts() != FiveTuple || a.sport == a.dport)
		if toItself && (reverse || reverseBack) || !toItself && reverse == reverseBack {
			t.Fatalf("%+v: reverse is %v, and %v on the way back", a, reverse, reverseBack)
		}
		other, _ := b.key()
		if (key == other) != a.sameFlow(b) {
			t.Fatalf("%+v and %+v have keys %+v and %+v", a, b, key, other)
		}
	})
}

// TestStickyHashIsStable holds the hash to values that a shard in a file may have been built with.
func TestStickyHashIsStable(t *testing.T) {
	v4 := StickyKey{A: mapped(0x0a000001), B: mapped(0x0a000002), APort: 49152, BPort: 443, Scope: 7, Proto: 6}
	v6 := StickyKey{
		A:    [16]byte{0x20, 0x01, 0x0d, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		B:    [16]byte{0x20, 0x01, 0x0d, 0xb8, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1},
		Kind: TwoTuple,
	}
	for _, c := range []struct {
		name string
		key  *StickyKey
		want uint64
	}{
		{"IPv4", &v4, 0x53a6dc57f6d3a5c4},
		{"IPv6", &v6, 0x6fc7a215a632cdf3},
		{"zero", &StickyKey{}, 0x3c7b2c0a4bfa0b5b},
	} {
		if got := testKey().HashSticky(c.key); got != c.want {
			t.Errorf("%s: %#016x, want %#016x", c.name, got, c.want)
		}
	}
}

// slowHashSticky is HashSticky by its definition.
func slowHashSticky(k HashKey, key *StickyKey) uint64 {
	var rest [8]byte
	binary.LittleEndian.PutUint16(rest[0:], key.APort)
	binary.LittleEndian.PutUint16(rest[2:], key.BPort)
	binary.LittleEndian.PutUint16(rest[4:], key.Scope)
	rest[6], rest[7] = key.Proto, byte(key.Kind)
	word := binary.LittleEndian.Uint64
	h := fold(word(key.A[8:])^k[0], word(key.B[8:])^k[1])
	h = fold(h^word(key.A[:8]), word(key.B[:8])^k[1])
	return fold(fold(h^word(rest[:]), k[1]), k[1])
}

// stickyBits is the size of a key.
const stickyBits = 40 * 8

// flipSticky is the key with one bit changed.
func flipSticky(k StickyKey, bit int) StickyKey {
	switch i := bit / 8; {
	case i < 16:
		k.A[i] ^= 1 << (bit % 8)
	case i < 32:
		k.B[i-16] ^= 1 << (bit % 8)
	case i < 34:
		k.APort ^= 1 << (bit % 16)
	case i < 36:
		k.BPort ^= 1 << (bit % 16)
	case i < 38:
		k.Scope ^= 1 << (bit % 16)
	case i < 39:
		k.Proto ^= 1 << (bit % 8)
	default:
		k.Kind ^= 1 << (bit % 8)
	}
	return k
}

func randomSticky(r *rand.Rand) (k StickyKey) {
	for bit := range stickyBits {
		if r.Uint32()&1 != 0 {
			k = flipSticky(k, bit)
		}
	}
	return k
}

func TestStickyHashMatchesItsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		k, key := HashKey{r.Uint64(), r.Uint64()}, randomSticky(r)
		if got, want := k.HashSticky(&key), slowHashSticky(k, &key); got != want {
			t.Fatalf("%v under %v: %#x, want %#x", key, k, got, want)
		}
	}
}

// TestStickyHashAvalanche flips each bit of keys, with addresses of IPv4 and of IPv6, and wants about half of the bits
// of the hash to change on average.
func TestStickyHashAvalanche(t *testing.T) {
	const rounds = 1000
	r := rand.New(rand.NewPCG(3, 4))
	for bit := range stickyBits {
		changed := 0
		for i := range rounds {
			key := randomSticky(r)
			if i%2 == 0 {
				key.A, key.B = mapped(r.Uint32()), mapped(r.Uint32())
			}
			flipped := flipSticky(key, bit)
			changed += bits.OnesCount64(testKey().HashSticky(&key) ^ testKey().HashSticky(&flipped))
		}
		if mean := float64(changed) / rounds; mean < 24 || mean > 40 {
			t.Errorf("bit %d changes %.1f bits of the hash on average", bit, mean)
		}
	}
}

// stickyPatterns are series of keys as regular as traffic has them.
var stickyPatterns = map[string]func(i uint32) StickyKey{
	"client ports": func(i uint32) StickyKey {
		return StickyKey{A: mapped(0x0a000001 + i>>15), B: mapped(0x0a010001), APort: uint16(32768 + i&32767), BPort: 443, Proto: 6}
	},
	"addresses": func(i uint32) StickyKey {
		return StickyKey{A: mapped(0x0a000000 + i&0xfff), B: mapped(0x0a010000 + i>>12), Proto: 1, Kind: ThreeTuple}
	},
	"scopes": func(i uint32) StickyKey {
		return StickyKey{A: mapped(0x0a000001), B: mapped(0x0a000002 + i>>16), Scope: uint16(i), Kind: TwoTuple}
	},
	"IPv6 networks": func(i uint32) StickyKey {
		k := StickyKey{A: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}, B: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}, Kind: TwoTuple}
		binary.BigEndian.PutUint16(k.A[6:], uint16(i))
		binary.BigEndian.PutUint16(k.B[6:], uint16(i>>16))
		return k
	},
	"IPv6 clients": func(i uint32) StickyKey {
		k := StickyKey{A: [16]byte{0x20, 0x01, 15: 1}, B: [16]byte{0x20, 0x01, 0x0d, 0xb8}, APort: 443, Proto: 6}
		binary.BigEndian.PutUint32(k.B[12:], i>>8)
		k.BPort = uint16(40000 + i&0xff)
		return k
	},
	"IPv6 client networks": func(i uint32) StickyKey {
		k := StickyKey{A: [16]byte{0x20, 0x01, 15: 1}, B: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}, APort: 443, BPort: 40000, Proto: 6}
		binary.BigEndian.PutUint32(k.B[4:], i)
		return k
	},
	"IPv6, ends alike": func(i uint32) StickyKey {
		k := StickyKey{A: [16]byte{0x20, 0x01, 0x0d, 0xb8}, B: [16]byte{0x20, 0x01, 0x0d, 0xb8}, Kind: TwoTuple}
		binary.BigEndian.PutUint32(k.A[4:], i)
		binary.BigEndian.PutUint32(k.B[4:], i)
		return k
	},
}

// TestStickyHashSpreads tries several secrets, since a hash too simple is even under some and not under others.
func TestStickyHashSpreads(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 8 {
		k := HashKey{r.Uint64(), r.Uint64()}
		for name, pattern := range stickyPatterns {
			checkSpread(t, name, func(i uint32) uint64 {
				key := pattern(i)
				return k.HashSticky(&key)
			})
		}
	}
}
