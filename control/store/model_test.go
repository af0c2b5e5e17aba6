// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// twin is what a store is, written down without any thought of speed: it keeps every transaction there ever was.
type twin struct {
	now       time.Time
	entries   map[string]Entry
	history   []Changes // of revision i at i-1
	compacted Revision
	leases    map[LeaseID]time.Duration
	deadlines map[LeaseID]time.Time
	granted   LeaseID
	options   Options
}

func (m *twin) revision() Revision { return uint64(len(m.history)) }

// commit does ops as one transaction.
func (m *twin) commit(ops []Op) Revision {
	c := Changes{Revision: m.revision() + 1}
	for _, op := range ops {
		e, ok := m.entries[op.Key]
		if op.Delete {
			if ok {
				delete(m.entries, op.Key)
				c.Changes = append(c.Changes, Change{Deleted: true, Entry: Entry{Key: op.Key, Modified: c.Revision}})
			}
			continue
		}
		if !ok {
			e = Entry{Key: op.Key, Created: c.Revision}
		}
		e.Value, e.Modified, e.Version, e.Lease = op.Value, c.Revision, e.Version+1, op.Lease
		m.entries[op.Key] = e
		c.Changes = append(c.Changes, Change{Entry: e})
	}
	if len(c.Changes) > 0 {
		m.history = append(m.history, c)
		for m.revision()-m.compacted > uint64(m.options.LogSize) ||
			m.logBytes() > m.options.LogBytes && m.revision()-m.compacted > 1 {
			m.compacted++
		}
	}
	return m.revision()
}

func (m *twin) logBytes() int {
	n := 0
	for _, c := range m.history[m.compacted:] {
		for _, change := range c.Changes {
			n += len(change.Entry.Key) + len(change.Entry.Value)
		}
	}
	return n
}

func (m *twin) end(id LeaseID) {
	var ops []Op
	for _, key := range slices.Sorted(maps.Keys(m.entries)) {
		if m.entries[key].Lease == id {
			ops = append(ops, Op{Key: key, Delete: true})
		}
	}
	m.commit(ops)
	delete(m.leases, id)
	delete(m.deadlines, id)
}

func (m *twin) advance(d time.Duration) {
	m.now = m.now.Add(d)
	for _, id := range slices.Sorted(maps.Keys(m.deadlines)) {
		if !m.now.Before(m.deadlines[id]) {
			m.end(id)
		}
	}
}

// machine is a store beside its twin.
type machine struct {
	twin
	store  Store
	reopen func() Store
	clock  *clock

	watcher *Watcher
	prefix  string
	stands  Revision
}

var (
	someKey   = rapid.SampledFrom([]string{"a", "a/1", "a/2", "a/3", "b", "b/1", "c"})
	someValue = rapid.SliceOfN(rapid.Byte(), 0, 40)
)

func (m *machine) someLease(t *rapid.T) LeaseID {
	return LeaseID(rapid.Uint64Range(0, uint64(m.granted)+1).Draw(t, "lease"))
}

