// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Request says who asks for a change, and which.
type Request struct {
	Actor resource.Actor
	// ID is the caller's name for the request; empty for one that may be repeated. In 24 hours the same ID of the same actor
	// has its effect once.
	ID string
	// Fingerprint is the hash of the method and the request: another one under the same ID is an error.
	Fingerprint [sha256.Size]byte
	// DryRun checks everything and changes nothing.
	DryRun bool

	// sweep deletes the records of requests that no longer count, also if there is nothing else to write.
	sweep bool
}

// Outcome is what a change has done.
type Outcome struct {
	// Revision is that of the store with the change, hence of the resources that it changed. Of a dry run, and of one that
	// changed nothing, it is the newest there was.
	Revision uint64
	// Keys are those that the change was about, as the function given to Do returned them.
	Keys []resource.Key
	// Changes is empty when the request had its effect earlier.
	Changes  []resource.Change
	Replayed bool

	before uint64 // the revision that the change was made to
}

// Do makes a change: f makes it in a Tx, whose errors are returned as they are. If there is none, and nothing else breaks
// the rules, all of it is on disk when Do returns, and visible to readers; otherwise nothing has changed. Nobody else
// changes anything meanwhile, so f should take no longer than it must, and must not call Do.
//
// When ctx ends before the change is written, its error is returned and nothing has changed.
func (k *Keeper) Do(ctx context.Context, r Request, f func(*resource.Tx) ([]resource.Key, error)) (Outcome, error) {
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return Outcome{}, ctx.Err()
	}
	defer func() { <-k.turn }()
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	var id *request
	if r.ID != "" && !r.DryRun {
		id = &request{requestKey(r.Actor, r.ID), r.Actor.Account, r.Fingerprint, k.clock()}
		if earlier := k.requests.find(id.key, id.created); earlier != nil {
			if earlier.fingerprint != id.fingerprint {
				return Outcome{}, mismatch()
			}
			return k.replay(ctx, earlier)
		}
	}
	tx := k.begin(r.Actor)
	keys, err := f(tx)
	if err != nil {
		return Outcome{}, err
	}
	if err := tx.Check(); err != nil {
		return Outcome{}, err
	}
	before := k.set.Revision()
	out := Outcome{Revision: before, Keys: keys, Changes: tx.Changes(), before: before}
	if r.DryRun {
		return out, nil
	}
	w := &write{id: id}
	if id != nil || len(out.Changes) > 0 || r.sweep {
		w.gone = k.requests.expired(k.clock(), r.Actor.Account)
	}
	if err := w.prepare(out.Changes, keys); err != nil {
		return Outcome{}, err
	}
	if len(w.ops) == 0 {
		return out, nil
	}
	if out.Revision, err = k.write(ctx, w); err != nil {
		return Outcome{}, err
	}
	k.publish(tx, out, w.bytes())
	return out, nil
}

// publish makes a change that is on disk visible.
func (k *Keeper) publish(tx *resource.Tx, out Outcome, bytes int) {
	k.commit(tx, out.Revision)
	k.status.desire(out.Revision)
	if len(out.Changes) > 0 {
		k.feed.append(Batch{Revision: out.Revision, Changes: out.Changes, bytes: bytes})
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// write is a transaction of the store.
type write struct {
	id       *request   // to be remembered; may be nil
	gone     []*request // to be forgotten
	compares []store.Compare
	ops      []store.Op
}

// prepare says what is to be written.
func (w *write) prepare(changes []resource.Change, keys []resource.Key) error {
	for _, c := range changes {
		key := resourcePrefix + codec.Name(c.Key)
		compare := store.Compare{Key: key}
		if c.Old != nil {
			compare.Modified = c.Old.Metadata().Revision
		}
		w.compares = append(w.compares, compare)
		if c.New == nil {
			w.ops = append(w.ops, store.Op{Key: key, Delete: true})
			continue
		}
		data, err := codec.Marshal(c.New)
		if err != nil {
			return err
		}
		w.ops = append(w.ops, store.Op{Key: key, Value: data})
	}
	for _, r := range w.gone {
		if w.id == nil || r.key != w.id.key { // an expired one of the same name is written over
			w.ops = append(w.ops, store.Op{Key: r.key, Delete: true})
		}
	}
	if w.id == nil {
		return nil
	}
	op, err := w.id.record(keys)
	w.ops = append(w.ops, op)
	return err
}

// bytes is how much is written.
func (w *write) bytes() int {
	n := 0
	for i := range w.ops {
		n += len(w.ops[i].Key) + len(w.ops[i].Value)
	}
	return n
}

// write does a transaction and remembers its request.
func (k *Keeper) write(ctx context.Context, w *write) (uint64, error) {
	revision, err := k.store.Txn(ctx, w.compares, w.ops)
	if isConflict(err) {
		return 0, fmt.Errorf("writing a change: another program writes to this store, which only one may have: end the other, then restart this one: %w", err)
	}
	if err != nil {
		return 0, fmt.Errorf("writing a change, none of which was done: %w", err)
	}
	for _, r := range w.gone {
		k.requests.remove(r)
	}
	if w.id != nil {
		k.requests.add(w.id)
	}
	if w.id != nil || len(w.gone) > 0 {
		k.sweepAt.Store(k.requests.sweep())
	}
	return revision, nil
}
