// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

var background = context.Background()

func TestVersionsOfAnEntry(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		_, err := s.Get(background, "a")
		wantErr(t, err, ErrNotFound)
		mustPut(t, s, "a", "1")
		mustPut(t, s, "b", "1")
		mustPut(t, s, "a", "2", "c", "1")
		got, err := s.Get(background, "a")
		if want := (Entry{Key: "a", Value: []byte("2"), Created: 1, Modified: 3, Version: 2}); err != nil ||
			!reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if r := mustTxn(t, s, nil, Op{Key: "a", Delete: true}); r != 4 {
			t.Errorf("deletion is revision %d", r)
		}
		if r := mustTxn(t, s, nil, Op{Key: "a", Delete: true}); r != 4 {
			t.Errorf("deletion of nothing is revision %d", r)
		}
		mustPut(t, s, "a", "3")
		got, _ = s.Get(background, "a")
		if want := (Entry{Key: "a", Value: []byte("3"), Created: 5, Modified: 5, Version: 1}); !reflect.DeepEqual(got, want) {
			t.Errorf("created again: %+v, want %+v", got, want)
		}
	})
}

func TestCompares(t *testing.T) {
	tests := []struct {
		name    string
		compare Compare
		found   Revision
		ok      bool
		message string
	}{
		{"is not there", Compare{Key: "x"}, 0, true, ""},
		{"should not be there", Compare{Key: "a"}, 2, false, `key "a" exists already`},
		{"is of the revision", Compare{Key: "a", Modified: 2}, 0, true, ""},
		{"is of another revision", Compare{Key: "a", Modified: 1}, 2, false, `key "a" is of revision 2, not 1`},
		{"should be of a revision", Compare{Key: "x", Modified: 1}, 0, false, `key "x" does not exist`},
		{"is there", Compare{Key: "a", Exists: true}, 0, true, ""},
		{"should be there", Compare{Key: "x", Exists: true}, 0, false, `key "x" does not exist`},
	}
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		mustPut(t, s, "a", "1")
		mustPut(t, s, "a", "2")
		for _, test := range tests {
			_, err := s.Txn(background, []Compare{{Key: "none"}, test.compare}, nil)
			var conflict *ConflictError
			switch {
			case test.ok && err != nil:
				t.Errorf("%s: %v", test.name, err)
			case test.ok:
			case !errors.As(err, &conflict) || conflict.Key != test.compare.Key || conflict.Found != test.found:
				t.Errorf("%s: %v", test.name, err)
			case !strings.Contains(err.Error(), test.message):
				t.Errorf("%s: %q does not say %q", test.name, err, test.message)
			}
		}
		_, err := s.Txn(background, []Compare{{Key: "a", Modified: 1}}, []Op{{Key: "b"}, {Key: "a", Delete: true}})
		if err == nil {
			t.Fatal("a transaction with a conflict was done")
		}
		if entries, revision, _ := s.List(background, ""); len(entries) != 1 || revision != 2 {
			t.Errorf("a conflict left %v at revision %d", entries, revision)
		}
	})
}

func TestListIsOrderedAndByPrefix(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		mustPut(t, s, "b/2", "", "a", "", "b", "", "b/10", "", "b0", "", "b/", "", "c\xff", "", "c\xff\xff", "")
		mustTxn(t, s, nil, Op{Key: "b/2", Delete: true}, Op{Key: "b/3"})
		for prefix, want := range map[string]string{
			"": `a b b/ b/10 b/3 b0 c` + "\xff c\xff\xff", "b/": "b/ b/10 b/3", "b/1": "b/10", "z": "", "c\xff": "c\xff c\xff\xff",
		} {
			entries, revision, err := s.List(background, prefix)
			if err != nil || revision != 2 {
				t.Fatalf("list: revision %d, %v", revision, err)
			}
			var keys []string
			for _, e := range entries {
				keys = append(keys, e.Key)
			}
			if got := strings.Join(keys, " "); got != want {
				t.Errorf("prefix %q lists %q, want %q", prefix, got, want)
			}
		}
	})
}

