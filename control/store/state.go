// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// state is everything a store knows. Entries, records and the slices in them never change once they are here.
type state struct {
	revision  Revision
	compacted Revision // the log has compacted+1 up to revision, without a gap
	lastLease LeaseID
	serial    uint64 // counts commits, also those that change no key

	entries  map[string]Entry
	keys     []string // those of entries, sorted
	leases   map[LeaseID]*lease
	log      []*record
	logBytes int
}

// record is one transaction in the log.
type record struct {
	revision Revision
	changes  []Change
}

// bytes is what a record counts for in Options.LogBytes.
func (r *record) bytes() int {
	n := 0
	for _, c := range r.changes {
		n += len(c.Entry.Key) + len(c.Entry.Value)
	}
	return n
}

// lease is a lease and the keys that end with it. Deadline and keys are guarded by core.mu.
type lease struct {
	id       LeaseID
	ttl      time.Duration
	deadline time.Time
	keys     map[string]struct{}
}

func newState() *state {
	return &state{entries: map[string]Entry{}, leases: map[LeaseID]*lease{}}
}

// at returns the record of a revision that the log has.
func (s *state) at(r Revision) *record { return s.log[r-s.compacted-1] }

// under returns the keys that begin with prefix, a part of s.keys.
func (s *state) under(prefix string) []string {
	first, _ := slices.BinarySearch(s.keys, prefix)
	rest := s.keys[first:]
	end, _ := slices.BinarySearchFunc(rest, prefix, func(key, prefix string) int {
		if strings.HasPrefix(key, prefix) {
			return -1
		}
		return cmp.Compare(key, prefix)
	})
	return rest[:end]
}

// absorb makes a committed draft part of the state. New leases begin at now.
func (s *state) absorb(d *draft, now time.Time) {
	for id, l := range d.leases {
		if l == nil {
			delete(s.leases, id)
			continue
		}
		l.deadline = now.Add(l.ttl)
		s.leases[id] = l
	}
	var added, removed []string
	for _, key := range slices.Sorted(maps.Keys(d.entries)) {
		old, had := s.entries[key]
		s.detach(old)
		e := d.entries[key]
		if e == nil {
			delete(s.entries, key)
			if had {
				removed = append(removed, key)
			}
			continue
		}
		s.entries[key] = *e
		s.attach(*e)
		if !had {
			added = append(added, key)
		}
	}
	s.keys = insertSorted(removeSorted(s.keys, removed), added)
	s.log = append(s.log, d.records...)
	for _, r := range d.records {
		s.logBytes += r.bytes()
	}
	s.forget(d.compacted)
	s.revision, s.lastLease, s.serial = d.revision, d.lastLease, d.serial
}

// attach and detach keep the leases' sets of keys.
func (s *state) attach(e Entry) {
	if l := s.leases[e.Lease]; l != nil {
		l.keys[e.Key] = struct{}{}
	}
}

func (s *state) detach(e Entry) {
	if l := s.leases[e.Lease]; l != nil {
		delete(l.keys, e.Key)
	}
}

// forget drops the log up to a revision. Dropped places are cleared, as the array behind them stays for a while.
func (s *state) forget(upTo Revision) {
	for s.compacted < upTo {
		s.logBytes -= s.log[0].bytes()
		s.log[0] = nil
		s.log = s.log[1:]
		s.compacted++
	}
}

// insertSorted merges added, sorted and new, into sorted keys, in place as far as there is room: from the end, so that
// it stops where the first new key goes.
func insertSorted(keys, added []string) []string {
	from, to := len(keys)-1, len(keys)+len(added)-1
	keys = append(keys, added...)
	for next := len(added) - 1; next >= 0; to-- {
		if from >= 0 && keys[from] > added[next] {
			keys[to] = keys[from]
			from--
		} else {
			keys[to] = added[next]
			next--
		}
	}
	return keys
}

// removeSorted takes removed, sorted and all of them there, out of sorted keys, in place.
func removeSorted(keys, removed []string) []string {
	if len(removed) == 0 {
		return keys
	}
	to, _ := slices.BinarySearch(keys, removed[0])
	for _, key := range keys[to:] {
		if len(removed) > 0 && key == removed[0] {
			removed = removed[1:]
			continue
		}
		keys[to] = key
		to++
	}
	clear(keys[to:])
	return keys[:to]
}
