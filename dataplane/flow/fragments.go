// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// FragmentTime is how long the fragments of a packet may follow its first one, in milliseconds: as long as hosts wait
// for them (Linux ipfrag_time; RFC 8200 section 4.5 says 60 s).
const FragmentTime = 30_000

// FragmentKey is what all fragments of a packet have in common and those of other packets have not (RFC 791 section 3.2;
// RFC 8200 section 4.5).
type FragmentKey struct {
	Src, Dst [16]byte // IPv4 in its IPv4-mapped IPv6 form
	ID       uint32   // identification, of 16 bits in IPv4
	Scope    uint16   // as in StickyKey
	Proto    uint8    // IP protocol; 0 in IPv6, where only the first fragment tells it
}

// FirstFragment is what the first fragment of a packet says, and no other. With the FragmentKey it makes the StickyKey.
type FirstFragment struct {
	SrcPort, DstPort uint16 // host byte order
	Proto            uint8
}

// Fragments remembers first fragments, so that those that follow can join a flow in which ports count. It keeps what makes the flow's key
// and no Handle, because a flow may end, and its entry name another, between two fragments. It belongs to one worker,
// which alone calls its methods; nothing locks. Nothing but NewFragments allocates. When it is full, the packet
// remembered longest makes room for the next.
type Fragments struct {
	key     HashKey
	index   index
	entries []fragment
	oldest  int // position of the entry remembered longest; those after it are younger, around and around
	len     int
}

// fragment is an entry of Fragments.
type fragment struct {
	key   FragmentKey
	first FirstFragment
	gone  bool // remembered anew at a later position
	at    uint32
}

// NewFragments makes a table for limit packets, 1 or more, that hashes with key.
func NewFragments(limit int, key HashKey) *Fragments {
	x, m := newIndex(limit)
	entries, n := newArray[fragment](limit)
	return keep(&Fragments{key: key, index: x, entries: entries}, m, n)
}

// Remember notes the first fragment of a packet, in place of one noted before under the same key. Now is engine time in
// milliseconds modulo 2^32, see Elapsed, here and in all methods; it must not go backwards.
func (f *Fragments) Remember(key *FragmentKey, first FirstFragment, now uint32) {
	f.Expire(now)
	hash := f.hash(key)
	if h, ok := f.find(key, hash); ok {
		f.index.remove(slot(hash, h))
		f.entries[h].gone = true
	}
	if f.len == len(f.entries) {
		f.drop()
	}
	h := f.position(f.len)
	f.len++
	f.entries[h] = fragment{key: *key, first: first, at: now}
	f.index.put(f.index.home(hash), slot(hash, uint32(h)))
}

// Lookup is what the first fragment of the packet said, if it is known and no older than FragmentTime.
func (f *Fragments) Lookup(key *FragmentKey, now uint32) (first FirstFragment, ok bool) {
	f.Expire(now)
	h, ok := f.find(key, f.hash(key))
	if !ok {
		return FirstFragment{}, false
	}
	return f.entries[h].first, true
}

// Expire forgets packets whose first fragment is FragmentTime old. Remember and Lookup do so by themselves; a call every
// few days at least keeps an entry from becoming young again when engine time wraps.
func (f *Fragments) Expire(now uint32) {
	for f.len > 0 {
		if e := &f.entries[f.oldest]; !e.gone && !Expired(now, e.at, FragmentTime) {
			return
		}
		f.drop()
	}
}

// drop takes out the oldest entry. There must be one.
func (f *Fragments) drop() {
	if e := &f.entries[f.oldest]; !e.gone {
		f.index.remove(slot(f.hash(&e.key), uint32(f.oldest)))
	}
	f.oldest = f.position(1)
	f.len--
}

// position is that of the i-th entry, counted from the oldest.
func (f *Fragments) position(i int) int {
	if i += f.oldest; i >= len(f.entries) {
		i -= len(f.entries)
	}
	return i
}

func (f *Fragments) hash(key *FragmentKey) uint64 {
	return f.key.pair(&key.Src, &key.Dst, uint64(key.ID)|uint64(key.Scope)<<32|uint64(key.Proto)<<48)
}

func (f *Fragments) find(key *FragmentKey, hash uint64) (h uint32, ok bool) {
	i, h, ok := f.index.seek(f.index.home(hash), hash)
	for ok && f.entries[h].key != *key {
		i, h, ok = f.index.seek(f.index.next(i), hash)
	}
	return h, ok
}
