// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// BytesPerFlow is what a flow costs in a full table, in bytes: its entry and its share of the index, in which it takes
// two slots, one for each direction.
const BytesPerFlow = 128

var _ [BytesPerFlow]struct{} = [EntrySize + slotsPerPair*slotSize]struct{}{}

// maxFlows is the size of the largest table.
const maxFlows = maxSlots / slotsPerPair

// Table is one worker's shard of the connection table. It belongs to that worker, which alone calls its methods;
// nothing locks. Nothing but NewTable allocates.
type Table struct {
	shard
	entries []Entry // the link of one that is closed is in ISN
}

// NewTable makes a table for at most limit flows (itself at most 1,431,655,765) that hashes with key. It reserves
// BytesPerFlow bytes of address space for each, which become resident only as flows use them.
func NewTable(limit int, key HashKey) *Table {
	limit = min(max(limit, 0), maxFlows)
	s, m := newShard(limit, 2, key)
	entries, n := newArray[Entry](limit)
	return keep(&Table{shard: s, entries: entries}, m, n)
}

// Hash is the hash under which the table looks for key.
func (t *Table) Hash(key *Key) uint64 { return t.key.Hash(key) }

// Find looks for the flow that has key in either direction. Reply says that it is the key of the target's packets. H is
// 0 where there is none.
func (t *Table) Find(key *Key) (h Handle, reply, ok bool) { return t.FindHash(key, t.Hash(key)) }

// FindHash is Find for a caller that has Hash(key) already.
func (t *Table) FindHash(key *Key, hash uint64) (h Handle, reply, ok bool) {
	i, reply, ok := t.probe(key, hash)
	if !ok {
		return 0, false, false
	}
	return number(t.index[i]), reply, true
}

// probe looks for key along the index. It returns the position of its slot, or of the empty slot where it would go. A
// slot that agrees in 32 bits of hash is confirmed by the entry itself.
func (t *Table) probe(key *Key, hash uint64) (i int, reply, ok bool) {
	i, h, ok := t.index.seek(t.index.home(hash), hash)
	for ; ok; i, h, ok = t.index.seek(t.index.next(i), hash) {
		e := &t.entries[h]
		if e.isOut(key) {
			return i, false, true
		}
		if e.isReply(key) {
			return i, true, true
		}
	}
	return i, false, false
}

// Open adds a flow under its two keys: out, that of the client's packets, and reply, that of the target's. It fills the
// entry's key fields from them, sets State to Opening, and leaves all else zero. It returns false, and changes nothing,
// when the table is full, when the keys are equal, or when a flow has either of them already.
func (t *Table) Open(out, reply *Key) (Handle, bool) {
	if t.full() || *out == *reply {
		return 0, false
	}
	outHash, replyHash := t.Hash(out), t.Hash(reply)
	i, _, taken := t.probe(out, outHash)
	if taken {
		return 0, false
	}
	j, _, taken := t.probe(reply, replyHash)
	if taken {
		return 0, false
	}
	h := t.vacant()
	t.take(h, t.entries[h].ISN)
	t.entries[h] = Entry{
		Client: out.Remote, ClientPort: out.RemotePort, ListenerPort: out.LocalPort, Endpoint: Ref{Slot: out.ENI},
		Target: reply.Remote, TargetPort: reply.RemotePort, NATPort: reply.LocalPort, Node: Ref{Slot: reply.ENI},
		State: Opening,
	}
	t.index.put(i, slot(outHash, h))
	t.index.put(j, slot(replyHash, h)) // past the slot just written where both were to have the same
	return h, true
}

// At is the entry of an open flow. The pointer is valid until the flow is closed. The caller may change all fields but
// those of the keys (Client, ClientPort, ListenerPort and Endpoint.Slot; Target, TargetPort, NATPort and Node.Slot) and
// must not set State to Free.
func (t *Table) At(h Handle) *Entry { return &t.entries[h] }

// Close removes a flow and zeroes its entry. It does nothing where h names no open flow.
func (t *Table) Close(h Handle) {
	if h >= t.high || t.entries[h].State == Free {
		return
	}
	e := &t.entries[h]
	out, reply := e.outKey(), e.replyKey()
	t.index.remove(slot(t.Hash(&out), h))
	t.index.remove(slot(t.Hash(&reply), h))
	*e = Entry{ISN: t.give(h)}
}

// Sweep visits the open flows among the next n entry numbers, or among all numbers ever used if they are fewer, and
// goes on from there in the next call, around and around. Visit may close the flow it is given. A visit that is a
// method value should be made once, since making one allocates.
func (t *Table) Sweep(n int, visit func(h Handle, e *Entry)) {
	for range min(n, int(t.high)) {
		h := t.turn()
		if e := &t.entries[h]; e.State != Free {
			visit(h, e)
		}
	}
}

// Walk calls fn for the open flows among the n entry numbers from the given one on. It returns the number to go on
// from, and whether there is nothing left. Between two calls flows come and go: a flow that is open all the while is
// seen exactly once. Fn must not change the entry.
func (t *Table) Walk(from uint32, n int, fn func(h Handle, e *Entry)) (next uint32, done bool) {
	next, done = t.chunk(from, n)
	for h := from; h < next; h++ {
		if e := &t.entries[h]; e.State != Free {
			fn(h, e)
		}
	}
	return next, done
}

// isOut reports whether k is the key of the client's packets.
func (e *Entry) isOut(k *Key) bool {
	return e.ClientPort == k.RemotePort && e.ListenerPort == k.LocalPort && e.Endpoint.Slot == k.ENI && e.Client == k.Remote
}

// isReply reports whether k is the key of the target's packets.
func (e *Entry) isReply(k *Key) bool {
	return e.NATPort == k.LocalPort && e.TargetPort == k.RemotePort && e.Node.Slot == k.ENI && e.Target == k.Remote
}

func (e *Entry) outKey() Key {
	return Key{Remote: e.Client, RemotePort: e.ClientPort, LocalPort: e.ListenerPort, ENI: e.Endpoint.Slot}
}

func (e *Entry) replyKey() Key {
	return Key{Remote: e.Target, RemotePort: e.TargetPort, LocalPort: e.NATPort, ENI: e.Node.Slot}
}
