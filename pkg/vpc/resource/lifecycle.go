// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"slices"
	"time"
)

// enter puts an endpoint into a state.
func (t *Tx) enter(e *Endpoint, state EndpointState, reason string, c *complaints) *Endpoint {
	n := Clone(e)
	n.State, n.Reason, n.StateSince, n.Updated = state, reason, t.env.Now, t.env.Now
	t.put(e, n, c)
	return n
}

// Accept lets endpoints of a service in that wait for it or were rejected, by UID: all of them or none. It is for the
// service's owner.
func (t *Tx) Accept(service Key, endpointUIDs []string) ([]*Endpoint, error) {
	return t.decide(service, endpointUIDs, func(e *Endpoint, field string, c *complaints) *Endpoint {
		if e.State != PendingAcceptance && e.State != Rejected {
			c.add(FailedPrecondition, "ENDPOINT_STATE", "IncorrectState", field, "endpoint %s is %s; only one that waits or was rejected can be accepted", e.UID, e.State)
			return e
		}
		n := Clone(e)
		n.admit(t, "accepted by the provider")
		n.Updated = t.env.Now
		// The service may have changed since the endpoint was rejected.
		t.model.checkService(n, t.model.zonesOf(n), c)
		t.put(e, n, c)
		return n
	})
}

// Reject turns endpoints of a service away that wait for it, and ends what passes through those that were accepted: all of
// them or none. It is for the service's owner.
func (t *Tx) Reject(service Key, endpointUIDs []string) ([]*Endpoint, error) {
	return t.decide(service, endpointUIDs, func(e *Endpoint, field string, c *complaints) *Endpoint {
		if !e.attached() {
			c.add(FailedPrecondition, "ENDPOINT_STATE", "IncorrectState", field, "endpoint %s is %s; only one that waits or was accepted can be rejected", e.UID, e.State)
			return e
		}
		return t.enter(e, Rejected, "rejected by the provider", c)
	})
}

// decide does something with endpoints of a service that the actor owns.
func (t *Tx) decide(service Key, uids []string, do func(e *Endpoint, field string, c *complaints) *Endpoint) ([]*Endpoint, error) {
	service.Kind = KindEndpointService
	r, denied := t.owned(service)
	if denied != nil {
		return nil, denied
	}
	s := r.(*EndpointService)
	all := &complaints{key: s.Key}
	if len(uids) == 0 {
		all.missing("endpoint_uids", "name at least one endpoint")
	}
	var decided []*Endpoint
	seen := make(map[string]bool, len(uids))
	err := t.atomically(func() error {
		for i, uid := range uids {
			field := at("endpoint_uids", i)
			e, ok := lookup[*Endpoint](&t.model, KindEndpoint, "", uid)
			switch {
			case !ok || e.UID != uid || e.ServiceUID != s.UID:
				all.add(NotFound, "ENDPOINT_NOT_FOUND", kinds[KindEndpoint].missing, field, "no endpoint of the service has the uid %q; look at its connections", uid)
			case !seen[uid]:
				c := &complaints{key: e.Key}
				decided = append(decided, do(e, field, c))
				all.errs = append(all.errs, c.errs...)
			}
			seen[uid] = true
		}
		return all.err()
	})
	if err != nil {
		return nil, err
	}
	return decided, nil
}

// settled moves an endpoint on from one of some states, for the system: operators alone may.
func (t *Tx) settled(uid string, to EndpointState, reason string, from ...EndpointState) error {
	e, ok := lookup[*Endpoint](&t.model, KindEndpoint, "", uid)
	k := Key{Kind: KindEndpoint, ID: uid}
	switch {
	case !t.env.Actor.Operator:
		return &Error{Code: PermissionDenied, Reason: "NOT_OPERATOR", EC2: "UnauthorizedOperation", Resource: k, Problem: "only the system says what the dataplane runs"}
	case !ok:
		return notFound(k)
	}
	c := &complaints{key: e.Key}
	if !slices.Contains(from, e.State) {
		c.add(FailedPrecondition, "ENDPOINT_STATE", "IncorrectState", "", "endpoint %s is %s and cannot become %s", uid, e.State, to)
		return c.err()
	}
	return t.atomically(func() error {
		if to == Deleted {
			t.put(e, nil, c)
		} else {
			t.enter(e, to, reason, c)
		}
		return c.err()
	})
}

// Provisioned makes a Pending endpoint Available: the dataplane runs it. It is for operators, as are Fail and Removed.
func (t *Tx) Provisioned(uid string) error {
	return t.settled(uid, Available, "", Pending)
}

// Fail makes an endpoint Failed that the dataplane should run and cannot, for a reason that its owner may read.
func (t *Tx) Fail(uid, reason string) error {
	return t.settled(uid, Failed, reason, Pending, Available)
}

// Removed deletes a Deleting endpoint: the dataplane does not run it any more.
func (t *Tx) Removed(uid string) error {
	return t.settled(uid, Deleted, "", Deleting)
}

// Tick does what is due: endpoints that were not accepted in time have expired, targets that have drained are gone. It
// returns when the next such thing is due, the zero time if nothing is.
func (t *Tx) Tick() (next time.Time) {
	for {
		d, _, some := t.model.deadlines.first()
		if !some {
			return time.Time{}
		}
		if d.at.After(t.env.Now) {
			return d.at
		}
		r, _ := t.model.resources.get(d.key)
		c := &complaints{key: d.key}
		switch r := r.(type) {
		case *Endpoint:
			t.enter(r, Expired, "was not accepted in time", c)
		case *TargetGroup:
			n := Clone(r)
			n.finish(t.env.Now)
			n.Updated = t.env.Now
			t.put(r, n, c)
		}
	}
}
