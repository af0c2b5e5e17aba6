// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Prefixes of the keeper's keys in the store. What follows is the name of a resource, or who made a request and which.
const (
	resourcePrefix = "resources/"
	requestPrefix  = "requests/"
)

// ErrCompacted says that a subscription can no longer be told what has changed since its revision: read everything again,
// and watch from there.
var ErrCompacted = store.ErrCompacted

// ErrClosed says that a subscription was closed.
var ErrClosed = store.ErrClosed

// Options are what a Keeper needs beside its store.
type Options struct {
	// Clock tells the time of changes; nil is time.Now. Timers run by the system's clock.
	Clock func() time.Time
	// NewUID makes an identifier that was never used: the prefix and 17 hexadecimal digits. Nil makes them at random.
	NewUID func(prefix string) string
	// Config is that of the rules.
	Config resource.Config
	// Log takes what happens to the dataplane; nil discards it.
	Log *slog.Logger
}

// Keeper keeps all resources. Its methods may be called from any goroutine. The store is its maker's to close, after the
// last call.
type Keeper struct {
	store  store.Store
	clock  func() time.Time
	newUID func(string) string
	log    *slog.Logger
	feed   *feed
	status status
	wake   chan struct{} // tells Run that there is something new; holds one

	// turn is held by the one who changes something. It guards requests.
	turn     chan struct{}
	requests *requests
	sweepAt  atomic.Pointer[time.Time] // when records of requests should be deleted; nil: there are none

	mu  sync.RWMutex
	set *resource.Set // changed by who has turn and mu
}

// Open loads everything from a store. A record that cannot be read is an error that names it: nothing is left out.
func Open(ctx context.Context, st store.Store, o Options) (*Keeper, error) {
	k := &Keeper{
		store: st, clock: o.Clock, newUID: o.NewUID, log: o.Log,
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), requests: newRequests(),
		set: resource.NewSet(o.Config),
	}
	if k.clock == nil {
		k.clock = time.Now
	}
	if k.newUID == nil {
		k.newUID = randomUID
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	entries, revision, err := st.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("opening the keeper: %w", err)
	}
	if err := k.load(entries, revision); err != nil {
		return nil, fmt.Errorf("opening the keeper: %w", err)
	}
	k.feed = newFeed(revision)
	k.status.init(revision)
	return k, nil
}

// load fills the set and the requests. Keys of others are left alone.
func (k *Keeper) load(entries []store.Entry, revision uint64) error {
	var all []resource.Resource
	for _, e := range entries {
		name, isResource := strings.CutPrefix(e.Key, resourcePrefix)
		switch {
		case isResource:
			r, err := codec.Unmarshal(e.Value)
			if err == nil && codec.Name(r.Metadata().Key) != name {
				err = fmt.Errorf("it is the record of %s", r.Metadata().Key)
			}
			if err != nil {
				return fmt.Errorf("record %q is damaged: %w; start with an earlier copy of the store, or with an empty one and import what `isthmus export` wrote", e.Key, err)
			}
			r.Metadata().Revision = e.Modified
			all = append(all, r)
		case strings.HasPrefix(e.Key, requestPrefix):
			if err := k.requests.load(e); err != nil {
				return fmt.Errorf("record %q is damaged: %w; it only keeps a request from being repeated: delete it", e.Key, err)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b resource.Resource) int { return cmp.Compare(a.Metadata().Kind, b.Metadata().Kind) })
	tx := k.begin(system)
	for _, r := range all {
		if err := tx.Restore(r); err != nil {
			return fmt.Errorf("%s does not fit the others: %w", r.Metadata().Key, err)
		}
	}
	// Rules may have become stricter since: what was accepted stays, and can be mended.
	if err := tx.Check(); err != nil {
		k.log.Warn("the store holds what the rules do not allow", "problem", err)
	}
	k.set.Commit(tx, 0)
	k.advance(revision)
	k.requests.sort()
	k.sweepAt.Store(k.requests.sweep())
	return nil
}

// View calls f with all resources as they are at one moment. The Set is a snapshot: f may take its time, and nobody waits
// for it.
func (k *Keeper) View(f func(*resource.Set)) { f(k.snapshot()) }

func (k *Keeper) snapshot() *resource.Set {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.set.Snapshot()
}

// system is who does what follows of itself.
var system = resource.Actor{Operator: true}

// begin begins a change.
func (k *Keeper) begin(a resource.Actor) *resource.Tx {
	return k.set.Begin(resource.Env{Now: k.clock(), NewUID: k.newUID, Actor: a})
}

// advance makes a revision that changed no resource that of the set.
func (k *Keeper) advance(revision uint64) {
	k.commit(k.begin(system), revision)
}

// commit makes a change visible to readers.
func (k *Keeper) commit(tx *resource.Tx, revision uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set.Commit(tx, revision)
}

// randomUID is a UID of AWS's form.
func randomUID(prefix string) string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])[:17]
}

// isConflict says whether somebody else has written to the keeper's keys.
func isConflict(err error) bool {
	var conflict *store.ConflictError
	return errors.As(err, &conflict)
}