func (m *machine) Txn(t *rapid.T) {
	keys := rapid.SliceOfNDistinct(someKey, 0, 5, rapid.ID).Draw(t, "keys")
	var ops []Op
	valid := true
	for _, key := range keys {
		op := Op{Key: key, Delete: rapid.IntRange(0, 2).Draw(t, "delete") == 0, Value: someValue.Draw(t, "value")}
		if !op.Delete && rapid.Bool().Draw(t, "leased") {
			op.Lease = m.someLease(t)
			_, ok := m.leases[op.Lease]
			valid = valid && (ok || op.Lease == 0)
		}
		ops = append(ops, op)
	}
	var compares []Compare
	conflict := ""
	for _, key := range rapid.SliceOfN(someKey, 0, 2).Draw(t, "compares") {
		c := Compare{Key: key, Exists: rapid.Bool().Draw(t, "exists"), Modified: m.entries[key].Modified}
		if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			c.Modified = rapid.Uint64Range(0, m.revision()).Draw(t, "modified")
		}
		_, ok := m.entries[key]
		if holds := c.Exists && ok || !c.Exists && c.Modified == m.entries[key].Modified; !holds && conflict == "" {
			conflict = key
		}
		compares = append(compares, c)
	}
	got, err := m.store.Txn(background, compares, ops)
	var conflicted *ConflictError
	switch {
	case conflict != "":
		if !errors.As(err, &conflicted) || conflicted.Key != conflict || conflicted.Found != m.entries[conflict].Modified {
			t.Fatalf("transaction should conflict at %q: %v", conflict, err)
		}
	case !valid:
		wantErr(t, err, ErrLeaseNotFound)
	case err != nil:
		t.Fatal(err)
	default:
		if want := m.commit(ops); got != want {
			t.Fatalf("revision %d, want %d", got, want)
		}
	}
}

func (m *machine) Grant(t *rapid.T) {
	ttl := time.Duration(rapid.IntRange(1, 60).Draw(t, "ttl")) * time.Second
	id, err := m.store.Grant(background, ttl)
	m.granted++
	if err != nil || id != m.granted {
		t.Fatalf("granted %d, %v, want %d", id, err, m.granted)
	}
	m.leases[id], m.deadlines[id] = ttl, m.now.Add(ttl)
}

func (m *machine) KeepAlive(t *rapid.T) {
	id := m.someLease(t)
	err := m.store.KeepAlive(background, id)
	ttl, ok := m.leases[id]
	if ok != (err == nil) {
		t.Fatalf("keep alive %d: %v", id, err)
	}
	if ok {
		m.deadlines[id] = m.now.Add(ttl)
	}
}

func (m *machine) Revoke(t *rapid.T) {
	id := m.someLease(t)
	err := m.store.Revoke(background, id)
	if _, ok := m.leases[id]; ok != (err == nil) {
		t.Fatalf("revoke %d: %v", id, err)
	}
	if err == nil {
		m.end(id)
	}
}

func (m *machine) Advance(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds")) * time.Second
	m.clock.advance(d)
	m.advance(d)
}

func (m *machine) Compact(t *rapid.T) {
	before := rapid.Uint64Range(0, m.revision()+2).Draw(t, "before")
	err := m.store.Compact(background, before)
	if before > m.revision()+1 {
		wantErr(t, err, ErrFuture)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if before > 0 {
		m.compacted = max(m.compacted, before-1)
	}
}

func (m *machine) Reopen(t *rapid.T) {
	if m.reopen == nil {
		t.Skip("nothing to open again")
	}
	mustClose(t, m.store)
	m.store = m.reopen()
	for id, ttl := range m.leases {
		m.deadlines[id] = m.now.Add(ttl)
	}
	m.watcher = nil
}

func (m *machine) Watch(t *rapid.T) {
	m.prefix = rapid.SampledFrom([]string{"", "a", "a/", "c", "x"}).Draw(t, "prefix")
	m.stands = rapid.Uint64Range(0, m.revision()+1).Draw(t, "after")
	w, err := m.store.Watch(background, m.prefix, m.stands)
	m.watcher = nil
	switch {
	case m.stands < m.compacted:
		wantErr(t, err, ErrCompacted)
	case m.stands > m.revision():
		wantErr(t, err, ErrFuture)
	case err != nil:
		t.Fatal(err)
	default:
		m.watcher = w
	}
}

// Next reads one step of the watcher that was opened last. A context that is over keeps it from waiting.
func (m *machine) Next(t *rapid.T) {
	if m.watcher == nil {
		t.Skip("no watcher")
	}
	if m.stands < m.compacted {
		_, err := m.watcher.Next(background)
		wantErr(t, err, ErrCompacted)
		return
	}
	want, ok := m.expected()
	if !ok {
		return
	}
	got, err := m.watcher.Next(background)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Fatalf("watch %q: -want +got\n%s", m.prefix, diff)
	}
	m.stands = got.Revision
}