func TestInvalidTransactionsAreRefused(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		large := make([]byte, MaxValue)
		for name, ops := range map[string][]Op{
			"no key":        {{Value: []byte("v")}},
			"key twice":     {{Key: "a"}, {Key: "b"}, {Key: "a", Delete: true}},
			"long key":      {{Key: strings.Repeat("k", MaxKey+1)}},
			"long value":    {{Key: "a", Value: make([]byte, MaxValue+1)}},
			"too many":      make([]Op, MaxOps+1),
			"too much":      manyOps(MaxBytes/MaxValue, large),
			"unknown lease": {{Key: "a"}, {Key: "b", Lease: 7}},
		} {
			_, err := s.Txn(background, nil, ops)
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrLeaseNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		mustTxn(t, s, nil, Op{Key: strings.Repeat("k", MaxKey), Value: large})
		if entries, revision, _ := s.List(background, ""); len(entries) != 1 || revision != 1 {
			t.Errorf("%d entries at revision %d", len(entries), revision)
		}
	})
}

func manyOps(n int, value []byte) []Op {
	ops := make([]Op, n)
	for i := range ops {
		ops[i] = Op{Key: fmt.Sprintf("key/%06d", i), Value: value}
	}
	return ops
}

// Neither what a caller gave nor what it got is the store's own.
func TestValuesAreCopies(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		given := []byte("good")
		mustTxn(t, s, nil, Op{Key: "a", Value: given})
		given[0] = 'X'
		for range 2 {
			e, _ := s.Get(background, "a")
			list, _, _ := s.List(background, "")
			w, err := s.Watch(background, "", 0)
			if err != nil {
				t.Fatal(err)
			}
			c, _ := w.Next(background)
			w.Close()
			for _, value := range [][]byte{e.Value, list[0].Value, c.Changes[0].Entry.Value} {
				if string(value) != "good" {
					t.Errorf("value is %q", value)
				}
				value[0] = 'Y'
			}
		}
	})
}

// Many writers that each add one to a counter by compare and swap: none is lost, and each has a revision of its own.
func TestConcurrentWriters(t *testing.T) {
	const writers, each = 16, 20
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		mustPut(t, s, "n", "")
		var group sync.WaitGroup
		var mu sync.Mutex
		revisions := map[Revision]bool{}
		for range writers {
			group.Go(func() {
				for range each {
					r := increment(t, s)
					mu.Lock()
					if revisions[r] {
						t.Errorf("revision %d was given twice", r)
					}
					revisions[r] = true
					mu.Unlock()
				}
			})
		}
		group.Wait()
		e, _ := s.Get(background, "n")
		if len(e.Value) != writers*each || e.Modified != writers*each+1 || e.Version != e.Modified {
			t.Errorf("counted to %d, %+v", len(e.Value), e)
		}
	})
}

func increment(t *testing.T, s Store) Revision {
	for {
		e, err := s.Get(background, "n")
		if err != nil {
			t.Error(err)
			return 0
		}
		compare := []Compare{{Key: "n", Modified: e.Modified}}
		r, err := s.Txn(background, compare, []Op{{Key: "n", Value: append(e.Value, '.')}})
		var conflict *ConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		return r
	}
}

// A context that ends before a transaction's turn takes it back; the turn is held here meanwhile.
func TestCancelledWriteIsNotDone(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		c := s.(*core)
		c.turn <- struct{}{}
		ctx, cancel := context.WithCancel(background)
		result := make(chan error)
		go func() {
			_, err := s.Txn(ctx, nil, []Op{{Key: "a"}})
			result <- err
		}()
		for waiting := 0; waiting == 0; {
			c.queue.mu.Lock()
			waiting = len(c.queue.waiting)
			c.queue.mu.Unlock()
		}
		cancel()
		wantErr(t, <-result, context.Canceled)
		<-c.turn
		_, err := s.Txn(ctx, nil, []Op{{Key: "a"}})
		wantErr(t, err, context.Canceled)
		if r := mustPut(t, s, "b", ""); r != 1 {
			t.Errorf("revision is %d", r)
		}
	})
}

