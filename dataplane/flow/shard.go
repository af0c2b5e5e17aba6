// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// Handle is an entry number of a table. It names a flow from Open to Close and may then name another.
type Handle = uint32

// entry is what a shard must know of its entries of type E. The zero entry is not open.
type entry[E any] interface {
	*E
	isOpen() bool
	nextFree() *uint32 // a field that is of no use while the entry is not open
}

// shard is what the tables of a worker have in common: entries by number, and an index that finds their numbers by hash.
// What a key is, and how many an entry has, is for the table to know.
//
// A new flow takes the entry closed last, and one never used where there is none: last in, first out, because such an
// entry is still in the cache, and because the table then never touches more memory than its busiest moment needed. The
// list of closed entries runs through the entries themselves.
type shard[E any, P entry[E]] struct {
	key     HashKey
	index   index
	entries []E
	free    uint32 // entry number + 1 of the entry closed last; 0: none
	high    uint32 // entries from this number on have never been used
	cursor  uint32 // where Sweep goes on
	live    int
}

// newShard makes a shard of limit entries that have so many keys all told.
func newShard[E any, P entry[E]](limit, keys int, key HashKey) shard[E, P] {
	return shard[E, P]{key: key, index: newIndex(keys), entries: make([]E, limit)}
}

// Len is the number of flows in the table.
func (t *shard[E, P]) Len() int { return t.live }

// Max is the number of flows the table has room for.
func (t *shard[E, P]) Max() int { return len(t.entries) }

// HighWater is the largest number of flows the table has held at once. All entry numbers in use are below it.
func (t *shard[E, P]) HighWater() int { return int(t.high) }

// Touch reads the index where the search for hash begins, and so brings it into the cache for a search to come. It
// returns what it read, for the caller to use in some way, or the read would be optimised away.
func (t *shard[E, P]) Touch(hash uint64) uint64 { return t.index[t.index.home(hash)] }

// full says whether there is no entry for take.
func (t *shard[E, P]) full() bool { return t.live == len(t.entries) }

// open says whether h names an open flow.
func (t *shard[E, P]) open(h Handle) bool { return h < t.high && P(&t.entries[h]).isOpen() }

// take removes an entry from those that are free. There must be one.
func (t *shard[E, P]) take() Handle {
	t.live++
	if t.free == 0 {
		t.high++
		return t.high - 1
	}
	h := t.free - 1
	t.free = *P(&t.entries[h]).nextFree()
	return h
}

// give adds an entry that has been closed to those that are free.
func (t *shard[E, P]) give(h Handle) {
	*P(&t.entries[h]).nextFree() = t.free
	t.free = h + 1
	t.live--
}

// Sweep visits the open flows among the next n entry numbers, or among all numbers ever used if they are fewer, and
// goes on from there in the next call, around and around. Visit may close the flow it is given. A visit that is a
// method value should be made once, since making one allocates.
func (t *shard[E, P]) Sweep(n int, visit func(h Handle, e *E)) {
	for range min(n, int(t.high)) {
		h := t.cursor
		if t.cursor++; t.cursor >= t.high {
			t.cursor = 0
		}
		if e := &t.entries[h]; P(e).isOpen() {
			visit(h, e)
		}
	}
}

// Walk calls fn for the open flows among the n entry numbers from the given one on. It returns the number to go on
// from, and whether there is nothing left. Between two calls flows come and go: a flow that is open all the while is
// seen exactly once. Fn must not change the entry.
func (t *shard[E, P]) Walk(from uint32, n int, fn func(h Handle, e *E)) (next uint32, done bool) {
	next = from
	for ; n > 0 && next < t.high; n-- {
		if e := &t.entries[next]; P(e).isOpen() {
			fn(next, e)
		}
		next++
	}
	return next, next >= t.high
}
