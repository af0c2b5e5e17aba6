// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// An index has slotsPerPair slots for every two keys it is to hold. A full table leaves a third of it empty: a hit then
// looks at two slots on average and a miss at five, which is one cache line or two.
const (
	slotsPerPair = 3
	slotSize     = 8 // bytes
)

// maxSlots is the length of the longest index: its positions fit in 32 bits.
const maxSlots = 1<<32 - 1

// index finds entry numbers by hash: open addressing with linear probing. A slot is 0 when empty, else the high 32 bits
// of the hash above the entry number + 1. The slot alone therefore says where it would like to be, and removing one
// moves its successors back without a look at any entry, leaving no tombstones.
type index []uint64

// newIndex makes an index for so many keys. One slot at least stays empty, which ends every search.
func newIndex(keys int) (index, mapping) {
	return newArray[uint64]((slotsPerPair*max(keys, 1) + 1) / 2)
}

// slot is what the index holds for an entry number under a hash.
func slot(hash uint64, h uint32) uint64 { return hash&^0xffffffff | uint64(h) + 1 }

// number is the entry number in a slot that is not empty.
func number(s uint64) uint32 { return uint32(s) - 1 }

// home is where the search for a hash, or for the hash in a slot, begins. It scales the high 32 bits of the hash to the
// length of the index, by a multiplication where a remainder would divide.
func (x index) home(hash uint64) int { return int(hash >> 32 * uint64(len(x)) >> 32) }

// next is the position after i.
func (x index) next(i int) int {
	if i++; i < len(x) {
		return i
	}
	return 0
}

// seek goes from position i on to a slot that agrees with hash in 32 bits, and says which entry it names, for the caller
// to confirm by the entry's key. It ends at an empty slot: then there is no further one.
func (x index) seek(i int, hash uint64) (at int, h uint32, ok bool) {
	for ; x[i] != 0; i = x.next(i) {
		if (x[i]^hash)>>32 == 0 {
			return i, number(x[i]), true
		}
	}
	return i, 0, false
}

// put writes a slot to the first empty position from i on.
func (x index) put(i int, s uint64) {
	for x[i] != 0 {
		i = x.next(i)
	}
	x[i] = s
}

// behind is how far position i lies after position from, going forward and around.
func (x index) behind(i, from int) int {
	if i >= from {
		return i - from
	}
	return i - from + len(x)
}

// remove takes slot s out, if it is there.
func (x index) remove(s uint64) {
	hole := x.home(s)
	for ; x[hole] != s; hole = x.next(hole) {
		if x[hole] == 0 {
			return
		}
	}
	// A later slot of the same run may move into the hole unless it would then come before its home.
	for i := x.next(hole); x[i] != 0; i = x.next(i) {
		if x.behind(i, x.home(x[i])) >= x.behind(i, hole) {
			x[hole], hole = x[i], i
		}
	}
	x[hole] = 0
}
