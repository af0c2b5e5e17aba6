// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// Handle is an entry number of a table. It names a flow from Open to Close and may then name another.
type Handle = uint32

// shard is what the tables of a worker have in common: the index, and which entry numbers are in use. What an entry is,
// and how many keys it has, is for the table to know.
//
// A new flow takes the entry closed last, and one never used where there is none: last in, first out, because such an
// entry is still in the cache, and because the table then never touches more memory than its busiest moment needed. The
// list of closed entries runs through the entries themselves: each keeps a link, in a field that is of no other use to
// it, and which is 0 in the zero entry.
type shard struct {
	key    HashKey
	index  index
	limit  int
	free   uint32 // entry number + 1 of the entry closed last; 0: none
	high   uint32 // entries from this number on have never been used
	cursor uint32 // where Sweep goes on
	live   int
}

// newShard makes a shard of limit entries with so many keys each.
func newShard(limit, keys int, key HashKey) (shard, mapping) {
	x, m := newIndex(keys * limit)
	return shard{key: key, index: x, limit: limit}, m
}

// Len is the number of flows in the table.
func (s *shard) Len() int { return s.live }

// Max is the number of flows the table has room for.
func (s *shard) Max() int { return s.limit }

// HighWater is the largest number of flows the table has held at once. All entry numbers in use are below it.
func (s *shard) HighWater() int { return int(s.high) }

// Touch reads the index where the search for hash begins, and so brings it into the cache for a search to come. It
// returns what it read, for the caller to use in some way, or the read would be optimised away.
func (s *shard) Touch(hash uint64) uint64 { return s.index[s.index.home(hash)] }

// full says that no entry is vacant.
func (s *shard) full() bool { return s.live == s.limit }

// vacant is the entry that the next flow takes. There must be one.
func (s *shard) vacant() Handle {
	if s.free != 0 {
		return s.free - 1
	}
	return s.high
}

// take notes that the vacant entry, which has this link, is in use.
func (s *shard) take(h Handle, link uint32) {
	s.free, s.high = link, max(s.high, h+1)
	s.live++
}

// give notes that an entry is in use no more. It returns the link for the entry to keep.
func (s *shard) give(h Handle) (link uint32) {
	link, s.free = s.free, h+1
	s.live--
	return link
}

// turn is the next of all entry numbers ever used, of which there must be one, around and around.
func (s *shard) turn() Handle {
	h := s.cursor
	if s.cursor++; s.cursor >= s.high {
		s.cursor = 0
	}
	return h
}

// chunk is where n entry numbers from the given one on end, and whether that is the end of all ever used.
func (s *shard) chunk(from uint32, n int) (end uint32, done bool) {
	end = from + uint32(max(min(n, int(s.high)-int(from)), 0))
	return end, end >= s.high
}
