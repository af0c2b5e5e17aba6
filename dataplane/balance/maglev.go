// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/dchest/siphash"
)

// sizes are the lengths that TableSize chooses from: primes, each about four times the one before.
var sizes = [...]int{1009, 4099, 16381, 65537, 262147, 1048583}

// TableSize is the length of table to build for n backends: the smallest of a fixed list of primes that is more than
// 100 times n, which keeps the shares of any two backends within 1 % of each other; the largest of the list, 1,048,583,
// where n is too large for that. The list is coarse because a table of another length is another table throughout:
// passing from one to the next (at 10, 40, 163, 655 and 2,621 backends) chooses anew for most new connections.
func TableSize(n int) int {
	for _, size := range sizes {
		if size > 100*n {
			return size
		}
	}
	return sizes[len(sizes)-1]
}

// maxBackends is how many backends an entry of a table can tell apart.
const maxBackends = 1 << 16

// Table is a Maglev lookup table (Eisenbud et al.: Maglev, A Fast and Reliable Software Network Load Balancer, 2016,
// section 3.4): every backend has an equal share of the entries, and when a backend comes or goes few entries change
// besides those it gains or loses. It is immutable, and safe for concurrent use.
type Table struct {
	entries  []uint16 // positions of backends
	backends int
}

// Build makes the table of the given length for the backends of the given names. The length is usually that of
// TableSize; one that is no prime is raised to the next, and none may be above 2^31. Names identify the backends for
// good, for example "10.0.0.1:443": who gets which entries depends on key and names alone and not on their order, while
// the indices that Pick returns are positions in names. Of two equal names, the first goes first. Backends after the
// 65,536th are never picked.
//
// Build takes time in proportion to the length times its logarithm: milliseconds for hundreds of backends, about ten
// for a thousand. The same arguments make the same table, so keep it while they do not change.
func Build(key [16]byte, names []string, size int) *Table {
	t := &Table{backends: len(names)}
	if len(names) == 0 {
		return t
	}
	size = prime(size)
	t.entries = make([]uint16, size)
	backends := preferences(key, names, size)
	taken := make([]uint64, (size+63)/64) // a bitmap, since most looks find an entry taken, and it fits the cache
	for left := size; left > 0; {
		for i := range backends {
			b := &backends[i]
			for taken[b.next/64]>>(b.next%64)&1 != 0 {
				b.advance(uint32(size))
			}
			taken[b.next/64] |= 1 << (b.next % 64)
			t.entries[b.next] = b.index
			if left--; left == 0 {
				break
			}
		}
	}
	return t
}

// preference is the order in which a backend would like to have the entries of a table: from a first one on in steps of
// skip. As the length is prime, it meets all.
type preference struct {
	next, skip uint32
	index      uint16
}

// advance goes to the next entry of a table of the given length.
func (p *preference) advance(size uint32) {
	if p.next += p.skip; p.next >= size {
		p.next -= size
	}
}

// preferences are those of all backends, in the order of their names, which is that of their turns.
func preferences(key [16]byte, names []string, size int) []preference {
	order := make([]int, min(len(names), maxBackends))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	k0, k1 := halves(key)
	prefs := make([]preference, len(order))
	for i, n := range order {
		offset, skip := siphash.Hash128(k0, k1, []byte(names[n]))
		prefs[i] = preference{
			next:  uint32(offset % uint64(size)),
			skip:  uint32(skip%uint64(size-1)) + 1,
			index: uint16(n),
		}
	}
	return prefs
}

// Pick is the position of the backend for a hash, all 64 bits of which should be uniform, or -1 where there is none.
func (t *Table) Pick(hash uint64) int {
	if len(t.entries) == 0 {
		return -1
	}
	i, _ := bits.Mul64(hash, uint64(len(t.entries)))
	return int(t.entries[i])
}

// Len is the number of backends the table was built for.
func (t *Table) Len() int { return t.backends }

// Size is the length of the table; 0 without backends.
func (t *Table) Size() int { return len(t.entries) }

// prime is the smallest prime that is at least n.
func prime(n int) int {
	n = max(n, 2)
	for !isPrime(n) {
		n++
	}
	return n
}

func isPrime(n int) bool {
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}
