// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// mapped is an IPv4 address in its IPv4-mapped IPv6 form.
func mapped(v4 uint32) [16]byte {
	a := [16]byte{10: 0xff, 11: 0xff}
	binary.BigEndian.PutUint32(a[12:], v4)
	return a
}

func testKey() HashKey { return NewHashKey([16]byte([]byte("0123456789abcdef"))) }

// TestHashIsStable holds the hash to values that a shard in a file may have been built with.
func TestHashIsStable(t *testing.T) {
	key := Key{Remote: mapped(0x0a000001), RemotePort: 49152, LocalPort: 443, ENI: 7}
	v6 := Key{
		Remote:     [16]byte{0x20, 0x01, 0x0d, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		RemotePort: 1, LocalPort: 2, ENI: 3,
	}
	for _, c := range []struct {
		name string
		key  *Key
		want uint64
	}{
		{"IPv4", &key, 0x0c1fbd7d61184fe0},
		{"IPv6", &v6, 0xfc569f2bb6421636},
		{"zero", &Key{}, 0xf32263cbf5c19768},
	} {
		if got := testKey().Hash(c.key); got != c.want {
			t.Errorf("%s: %#016x, want %#016x", c.name, got, c.want)
		}
	}
}

// fold is the product of two numbers with its halves joined by XOR, in arithmetic of any size.
func fold(a, b uint64) uint64 {
	p := new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
	low := new(big.Int).And(p, new(big.Int).SetUint64(math.MaxUint64))
	return low.Uint64() ^ p.Rsh(p, 64).Uint64()
}

// slowHash is Hash by its definition.
func slowHash(k HashKey, key *Key) uint64 {
	var ports [8]byte
	binary.LittleEndian.PutUint16(ports[0:], key.RemotePort)
	binary.LittleEndian.PutUint16(ports[2:], key.LocalPort)
	binary.LittleEndian.PutUint16(ports[4:], key.ENI)
	a, b := binary.LittleEndian.Uint64(key.Remote[:8]), binary.LittleEndian.Uint64(key.Remote[8:])
	return fold(fold(b^k[0], binary.LittleEndian.Uint64(ports[:])^k[1])^a, k[1])
}

func TestHashMatchesItsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		k := HashKey{r.Uint64(), r.Uint64()}
		key := Key{RemotePort: uint16(r.Uint32()), LocalPort: uint16(r.Uint32()), ENI: uint16(r.Uint32())}
		binary.LittleEndian.PutUint64(key.Remote[:], r.Uint64())
		binary.LittleEndian.PutUint64(key.Remote[8:], r.Uint64())
		if got, want := k.Hash(&key), slowHash(k, &key); got != want {
			t.Fatalf("%v under %v: %#x, want %#x", key, k, got, want)
		}
	}
}

// TestHashSpreads checks both halves of the hash on the regular keys that traffic has.
func TestHashSpreads(t *testing.T) {
	patterns := map[string]func(i uint32) Key{
		"client ports": func(i uint32) Key {
			return Key{Remote: mapped(0x0a000001 + i>>15), RemotePort: uint16(32768 + i&32767), LocalPort: 443, ENI: 1}
		},
		"NAT ports": func(i uint32) Key {
			return Key{Remote: mapped(0x0a010001 + i%8), RemotePort: 8080, LocalPort: uint16(NATBase + i/8), ENI: 2}
		},
		"client addresses": func(i uint32) Key {
			return Key{Remote: mapped(0x0a000000 + i), RemotePort: 40000, LocalPort: 443, ENI: 1}
		},
		"client subnets": func(i uint32) Key {
			return Key{Remote: mapped(i << 8), RemotePort: 40000, LocalPort: 443, ENI: 1}
		},
		"ENIs": func(i uint32) Key {
			return Key{Remote: mapped(0x0a000001), RemotePort: uint16(40000 + i>>12), LocalPort: 443, ENI: uint16(i & 4095)}
		},
		"IPv6 interfaces": func(i uint32) Key {
			k := Key{Remote: [16]byte{0x20, 0x01, 0x0d, 0xb8}, RemotePort: 40000, LocalPort: 443, ENI: 1}
			binary.BigEndian.PutUint32(k.Remote[12:], i)
			return k
		},
		"IPv6 networks": func(i uint32) Key {
			k := Key{Remote: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}, RemotePort: 40000, LocalPort: 443, ENI: 1}
			binary.BigEndian.PutUint32(k.Remote[4:], i)
			return k
		},
	}
	for name, pattern := range patterns {
		checkSpread(t, name, func(i uint32) uint64 {
			key := pattern(i)
			return testKey().Hash(&key)
		})
	}
}

