// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"slices"
	"testing"
	"time"
)

// steps are what can be done to an endpoint, by the name of it.
var steps = map[string]struct {
	as Actor
	do func(t *Tx, uid string) error
}{
	"accept": {asP, func(t *Tx, uid string) error {
		_, err := t.Accept(Key{KindEndpointService, provider, "web"}, []string{uid})
		return err
	}},
	"reject": {asP, func(t *Tx, uid string) error {
		_, err := t.Reject(Key{KindEndpointService, provider, "web"}, []string{uid})
		return err
	}},
	"delete":      {asC, func(t *Tx, uid string) error { return t.Delete(Key{KindEndpoint, consumer, uid}, 0) }},
	"provisioned": {operator, func(t *Tx, uid string) error { return t.Provisioned(uid) }},
	"fail":        {operator, func(t *Tx, uid string) error { return t.Fail(uid, "no such namespace") }},
	"removed":     {operator, func(t *Tx, uid string) error { return t.Removed(uid) }},
}

// ways lead from the beginning of an endpoint's life to each of its states.
var ways = map[EndpointState][]string{
	PendingAcceptance: {},
	Pending:           {"accept"},
	Available:         {"accept", "provisioned"},
	Rejected:          {"reject"},
	Deleting:          {"accept", "delete"},
	Failed:            {"accept", "fail"},
	Expired:           {"wait"},
}

// moves are where each step leads from each state; what is not here is refused.
var moves = map[EndpointState]map[string]EndpointState{
	PendingAcceptance: {"accept": Pending, "reject": Rejected, "delete": Deleted},
	Pending:           {"provisioned": Available, "fail": Failed, "reject": Rejected, "delete": Deleting},
	Available:         {"fail": Failed, "reject": Rejected, "delete": Deleting},
	Rejected:          {"accept": Pending, "delete": Deleted},
	Deleting:          {"removed": Deleted, "delete": Deleting},
	Failed:            {"delete": Deleted},
	Expired:           {"delete": Deleted},
}

// in brings an endpoint into a state.
func in(t *testing.T, state EndpointState) (*world, string) {
	w := shop(t)
	w.create(asC, w.anEndpoint("web", "web", "a"))
	uid := w.endpoint("web").UID
	for _, step := range ways[state] {
		if step == "wait" {
			w.now = w.now.Add(DefaultAcceptanceTimeout)
			w.must(operator, func(t *Tx) error { t.Tick(); return nil })
			continue
		}
		w.must(steps[step].as, func(t *Tx) error { return steps[step].do(t, uid) })
	}
	return w, uid
}

func TestLifecycle(t *testing.T) {
	for state := range ways {
		for name, step := range steps {
			w, uid := in(t, state)
			before := w.endpoint("web")
			if before.State != state {
				t.Fatalf("in %s instead of %s", before.State, state)
			}
			w.now = w.now.Add(time.Hour)
			err := w.try(step.as, func(t *Tx) error { return step.do(t, uid) })
			want, allowed := moves[state][name]
			after, there := w.set.EndpointByUID(uid)
			switch {
			case !allowed:
				if err == nil || after != before {
					t.Errorf("%s of %s is not refused: %v", name, state, err)
					continue
				}
				e := errorsOf(err)[0]
				if e.Code != FailedPrecondition || e.Reason != "ENDPOINT_STATE" || e.EC2 != "IncorrectState" {
					t.Errorf("%s of %s: %+v", name, state, e)
				}
			case err != nil:
				t.Errorf("%s of %s: %v", name, state, err)
			case want == Deleted:
				if there {
					t.Errorf("%s of %s: is %s, want it gone", name, state, after.State)
				}
			case !there || after.State != want:
				t.Errorf("%s of %s: is not %s", name, state, want)
			case want != state && !after.StateSince.Equal(w.now):
				t.Errorf("%s of %s: since %s, want %s", name, state, after.StateSince, w.now)
			}
		}
	}
}

// TestGenerations counts how often an endpoint was let in, and what the dataplane is told of it.
func TestGenerations(t *testing.T) {
	w := connected(t)
	uid := w.endpoint("web").UID
	told := func() uint32 {
		for _, e := range w.compile().Endpoints {
			if e.ID == uid {
				return e.Generation
			}
		}
		return 0
	}
	if got := told(); got != 1 {
		t.Errorf("generation %d, want 1", got)
	}
	for want := uint32(2); want < 4; want++ {
		w.must(asP, func(t *Tx) error { return steps["reject"].do(t, uid) })
		if got := told(); got != 0 {
			t.Errorf("rejected, the dataplane is still told generation %d", got)
		}
		w.must(asP, func(t *Tx) error { return steps["accept"].do(t, uid) })
		if got := told(); got != want {
			t.Errorf("generation %d, want %d", got, want)
		}
	}
}

func TestAutoAccept(t *testing.T) {
	w := shop(t)
	w.create(asC, w.anEndpoint("before", "web", "a"))
	w.must(asP, func(t *Tx) error {
		s := Clone(get[*EndpointService](w, KindEndpointService, provider, "web"))
		s.AutoAccept = true
		_, err := t.Update(s, 0)
		return err
	})
	w.create(asC, w.anEndpoint("after", "web", "a"))
	if e := w.endpoint("before"); e.State != PendingAcceptance || e.Generation != 0 {
		t.Errorf("one that waited is %s in generation %d", e.State, e.Generation)
	}
	if e := w.endpoint("after"); e.State != Pending || e.Generation != 1 {
		t.Errorf("one that came later is %s in generation %d", e.State, e.Generation)
	}
}