func (m *machine) expected() (Changes, bool) {
	for _, c := range m.history[m.stands:] {
		seen := Changes{Revision: c.Revision}
		for _, change := range c.Changes {
			if strings.HasPrefix(change.Entry.Key, m.prefix) {
				seen.Changes = append(seen.Changes, change)
			}
		}
		if seen.Changes != nil {
			return seen, true
		}
	}
	return Changes{}, false
}

// Check compares everything there is to see, after each step.
func (m *machine) Check(t *rapid.T) {
	entries, revision, err := m.store.List(background, "")
	if err != nil || revision != m.revision() {
		t.Fatalf("list: revision %d, %v, want %d", revision, err, m.revision())
	}
	var want []Entry
	for _, key := range slices.Sorted(maps.Keys(m.entries)) {
		want = append(want, m.entries[key])
	}
	if diff := cmp.Diff(want, entries, cmp.Comparer(bytes.Equal)); diff != "" && len(want)+len(entries) > 0 {
		t.Fatalf("entries: -want +got\n%s", diff)
	}
	c := m.store.(*core)
	if c.state.compacted != m.compacted || c.state.logBytes != m.logBytes() {
		t.Fatalf("the log begins after %d with %d bytes, want %d with %d", c.state.compacted, c.state.logBytes, m.compacted,
			m.logBytes())
	}
	if err := c.state.verify(); err != nil {
		t.Fatal(err)
	}
}

func TestModel(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				clock := newClock()
				o := Options{Clock: clock, LogSize: 12, LogBytes: 600}
				m := &machine{clock: clock, twin: twin{
					now: clock.Now(), entries: map[string]Entry{}, leases: map[LeaseID]time.Duration{},
					deadlines: map[LeaseID]time.Time{}, options: o,
				}}
				m.store, m.reopen = kind.open(t, o)
				defer func() { mustClose(t, m.store) }()
				rt.Repeat(rapid.StateMachineActions(m))
			})
		})
	}
}

// The sorted slice of keys against sorting.
func TestSortedKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfDistinct(rapid.StringN(1, 3, 3), rapid.ID).Draw(t, "all")
		split := rapid.IntRange(0, len(all)).Draw(t, "split")
		keys, added := slices.Clone(all[:split]), slices.Clone(all[split:])
		slices.Sort(keys)
		slices.Sort(added)
		merged := insertSorted(keys, added)
		want := slices.Sorted(slices.Values(all))
		if !slices.Equal(merged, want) {
			t.Fatalf("merged %q, want %q", merged, want)
		}
		rest := removeSorted(merged, added)
		if want := slices.Sorted(slices.Values(all[:split])); !slices.Equal(rest, want) {
			t.Fatalf("removed %q, want %q", rest, want)
		}
	})
}

func ExampleStore_Watch() {
	ctx := context.Background()
	s := NewMemory(Options{})
	defer s.Close()
	s.Txn(ctx, nil, []Op{{Key: "vpc/a", Value: []byte("10.0.0.0/16")}})

	// List, then watch from the list's revision: nothing is missed in between.
	entries, revision, _ := s.List(ctx, "vpc/")
	fmt.Println("there:", entries[0].Key, "at", revision)
	watcher, _ := s.Watch(ctx, "vpc/", revision)
	defer watcher.Close()

	s.Txn(ctx, []Compare{{Key: "vpc/a", Modified: revision}}, []Op{{Key: "vpc/a", Delete: true}})
	changes, _ := watcher.Next(ctx)
	fmt.Println("deleted:", changes.Changes[0].Entry.Key, "at", changes.Revision)
	// Output:
	// there: vpc/a at 1
	// deleted: vpc/a at 2
}
