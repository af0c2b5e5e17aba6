// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// BytesPerSticky is what a flow costs in a full StickyTable, in bytes: its entry and its share of the index.
const BytesPerSticky = 124

var (
	_ [BytesPerSticky]struct{} = [StickyEntrySize + slotsPerPair*slotSize/2]struct{}{}
	_ [BytesPerFlow - BytesPerSticky]struct{}
)

// What a flow cookie has room for.
const (
	MaxStickyWorkers = 1 << workerBits // workers of an engine
	MaxStickyFlows   = 1 << numberBits // flows of one worker
)

// StickyTable is one worker's shard of the flows through Gateway Load Balancer endpoints, which are those of both
// directions under one key. It belongs to that worker, which alone calls its methods; nothing locks. Nothing but
// NewSticky allocates.
type StickyTable struct {
	shard
	entries []StickyEntry // the link of one that is closed is in ISN[0]
	cookies cookies
	worker  uint32
}

// NewSticky makes the table of a worker, from 0 to MaxStickyWorkers-1, for at most limit flows, itself at most
// MaxStickyFlows. Key is the secret of the hash and of the cookies; all workers of an engine must have the same. For
// memory see NewTable; a flow costs BytesPerSticky bytes.
func NewSticky(limit int, key HashKey, worker int) *StickyTable {
	limit = min(max(limit, 0), MaxStickyFlows)
	s, m := newShard(limit, 1, key)
	entries, n := newArray[StickyEntry](limit)
	return keep(&StickyTable{shard: s, entries: entries, cookies: newCookies(key), worker: uint32(worker)}, m, n)
}

// Hash is the hash under which the table looks for key, the same in the tables of all workers.
func (t *StickyTable) Hash(key *StickyKey) uint64 { return t.key.HashSticky(key) }

// Find looks for the flow of key, whose Hash is hash. H is 0 where there is none.
func (t *StickyTable) Find(key *StickyKey, hash uint64) (h Handle, ok bool) {
	_, h, ok = t.probe(key, hash)
	return h, ok
}

// probe looks for key along the index. It returns the position of its slot and the entry number, or the position of the
// empty slot where it would go.
func (t *StickyTable) probe(key *StickyKey, hash uint64) (i int, h Handle, ok bool) {
	i, h, ok = t.index.seek(t.index.home(hash), hash)
	for ok && t.entries[h].Key != *key {
		i, h, ok = t.index.seek(t.index.next(i), hash)
	}
	return i, h, ok
}

// Open adds a flow for key, whose Hash is hash. It sets Key, a Cookie, and State to Opening, and leaves all else zero. It
// returns false, and changes nothing, when the table is full or when there is such a flow already.
func (t *StickyTable) Open(key *StickyKey, hash uint64) (Handle, bool) {
	if t.full() {
		return 0, false
	}
	i, _, taken := t.probe(key, hash)
	if taken {
		return 0, false
	}
	h := t.vacant()
	e := &t.entries[h]
	t.take(h, e.ISN[0])
	*e = StickyEntry{Key: *key, State: Opening, generation: e.generation}
	t.index.put(i, slot(hash, h))
	t.Renew(h)
	return h, true
}

// At is the entry of an open flow. The pointer is valid until the flow is closed. The caller may change all fields but
// Key and Cookie, and must not set State to Free.
func (t *StickyTable) At(h Handle) *StickyEntry { return &t.entries[h] }

// Renew gives a flow another Cookie: that of the entry's next generation. The old one names nothing from then on, and
// comes back after 63 others of the same entry, or 62 where one of them would be 0. It does nothing where h names no open
// flow.
func (t *StickyTable) Renew(h Handle) {
	if h >= t.high || t.entries[h].State == Free {
		return
	}
	for e := &t.entries[h]; ; {
		e.generation = (e.generation + 1) % generations
		if e.Cookie = t.cookies.cookie(t.worker, h, e.generation); e.Cookie != 0 {
			return
		}
	}
}

// ByCookie is the open flow whose Cookie this is. H is 0 where there is none: where the cookie is another worker's, that
// of a flow closed or renewed since, or made up.
func (t *StickyTable) ByCookie(cookie uint32) (h Handle, ok bool) {
	// No other entry can have the cookie of this one, and one that is not open has 0.
	h = t.cookies.handle(cookie)
	if cookie == 0 || h >= t.high || t.entries[h].Cookie != cookie {
		return 0, false
	}
	return h, true
}

// CookieWorker is the worker that has the flow of a cookie, if there is one, and else any from 0 to MaxStickyWorkers-1,
// which need not exist. All workers' tables agree on it.
func (t *StickyTable) CookieWorker(cookie uint32) int { return t.cookies.worker(cookie) }

// Close removes a flow and zeroes its entry, but for the generation, so that the flows to come have other cookies. It does
// nothing where h names no open flow.
func (t *StickyTable) Close(h Handle) {
	if h >= t.high || t.entries[h].State == Free {
		return
	}
	e := &t.entries[h]
	t.index.remove(slot(t.Hash(&e.Key), h))
	*e = StickyEntry{ISN: [2]uint32{t.give(h)}, generation: e.generation}
}

// Sweep visits open flows as Table.Sweep does.
func (t *StickyTable) Sweep(n int, visit func(h Handle, e *StickyEntry)) {
	for range min(n, int(t.high)) {
		h := t.turn()
		if e := &t.entries[h]; e.State != Free {
			visit(h, e)
		}
	}
}

// Walk calls fn for open flows as Table.Walk does.
func (t *StickyTable) Walk(from uint32, n int, fn func(h Handle, e *StickyEntry)) (next uint32, done bool) {
	next, done = t.chunk(from, n)
	for h := from; h < next; h++ {
		if e := &t.entries[h]; e.State != Free {
			fn(h, e)
		}
	}
	return next, done
}