// TestDecisions are made for all endpoints that a request names or for none, by the service's owner.
func TestDecisions(t *testing.T) {
	w := connected(t)
	w.create(asC, w.anEndpoint("one", "web", "a"), w.anEndpoint("two", "web", "b"))
	one, two, web, inspect := w.endpoint("one").UID, w.endpoint("two").UID, w.endpoint("web").UID, w.endpoint("inspect").UID
	service := Key{KindEndpointService, provider, "web"}
	accept := func(k Key, uids ...string) func(*world, *Tx) error {
		return func(_ *world, t *Tx) error { _, err := t.Accept(k, uids); return err }
	}
	notThere := broken{NotFound, "ENDPOINT_NOT_FOUND", "InvalidVpcEndpointId.NotFound", "endpoint_uids[1]"}
	judge(t, w, []rule{
		{"two", asP, accept(service, one, two), broken{}},
		{"one twice", asP, accept(service, one, one), broken{}},
		{"by an operator", operator, accept(service, one), broken{}},
		{"none", asP, accept(service), missing("endpoint_uids")},
		{"one in the wrong state", asP, accept(service, one, web), broken{FailedPrecondition, "ENDPOINT_STATE", "IncorrectState", "endpoint_uids[1]"}},
		{"one of another service", asP, accept(service, one, inspect), notThere},
		{"one that is not there", asP, accept(service, one, "vpce-00000000000000000"), notThere},
		{"one by its id", asP, accept(service, one, "two"), notThere},
		{"by the consumer", asC, accept(service, one), broken{PermissionDenied, "NOT_OWNER", "UnauthorizedOperation", ""}},
		{"by a stranger", asS, accept(service, one), broken{NotFound, "RESOURCE_NOT_FOUND", "InvalidVpcEndpointServiceId.NotFound", ""}},
	})
	w.must(asP, func(t *Tx) error {
		all, err := t.Accept(service, []string{one, two})
		if len(all) != 2 || all[0].UID != one || all[1].State != Pending {
			w.t.Errorf("got %v", all)
		}
		return err
	})
}

// TestAcceptLooksAtTheService again, which may have changed since the endpoint was rejected.
func TestAcceptLooksAtTheService(t *testing.T) {
	w := shop(t)
	w.create(asC, w.anEndpoint("web", "web", "a", "b"))
	uid := w.endpoint("web").UID
	w.must(asP, func(t *Tx) error { return steps["reject"].do(t, uid) })
	w.must(asP, func(t *Tx) error {
		lb := Clone(get[*LoadBalancer](w, KindLoadBalancer, provider, "nlb"))
		lb.Nodes = lb.Nodes[:1]
		_, err := t.Update(lb, 0)
		return err
	})
	if zones := get[*EndpointService](w, KindEndpointService, provider, "web").ZoneIDs; !slices.Equal(zones, []string{"use1-az1"}) {
		t.Errorf("the service is in %v", zones)
	}
	err := w.try(asP, func(t *Tx) error { return steps["accept"].do(t, uid) })
	expect(t, err, broken{InvalidArgument, "ZONE_NOT_SERVED", "InvalidParameter", "enis[1].subnet"})
	// Without the endpoint the service may go, and the endpoint outlives it.
	w.must(asP, func(t *Tx) error { return t.Delete(Key{KindEndpointService, provider, "web"}, 0) })
	w.must(asC, func(t *Tx) error { return t.Delete(Key{KindEndpoint, consumer, "web"}, 0) })
}

func TestSystemSteps(t *testing.T) {
	w := connected(t)
	uid := w.endpoint("web").UID
	denied := broken{PermissionDenied, "NOT_OPERATOR", "UnauthorizedOperation", ""}
	judge(t, w, []rule{
		{"removed by its owner", asC, func(_ *world, t *Tx) error { return t.Removed(uid) }, denied},
		{"failed by the provider", asP, func(_ *world, t *Tx) error { return t.Fail(uid, "x") }, denied},
		{"one that is not there", operator, func(_ *world, t *Tx) error { return t.Provisioned("vpce-1") }, broken{NotFound, "RESOURCE_NOT_FOUND", "InvalidVpcEndpointId.NotFound", ""}},
	})
	w.must(operator, func(t *Tx) error { return t.Fail(uid, "its namespace is gone") })
	if e := w.endpoint("web"); e.Reason != "its namespace is gone" {
		t.Errorf("reason %q", e.Reason)
	}
}

// TestTick lets time pass: endpoints that nobody accepts expire, one after the other.
func TestTick(t *testing.T) {
	w := shop(t)
	tick := func() (next time.Time) {
		w.must(operator, func(t *Tx) error { next = t.Tick(); return nil })
		return next
	}
	if next := tick(); !next.IsZero() {
		t.Errorf("something is due at %s", next)
	}
	w.create(asC, w.anEndpoint("one", "web", "a"))
	w.now = w.now.Add(time.Hour)
	w.create(asC, w.anEndpoint("two", "web", "a"))
	if next := tick(); !next.Equal(start.Add(DefaultAcceptanceTimeout)) {
		t.Errorf("next at %s", next)
	}
	w.now = start.Add(DefaultAcceptanceTimeout - 1)
	tick()
	if s := w.endpoint("one").State; s != PendingAcceptance {
		t.Errorf("too early: %s", s)
	}
	w.now = start.Add(DefaultAcceptanceTimeout)
	next := tick()
	if one, two := w.endpoint("one").State, w.endpoint("two").State; one != Expired || two != PendingAcceptance {
		t.Errorf("states %s and %s", one, two)
	}
	w.now = next
	if next := tick(); !next.IsZero() || w.endpoint("two").State != Expired {
		t.Errorf("state %s, next at %s", w.endpoint("two").State, next)
	}
}
