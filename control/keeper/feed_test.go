// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func watch(t *testing.T, k *Keeper, after uint64) *Subscription {
	t.Helper()
	s, err := k.Watch(after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestWatch(t *testing.T) {
	k := memory(t)
	sub := watch(t, k, 0)
	made := do(t, k, operator, creates(world()...))
	changed := do(t, k, bob, tags("a"))
	if _, err := k.Do(t.Context(), Request{Actor: bob, ID: "x"}, func(*resource.Tx) ([]resource.Key, error) { return nil, nil }); err != nil {
		t.Fatal(err) // a revision without a change: nobody is told
	}
	last := do(t, k, bob, tags("b"))
	for _, want := range []Outcome{made, changed, last} {
		b, err := sub.Next(t.Context())
		if err != nil || b.Revision != want.Revision || len(b.Changes) != len(want.Changes) {
			t.Fatalf("got revision %d with %d changes, error %v; want %d with %d", b.Revision, len(b.Changes), err, want.Revision, len(want.Changes))
		}
	}
	for after, want := range map[uint64]uint64{made.Revision: changed.Revision, changed.Revision: last.Revision, changed.Revision + 1: last.Revision} {
		if b, err := watch(t, k, after).Next(t.Context()); err != nil || b.Revision != want {
			t.Errorf("after %d comes %d, error %v; want %d", after, b.Revision, err, want)
		}
	}
	b, err := watch(t, k, changed.Revision).Next(t.Context())
	if err != nil || b.Changes[0].Old.Metadata().Tags["t"] != "a" || b.Changes[0].New.Metadata().Tags["t"] != "b" || b.Changes[0].New.Metadata().Revision != last.Revision {
		t.Errorf("the change is %+v, error %v", b.Changes, err)
	}
	if _, err := k.Watch(last.Revision + 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("watching the future: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sub.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an end of the context gives %v", err)
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := memory(t)
		sub := watch(t, k, 0)
		got := make(chan error)
		go func() {
			_, err := sub.Next(t.Context())
			got <- err
			_, err = sub.Next(t.Context())
			got <- err
		}()
		synctest.Wait()
		do(t, k, operator, creates(world()...))
		if err := <-got; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		sub.Close()
		sub.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Errorf("Close gives %v", err)
		}
	})
}

// TestFallingBehind has a subscriber that does not read while more happens than is remembered.
func TestFallingBehind(t *testing.T) {
	k := memory(t)
	do(t, k, operator, creates(world()...))
	start := k.snapshot().Revision()
	slow := watch(t, k, start)
	for i := range maxBatches + 1 {
		do(t, k, bob, tags(fmt.Sprint(i)))
	}
	for range 2 {
		if _, err := slow.Next(t.Context()); !errors.Is(err, ErrCompacted) {
			t.Fatalf("the slow one got %v", err)
		}
	}
	if _, err := k.Watch(start); !errors.Is(err, ErrCompacted) {
		t.Errorf("resuming there gives %v", err)
	}
	if b, err := watch(t, k, start+1).Next(t.Context()); err != nil || b.Revision != start+2 {
		t.Errorf("what is still known is %d, error %v", b.Revision, err)
	}
	if n := len(k.feed.batches); n != maxBatches {
		t.Errorf("%d batches are remembered", n)
	}
}

func TestFeedIsBoundedByBytes(t *testing.T) {
	f := newFeed(0)
	for i := range uint64(10) {
		f.append(Batch{Revision: i + 1, bytes: maxBytes / 4})
	}
	if len(f.batches) != 4 || f.bytes != maxBytes || f.base != 6 {
		t.Errorf("%d batches of %d bytes after %d", len(f.batches), f.bytes, f.base)
	}
	f.append(Batch{Revision: 11, bytes: 2 * maxBytes})
	if b, _, err := f.after(10); err != nil || b.Revision != 11 || len(f.batches) != 1 {
		t.Errorf("a large batch: %d of %d, error %v", b.Revision, len(f.batches), err)
	}
}

// TestManySubscribers has 1,000 of them, some of which never read: readers get everything, writers wait for nobody, and
// none costs a goroutine of the keeper's.
func TestManySubscribers(t *testing.T) {
	const readers, sleepers, changes = 900, 100, 50
	k := memory(t)
	do(t, k, operator, creates(world()...))
	start := k.snapshot().Revision()
	before := runtime.NumGoroutine()
	for range sleepers {
		watch(t, k, start)
	}
	subs := make([]*Subscription, readers)
	for i := range subs {
		subs[i] = watch(t, k, start)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, sub := range subs {
		wg.Go(func() {
			for i := range uint64(changes) {
				if b, err := sub.Next(ctx); err != nil || b.Revision != start+i+1 {
					t.Errorf("got %d, error %v; want %d", b.Revision, err, start+i+1)
					return
				}
			}
		})
	}
	for i := range changes {
		do(t, k, bob, tags(fmt.Sprint(i)))
	}
	wg.Wait()
}

// TestRestartEndsWatches knows nothing of what was before, and says so.
func TestRestartEndsWatches(t *testing.T) {
	st := memoryStore(t)
	k := open(t, st, Options{})
	do(t, k, operator, creates(world()...))
	revision := do(t, k, bob, tags("a")).Revision
	k = open(t, st, Options{})
	if _, err := k.Watch(revision - 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("watching from before the restart gives %v", err)
	}
	sub := watch(t, k, revision)
	do(t, k, bob, tags("b"))
	if b, err := sub.Next(t.Context()); err != nil || b.Revision != revision+1 {
		t.Errorf("got %d, error %v", b.Revision, err)
	}
}