// checkSpread puts a series of hashes to a chi-squared test, each half of them over 4,096 buckets of 32 hashes each. The
// statistic has mean 4,095 and standard deviation 90. Evener than random is as good.
func checkSpread(t *testing.T, name string, hash func(i uint32) uint64) {
	t.Helper()
	const buckets, perBucket = 4096, 32
	var high, low [buckets]int
	for i := range uint32(buckets * perBucket) {
		h := hash(i)
		high[h>>52]++
		low[uint32(h)>>20]++
	}
	for half, counts := range map[string]*[buckets]int{"high": &high, "low": &low} {
		chi := 0.0
		for _, n := range counts {
			d := float64(n - perBucket)
			chi += d * d / perBucket
		}
		t.Logf("%s, %s half: %.0f", name, half, chi)
		if chi > 4095+6*90 {
			t.Errorf("%s, %s half: chi-squared %.0f, far above 4095", name, half, chi)
		}
	}
}

// TestHashAvalanche flips each bit of keys and wants about half of the bits of the hash to change on average.
func TestHashAvalanche(t *testing.T) {
	const rounds = 2000
	r := rand.New(rand.NewPCG(3, 4))
	for bit := range 22 * 8 {
		changed := 0
		for range rounds {
			key := Key{
				Remote: mapped(r.Uint32()), RemotePort: uint16(r.Uint32()), LocalPort: uint16(r.Uint32()), ENI: uint16(r.Uint32()),
			}
			before := testKey().Hash(&key)
			switch {
			case bit < 128:
				key.Remote[bit/8] ^= 1 << (bit % 8)
			case bit < 144:
				key.RemotePort ^= 1 << (bit - 128)
			case bit < 160:
				key.LocalPort ^= 1 << (bit - 144)
			default:
				key.ENI ^= 1 << (bit - 160)
			}
			changed += bits.OnesCount64(before ^ testKey().Hash(&key))
		}
		if mean := float64(changed) / rounds; mean < 24 || mean > 40 {
			t.Errorf("bit %d changes %.1f bits of the hash on average", bit, mean)
		}
	}
}

func TestNewHashKeySpreads(t *testing.T) {
	seen := map[uint64]bool{}
	for bit := range 129 {
		var key [16]byte
		if bit < 128 {
			key[bit/8] = 1 << (bit % 8)
		}
		k := NewHashKey(key)
		for _, word := range k {
			if n := bits.OnesCount64(word); n < 12 || n > 52 {
				t.Errorf("bit %d: word %#x is nearly uniform", bit, word)
			}
		}
		if seen[k[1]] {
			t.Errorf("bit %d: the second word has been seen", bit)
		}
		seen[k[1]] = true
	}
}

// BenchmarkHash hashes keys that do not wait for each other, as those of a batch.
func BenchmarkHash(b *testing.B) {
	k := testKey()
	var keys [64]Key
	for i := range keys {
		keys[i] = Key{Remote: mapped(uint32(i)), RemotePort: 1, LocalPort: 443, ENI: 1}
	}
	var sum uint64
	for i := 0; b.Loop(); i++ {
		sum ^= k.Hash(&keys[i%len(keys)])
	}
	_ = sum
}