func TestClosedStore(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		lease, _ := s.Grant(background, 1)
		w, err := s.Watch(background, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan error)
		go func() {
			_, err := w.Next(background)
			waits <- err
		}()
		mustClose(t, s)
		wantErr(t, <-waits, ErrClosed)
		_, err = s.Get(background, "a")
		wantErr(t, err, ErrClosed)
		_, _, err = s.List(background, "")
		wantErr(t, err, ErrClosed)
		_, err = s.Txn(background, nil, []Op{{Key: "a"}})
		wantErr(t, err, ErrClosed)
		_, err = s.Watch(background, "", 0)
		wantErr(t, err, ErrClosed)
		_, err = s.Grant(background, 1)
		wantErr(t, err, ErrClosed)
		wantErr(t, s.KeepAlive(background, lease), ErrClosed)
		wantErr(t, s.Revoke(background, lease), ErrClosed)
		wantErr(t, s.Compact(background, 1), ErrClosed)
	})
}

// failing is a journal that fails as told.
type failing struct {
	err     error
	commits int
}

func (f *failing) commit(*draft) error { f.commits++; return f.err }
func (f *failing) close() error        { return nil }

func TestFailedCommitLeavesNothing(t *testing.T) {
	j := &failing{err: errors.New("disk full")}
	s := newCore(newState(), j, Options{}.withDefaults())
	defer mustClose(t, s)
	_, err := s.Txn(background, nil, []Op{{Key: "a"}})
	wantErr(t, err, j.err)
	_, err = s.Grant(background, 1)
	wantErr(t, err, j.err)
	if entries, r, _ := s.List(background, ""); len(entries) > 0 || r != 0 {
		t.Errorf("left %v at revision %d", entries, r)
	}
	j.err = nil
	if r := mustPut(t, s, "a", ""); r != 1 {
		t.Errorf("revision is %d after the disk had room again", r)
	}

	j.err = fmt.Errorf("who knows: %w", ErrBroken)
	_, err = s.Txn(background, nil, []Op{{Key: "b"}})
	wantErr(t, err, ErrBroken)
	j.err, j.commits = nil, 0
	_, err = s.Txn(background, nil, []Op{{Key: "b"}})
	wantErr(t, err, ErrBroken)
	if j.commits > 0 {
		t.Error("wrote to a journal of which nothing is known")
	}
	if _, err := s.Get(background, "a"); err != nil {
		t.Errorf("cannot read any more: %v", err)
	}
}

// picky is a journal that takes no draft with a certain key.
type picky struct{}

var errPicky = errors.New("too large")

func (picky) close() error { return nil }
func (picky) commit(d *draft) error {
	if _, ok := d.entries["large"]; ok {
		return errPicky
	}
	return nil
}

// What the journal refuses for one transaction's sake hits that one only, and nobody sees a trace of it.
func TestOneBadTransactionDoesNotFailItsBatch(t *testing.T) {
	s := newCore(newState(), picky{}, Options{}.withDefaults())
	defer mustClose(t, s)
	var batch []*request
	for _, key := range []string{"a", "large", "b"} {
		ops := []Op{{Key: key}}
		batch = append(batch, &request{
			apply: func(d *draft) (uint64, error) { return d.txn([]Compare{{Key: key}}, ops) }, done: make(chan struct{}),
		})
	}
	again := &request{apply: batch[1].apply, done: make(chan struct{})}
	s.turn <- struct{}{}
	s.commit(append(batch, again))
	<-s.turn
	wantErr(t, batch[1].err, errPicky)
	wantErr(t, again.err, errPicky) // not a conflict with what never was
	if batch[0].result != 1 || batch[2].result != 2 || batch[0].err != nil || batch[2].err != nil {
		t.Errorf("the others: %+v %+v", batch[0], batch[2])
	}
}
