// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// draft is what a batch of requests would make of a state: each sees what those before it did. It becomes part of the
// state when the journal has it, or is dropped.
type draft struct {
	base *state
	now  time.Time

	revision  Revision
	compacted Revision
	lastLease LeaseID
	serial    uint64
	entries   map[string]*Entry  // nil for a deleted key
	leases    map[LeaseID]*lease // nil for one that ended
	records   []*record
}

func newDraft(base *state, now time.Time) *draft {
	return &draft{
		base: base, now: now,
		revision: base.revision, compacted: base.compacted, lastLease: base.lastLease, serial: base.serial + 1,
		entries: map[string]*Entry{}, leases: map[LeaseID]*lease{},
	}
}

// empty reports whether there is nothing to commit.
func (d *draft) empty() bool {
	return len(d.records) == 0 && len(d.leases) == 0 && d.compacted == d.base.compacted
}

func (d *draft) entry(key string) (Entry, bool) {
	if e, ok := d.entries[key]; ok {
		if e == nil {
			return Entry{}, false
		}
		return *e, true
	}
	e, ok := d.base.entries[key]
	return e, ok
}

// lease returns a lease that has not ended. One whose deadline has passed has, though its keys may wait for their turn.
func (d *draft) lease(id LeaseID) (*lease, error) {
	l, ok := d.leases[id]
	if !ok {
		l = d.base.leases[id]
		if l != nil && !d.now.Before(l.deadline) {
			l = nil
		}
	}
	if l == nil {
		return nil, fmt.Errorf("lease %d: %w", id, ErrLeaseNotFound)
	}
	return l, nil
}

// txn adds a transaction, or fails without a trace. Ops were checked by checkOps.
func (d *draft) txn(compares []Compare, ops []Op) (Revision, error) {
	for _, c := range compares {
		e, ok := d.entry(c.Key)
		if c.Exists && ok || !c.Exists && e.Modified == c.Modified {
			continue
		}
		return 0, &ConflictError{Compare: c, Found: e.Modified}
	}
	for _, op := range ops {
		if op.Lease == 0 || op.Delete {
			continue
		}
		if _, err := d.lease(op.Lease); err != nil {
			return 0, fmt.Errorf("put key %q: %w", op.Key, err)
		}
	}
	return d.write(ops), nil
}

// write does the ops as one transaction and returns the revision after it.
func (d *draft) write(ops []Op) Revision {
	r := &record{revision: d.revision + 1}
	for _, op := range ops {
		e, ok := d.entry(op.Key)
		switch {
		case op.Delete && !ok:
			continue
		case op.Delete:
			d.entries[op.Key] = nil
			r.changes = append(r.changes, Change{Entry: Entry{Key: op.Key, Modified: r.revision}, Deleted: true})
			continue
		case !ok:
			e = Entry{Key: op.Key, Created: r.revision}
		}
		e.Value, e.Lease = op.Value, op.Lease
		e.Modified = r.revision
		e.Version++
		d.entries[op.Key] = &e
		r.changes = append(r.changes, Change{Entry: e})
	}
	if len(r.changes) > 0 {
		d.records = append(d.records, r)
		d.revision = r.revision
	}
	return d.revision
}

// grant adds a lease.
func (d *draft) grant(ttl time.Duration) LeaseID {
	d.lastLease++
	d.leases[d.lastLease] = &lease{id: d.lastLease, ttl: ttl, keys: map[string]struct{}{}}
	return d.lastLease
}

// end ends a lease and deletes its keys in one transaction, in their order.
func (d *draft) end(id LeaseID) {
	var ops []Op
	if l := d.base.leases[id]; l != nil {
		for key := range l.keys {
			if e, ok := d.entry(key); ok && e.Lease == id {
				ops = append(ops, Op{Key: key, Delete: true})
			}
		}
	}
	for key, e := range d.entries {
		if e != nil && e.Lease == id && d.base.entries[key].Lease != id {
			ops = append(ops, Op{Key: key, Delete: true})
		}
	}
	slices.SortFunc(ops, func(a, b Op) int { return cmp.Compare(a.Key, b.Key) })
	d.write(ops)
	d.leases[id] = nil
}

// compact forgets the log before a revision.
func (d *draft) compact(before Revision) error {
	if before > d.revision+1 {
		return fmt.Errorf("the store is at revision %d: %w", d.revision, ErrFuture)
	}
	if before > 0 {
		d.compacted = max(d.compacted, before-1)
	}
	return nil
}

// trim holds the log to its bounds.
func (d *draft) trim(size, bytes int) {
	if d.revision > uint64(size) {
		d.compacted = max(d.compacted, d.revision-uint64(size))
	}
	total := d.base.logBytes
	for _, r := range d.records {
		total += r.bytes()
	}
	for r := d.base.compacted + 1; r < d.revision && (r <= d.compacted || total > bytes); r++ {
		total -= d.at(r).bytes()
		d.compacted = max(d.compacted, r)
	}
}

// at returns the record of a revision, of the draft or below it.
func (d *draft) at(r Revision) *record {
	if r > d.base.revision {
		return d.records[r-d.base.revision-1]
	}
	return d.base.at(r)
}

// counts returns how many entries and leases there will be.
func (d *draft) counts() (entries, leases int) {
	entries, leases = len(d.base.entries), len(d.base.leases)
	for key, e := range d.entries {
		_, had := d.base.entries[key]
		entries += change(had, e != nil)
	}
	for id, l := range d.leases {
		_, had := d.base.leases[id]
		leases += change(had, l != nil)
	}
	return entries, leases
}

func change(had, has bool) int {
	switch {
	case has && !had:
		return 1
	case had && !has:
		return -1
	}
	return 0
}

// checkOps refuses what no state would allow.
func checkOps(ops []Op) error {
	if len(ops) > MaxOps {
		return fmt.Errorf("a transaction of %d operations, of at most %d: split it: %w", len(ops), MaxOps, ErrInvalid)
	}
	seen := make(map[string]struct{}, len(ops))
	bytes := 0
	for _, op := range ops {
		if _, twice := seen[op.Key]; twice {
			return fmt.Errorf("key %q is in two operations of a transaction: leave one: %w", op.Key, ErrInvalid)
		}
		seen[op.Key] = struct{}{}
		switch {
		case op.Key == "":
			return fmt.Errorf("an operation without a key: %w", ErrInvalid)
		case len(op.Key) > MaxKey:
			return fmt.Errorf("key %.40q... has %d bytes, of at most %d: %w", op.Key, len(op.Key), MaxKey, ErrInvalid)
		case len(op.Value) > MaxValue:
			return fmt.Errorf("key %q: a value of %d bytes, of at most %d: %w", op.Key, len(op.Value), MaxValue, ErrInvalid)
		}
		bytes += len(op.Key) + len(op.Value)
	}
	if bytes > MaxBytes {
		return fmt.Errorf("a transaction of %d bytes, of at most %d: split it: %w", bytes, MaxBytes, ErrInvalid)
	}
	return nil
}
