// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"maps"
	"reflect"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// refused is an endpoint that the dataplane refuses, and why.
type refused struct {
	endpoint vpc.Endpoint
	why      string
}

func reasons(list map[string]refused) map[string]string {
	out := make(map[string]string, len(list))
	for uid, r := range list {
		out[uid] = r.why
	}
	return out
}

// apply puts a view in force. If the dataplane refuses it, the endpoints are found because of which it does: those that
// wait to become available have failed, others stay what they were, and all the rest is put in force. The error is why
// nothing is, when endpoints are not to blame; the state before is then in force.
func (r *runner) apply(ctx context.Context, v *view) error {
	held := map[string]refused{} // are not tried again before their time, unless they have changed
	for _, e := range v.state.Endpoints {
		if h, ok := r.held[e.ID]; ok && reflect.DeepEqual(h.endpoint, e) {
			held[e.ID] = h
		}
	}
	s := r.without(v.state, held)
	err := r.put(ctx, v.state, s)
	if err == nil {
		r.good, r.held = s, held
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	guilty, err := r.search(ctx, v.state, err)
	if err != nil {
		return err
	}
	failed := map[string]refused{}
	for uid, g := range guilty {
		if _, waiting := v.pending[uid]; waiting {
			failed[uid] = g
			delete(guilty, uid)
			continue
		}
		r.keeper.log.Error("the dataplane refuses an endpoint as it is now", "endpoint", uid, "error", g.why)
	}
	r.held = guilty
	return r.fail(ctx, v, failed)
}

// put hands the dataplane a view's state, or one that was derived from it. Of that nobody knows yet that it keeps the rules.
func (r *runner) put(ctx context.Context, compiled, s *vpc.State) error {
	if s != compiled {
		if err := s.Validate(); err != nil {
			return err
		}
	}
	return r.dataplane.Apply(ctx, s)
}

// without is a state in which some endpoints are as the dataplane runs them, or left out if it does not.
func (r *runner) without(s *vpc.State, endpoints map[string]refused) *vpc.State {
	if len(endpoints) == 0 {
		return s
	}
	good := r.running()
	out := *s
	out.Endpoints = make([]vpc.Endpoint, 0, len(s.Endpoints))
	for _, e := range s.Endpoints {
		if _, leave := endpoints[e.ID]; leave {
			was, runs := good[e.ID]
			if !runs {
				continue
			}
			e = was
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return &out
}

// running are the endpoints in force, by uid.
func (r *runner) running() map[string]vpc.Endpoint {
	out := map[string]vpc.Endpoint{}
	if r.good != nil {
		for _, e := range r.good.Endpoints {
			out[e.ID] = e
		}
	}
	return out
}

// search finds the endpoints because of which a state is refused, and why; the state without them is in force when it
// returns. It halves the suspects, which are the endpoints that the dataplane does not run as they are now: n of them, one
// of which is guilty, take about 2 log n states. Its error is the refusal, when that is about something else.
func (r *runner) search(ctx context.Context, s *vpc.State, refusal error) (map[string]refused, error) {
	var suspects []vpc.Endpoint
	left := map[string]refused{} // suspects that are not in force as they are now
	good := r.running()
	for _, e := range s.Endpoints {
		if was, runs := good[e.ID]; !runs || !reflect.DeepEqual(was, e) {
			suspects = append(suspects, e)
			left[e.ID] = refused{e, refusal.Error()}
		}
	}
	if len(suspects) == 0 {
		return nil, refusal
	}
	inForce := r.without(s, left)
	if r.put(ctx, s, inForce) != nil {
		return nil, refusal
	}
	var try func(part []vpc.Endpoint)
	halve := func(part []vpc.Endpoint) {
		try(part[:len(part)/2])
		try(part[len(part)/2:])
	}
	try = func(part []vpc.Endpoint) {
		trial := maps.Clone(left)
		for _, e := range part {
			delete(trial, e.ID)
		}
		next := r.without(s, trial)
		err := r.put(ctx, s, next)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			left, inForce = trial, next
		case len(part) == 1:
			left[part[0].ID] = refused{part[0], err.Error()}
		default:
			halve(part)
		}
	}
	if len(suspects) > 1 { // all of them together, and so a single one, have been refused
		halve(suspects)
	}
	r.good = inForce
	return left, ctx.Err()
}

// fail makes endpoints failed that have waited to become available.
func (r *runner) fail(ctx context.Context, v *view, failed map[string]refused) error {
	if len(failed) == 0 {
		return nil
	}
	_, err := r.keeper.Do(ctx, Request{Actor: system}, func(tx *resource.Tx) ([]resource.Key, error) {
		for uid, f := range failed {
			if waits(tx, uid, v.pending[uid]) {
				if err := tx.Fail(uid, f.why); err != nil {
					return nil, err
				}
			}
		}
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("keeping that endpoints have failed: %w", err)
	}
	for uid := range failed {
		delete(v.pending, uid)
		r.keeper.log.Warn("the dataplane refuses an endpoint, which has failed", "endpoint", uid, "error", failed[uid].why)
	}
	return nil
}
