// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Dataplane is what carries packets.
type Dataplane interface {
	// Apply puts a state in force and returns when it is, or refuses it and leaves the earlier one in force. The state keeps
	// the rules of State.Validate. Apply must not change it; it is not changed by others either.
	Apply(ctx context.Context, s *vpc.State) error
}

const (
	// firstRetry is how long a refused state waits until it is tried again, though nothing has changed: what is wrong may lie
	// outside. It doubles until lastRetry.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// longestWait is how long Run waits without looking at the clock, which may have been set.
	longestWait = time.Minute
)

// Run brings every change to the dataplane, until ctx ends, which is no error. Changes that come while a state is being
// applied go into the next one together. When the dataplane runs a state, endpoints that waited for that become available,
// or are gone. Run also does what is due by the clock. It must be called once at a time.
func (k *Keeper) Run(ctx context.Context, d Dataplane) error {
	r := &runner{keeper: k, dataplane: d}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-timer.C:
		}
		due := r.tick(ctx)
		r.bring(ctx)
		timer.Reset(r.pause(due))
	}
}

// runner is one Run.
type runner struct {
	keeper    *Keeper
	dataplane Dataplane
	applied   uint64 // revision in force; see good

	// good is the state in force, and held are the endpoints, by uid, that are in it as they were, or not at all, because
	// the dataplane refuses what they are now.
	good *vpc.State
	held map[string]refused

	retryAt time.Time // by the keeper's clock; zero: nothing to be tried again
	backoff time.Duration
}

// pause is how long nothing needs to be done.
func (r *runner) pause(due time.Time) time.Duration {
	wait, now := longestWait, r.keeper.clock()
	for _, at := range []time.Time{due, r.retryAt} {
		if !at.IsZero() {
			wait = min(wait, max(at.Sub(now), 0))
		}
	}
	return wait
}

// retry has what failed tried again later.
func (r *runner) retry() {
	r.backoff = min(max(2*r.backoff, firstRetry), lastRetry)
	r.retryAt = r.keeper.clock().Add(r.backoff)
}

// tick does what is due by the clock, and says when something is again. It waits for nobody when nothing is due.
func (r *runner) tick(ctx context.Context) time.Time {
	k := r.keeper
	trial := k.snapshot().Begin(resource.Env{Now: k.clock(), Actor: system})
	due := trial.Tick()
	sweepAt := k.sweepAt.Load()
	sweep := sweepAt != nil && !sweepAt.After(k.clock())
	if len(trial.Changes()) > 0 || sweep {
		_, err := k.Do(ctx, Request{Actor: system, sweep: sweep}, func(tx *resource.Tx) ([]resource.Key, error) {
			due = tx.Tick()
			return nil, nil
		})
		if err != nil {
			if ctx.Err() == nil {
				k.log.Error("what is due by the clock cannot be done; it is tried again", "error", err)
				r.retry()
			}
			return time.Time{}
		}
		sweepAt = k.sweepAt.Load()
	}
	if sweepAt != nil && (due.IsZero() || sweepAt.Before(due)) {
		due = *sweepAt
	}
	return due
}

// view is what the dataplane is to run, and what follows when it does.
type view struct {
	revision uint64
	state    *vpc.State
	pending  map[string]uint32 // generations of endpoints that wait until they are run, by uid
	deleting []string          // uids of endpoints that wait until they are not
}

// compile makes a view of the newest resources.
func (k *Keeper) compile() (*view, error) {
	set := k.snapshot()
	v := &view{revision: set.Revision(), pending: map[string]uint32{}}
	var err error
	if v.state, err = set.Compile(); err != nil {
		return v, fmt.Errorf("compiling the resources: %w", err)
	}
	for _, r := range set.List(resource.KindEndpoint, "") {
		switch e := r.(*resource.Endpoint); e.State {
		case resource.Pending:
			v.pending[e.UID] = e.Generation
		case resource.Deleting:
			v.deleting = append(v.deleting, e.UID)
		}
	}
	return v, nil
}

// bring brings the newest revision to the dataplane, if it does not run it yet.
func (r *runner) bring(ctx context.Context) {
	k := r.keeper
	again := !r.retryAt.IsZero() && !r.retryAt.After(k.clock())
	if r.good != nil && r.applied == k.snapshot().Revision() && !again || ctx.Err() != nil {
		return
	}
	if again {
		r.held = nil // are tried again as well
	}
	v, err := k.compile()
	if err == nil {
		err = r.apply(ctx, v)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		k.log.Error("the dataplane refuses the resources; what is in force stays", "revision", v.revision, "error", err)
		k.status.refuse(v.revision, err)
		r.retry()
	default:
		r.retryAt = time.Time{}
		if len(r.held) > 0 {
			r.retry()
		} else {
			r.backoff = 0
		}
		r.applied = v.revision
		k.status.applied(v.revision, reasons(r.held))
		r.follow(ctx, v)
	}
}

// follow does what follows now that the dataplane runs a view. The dataplane has nothing to do with it: what it is told
// is the same before and after.
func (r *runner) follow(ctx context.Context, v *view) {
	if len(v.pending) == 0 && len(v.deleting) == 0 {
		return
	}
	k := r.keeper
	out, err := k.Do(ctx, Request{Actor: system}, func(tx *resource.Tx) ([]resource.Key, error) {
		for uid, generation := range v.pending {
			if waits(tx, uid, generation) {
				if err := tx.Provisioned(uid); err != nil {
					return nil, err
				}
			}
		}
		for _, uid := range v.deleting {
			if _, there := tx.Get(resource.Key{Kind: resource.KindEndpoint, ID: uid}); there {
				if err := tx.Removed(uid); err != nil {
					return nil, err
				}
			}
		}
		return nil, nil
	})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		k.log.Error("that the dataplane runs the resources cannot be kept; it is tried again", "revision", v.revision, "error", err)
		r.retry()
	case out.before == v.revision:
		r.applied = out.Revision
		k.status.applied(out.Revision, reasons(r.held))
	}
}

// waits says whether an endpoint still is in the time for which it waited when it was compiled.
func waits(tx *resource.Tx, uid string, generation uint32) bool {
	r, _ := tx.Get(resource.Key{Kind: resource.KindEndpoint, ID: uid})
	e, ok := r.(*resource.Endpoint)
	return ok && e.State == resource.Pending && e.Generation == generation
}
