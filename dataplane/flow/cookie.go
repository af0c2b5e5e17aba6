// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// Bits of a flow cookie before it is enciphered, from the top: worker, entry number, generation.
const (
	workerBits     = 6
	numberBits     = 20
	generationBits = 6

	generations = 1 << generationBits
)

var _ [32]struct{} = [workerBits + numberBits + generationBits]struct{}{}

// cookies makes the flow cookies that name flows to appliances. A cookie is the worker, the entry number and a
// generation of the entry, enciphered, so that whoever has the key can tell where the flow is, and nobody can tell the
// next cookie from the last by counting.
//
// The cipher is a permutation of 32 bits: a Feistel network of four rounds, which Luby and Rackoff (How to Construct
// Pseudorandom Permutations, 1988) show to be as good as its round function. Here that is one multiplication, enough
// against guesses, not against somebody who gathers cookies to compute the key; the return check also asks for the
// target's address and the inner tuple. A plain product of 64 bits lets a BPF program do the same.
type cookies struct {
	add, mul [4]uint64 // secrets of the rounds
}

// newCookies derives the secrets of the rounds from those of the hash in a way that does not lead back, since cookies
// are shown to strangers and hashes must not be.
func newCookies(key HashKey) (c cookies) {
	for i := range c.add {
		n := uint64(i)
		c.add[i] = mix(key[0]+2*n) ^ mix(key[1]-2*n)
		c.mul[i] = mix(key[0]+2*n+1) ^ mix(key[1]-2*n-1) | 1
	}
	return c
}

// round is the upper 16 bits of a product, those that all bits of its factors reach.
func (c *cookies) round(i int, half uint32) uint32 {
	return uint32((uint64(half) + c.add[i]) * c.mul[i] >> 48)
}

func (c *cookies) seal(plain uint32) uint32 {
	l, r := plain>>16, plain&0xffff
	for i := range c.add {
		l, r = r, l^c.round(i, r)
	}
	return l<<16 | r
}

func (c *cookies) unseal(cookie uint32) uint32 {
	l, r := cookie>>16, cookie&0xffff
	for i := len(c.add) - 1; i >= 0; i-- {
		l, r = r^c.round(i, l), l
	}
	return l<<16 | r
}

// cookie is the cookie of a generation of an entry.
func (c *cookies) cookie(worker uint32, h Handle, generation uint8) uint32 {
	return c.seal(worker<<(numberBits+generationBits) | h<<generationBits | uint32(generation))
}

// worker is the worker that a cookie names.
func (c *cookies) worker(cookie uint32) int {
	return int(c.unseal(cookie) >> (numberBits + generationBits))
}

// handle is the entry number that a cookie names.
func (c *cookies) handle(cookie uint32) Handle {
	return c.unseal(cookie) >> generationBits & (1<<numberBits - 1)
}
