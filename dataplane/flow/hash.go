// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"math/bits"
)

// HashKey is the secret of a flow hash. Use NewHashKey.
type HashKey [2]uint64

// NewHashKey spreads a state's 128-bit hash key, bits of which may be few or regular, over the words of a HashKey.
func NewHashKey(key [16]byte) HashKey {
	low := mix(binary.LittleEndian.Uint64(key[:8]))
	high := mix(binary.LittleEndian.Uint64(key[8:]) ^ low)
	return HashKey{low, high}
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014),
// a bijection in which every input bit reaches every output bit.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Hash is the keyed hash of a flow's key in one direction. The halves of the result are each fit to be used alone:
// Table takes the high 32 bits, so whoever spreads flows over tables must take the low ones, or every table would fill
// only its part of the index.
//
// It is two multiplications of 64 by 64 to 128 bits, each folded by XOR of its halves and each with a secret in it, so
// that a stranger who chooses addresses and ports can't choose where they land; results must not be shown to him.
// SipHash would be safe even then, but takes several times as long, and nothing here shows results. hash/maphash is
// fast too, but its seed can't be set: the key has to come from the state, so that all workers and a shard that
// outlives the process agree. The result is the same on every machine and must not change between releases.
func (k HashKey) Hash(key *Key) uint64 {
	ports := uint64(key.RemotePort) | uint64(key.LocalPort)<<16 | uint64(key.ENI)<<32
	high, low := bits.Mul64(binary.LittleEndian.Uint64(key.Remote[8:])^k[0], ports^k[1])
	// The upper half of the address joins last because it is constant in IPv4, where it would cost a round.
	high, low = bits.Mul64(high^low^binary.LittleEndian.Uint64(key.Remote[:8]), k[1])
	return high ^ low
}

// pair is the keyed hash of two addresses in their order and of a word with all else that counts. It is made as Hash is,
// and what is said there holds here. Words meet in a multiplication, or one of them in a number that has a secret in it:
// joined by XOR alone they could be chosen to cancel. The last round adds nothing but distance: a word that has been
// through one multiplication only, such as networks counted up, would fill the index unevenly under many secrets.
func (k HashKey) pair(a, b *[16]byte, rest uint64) uint64 {
	high, low := bits.Mul64(binary.LittleEndian.Uint64(a[8:])^k[0], binary.LittleEndian.Uint64(b[8:])^k[1])
	high, low = bits.Mul64(high^low^binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(b[:8])^k[1])
	high, low = bits.Mul64(high^low^rest, k[1])
	high, low = bits.Mul64(high^low, k[1])
	return high ^ low
}
