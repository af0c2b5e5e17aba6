// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// run runs a keeper until the function that it returns is called.
func run(t *testing.T, k *Keeper, d Dataplane) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx, d) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// bubble runs a test in which time passes when nobody does anything.
func bubble(t *testing.T, f func(t *testing.T, st store.Store)) {
	synctest.Test(t, func(t *testing.T) { f(t, memoryStore(t)) })
}

// withEndpoint is a keeper with the world and one endpoint that was accepted, which nobody runs yet.
func withEndpoint(t *testing.T, st store.Store) (k *Keeper, uid string) {
	t.Helper()
	k = open(t, st, Options{})
	do(t, k, operator, creates(world()...))
	uid = ask(t, k, "one")[0]
	do(t, k, peggy, accepts(uid))
	return k, uid
}

func TestEmptyStateIsApplied(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k, p := open(t, st, Options{}), &plane{}
		run(t, k, p)
		if err := k.WaitApplied(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if applied, tries := p.count(); applied != 1 || tries != 1 {
			t.Errorf("%d states in %d tries", applied, tries)
		}
	})
}

func TestPendingBecomesAvailable(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k, uid := withEndpoint(t, st)
		p := &plane{gate: make(chan struct{})}
		run(t, k, p)
		accepted := k.snapshot().Revision()
		synctest.Wait()
		wantState(t, k, "one", resource.Pending)
		if s := k.Status(); s.Applied != 0 || s.Desired != accepted {
			t.Errorf("status before is %+v", s)
		}
		close(p.gate)
		if err := k.WaitApplied(t.Context(), accepted); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantState(t, k, "one", resource.Available)
		if got := p.endpoints(); !slices.Equal(got, []string{uid}) {
			t.Errorf("in force are %v", got)
		}
		if s := k.Status(); s.Applied != accepted+1 || s.Desired != accepted+1 || s.Problem != "" {
			t.Errorf("status after is %+v", s)
		}
		if applied, _ := p.count(); applied != 1 {
			t.Errorf("%d states were applied: that an endpoint is available is nothing new to the dataplane", applied)
		}
		if revision := p.states[0].Revision; revision != accepted {
			t.Errorf("the state has revision %d, want %d", revision, accepted)
		}
	})
}

func TestDeletingIsGoneWhenApplied(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k, uid := withEndpoint(t, st)
		p := &plane{}
		run(t, k, p)
		synctest.Wait()
		gate := make(chan struct{})
		p.set(func() { p.gate = gate })
		do(t, k, bob, func(tx *resource.Tx) ([]resource.Key, error) {
			return nil, tx.Delete(key(resource.KindEndpoint, "", uid), 0)
		})
		synctest.Wait()
		wantState(t, k, "one", resource.Deleting)
		if got := p.endpoints(); len(got) != 1 {
			t.Errorf("in force are %v", got)
		}
		close(gate)
		synctest.Wait()
		wantState(t, k, "one", 0)
		if got := p.endpoints(); len(got) != 0 {
			t.Errorf("in force are %v", got)
		}
		if s := k.Status(); s.Applied != s.Desired {
			t.Errorf("status is %+v", s)
		}
	})
}

// TestRejectedMeanwhile does not make an endpoint available that was rejected and accepted again while the dataplane
// was busy with the first acceptance.
func TestRejectedMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k, uid := withEndpoint(t, st)
		p := &plane{gate: make(chan struct{})}
		run(t, k, p)
		synctest.Wait()
		do(t, k, peggy, rejects(uid))
		again := do(t, k, peggy, accepts(uid)).Revision
		p.gate <- struct{}{}
		synctest.Wait()
		wantState(t, k, "one", resource.Pending)
		p.gate <- struct{}{}
		if err := k.WaitApplied(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantState(t, k, "one", resource.Available)
		if e := endpoint(k, "one"); e.Generation != 2 {
			t.Errorf("generation %d", e.Generation)
		}
		close(p.gate)
	})
}

func TestCoalescing(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k := open(t, st, Options{})
		do(t, k, operator, creates(world()...))
		p := &plane{gate: make(chan struct{})}
		run(t, k, p)
		synctest.Wait()
		var last uint64
		for range 100 {
			last = do(t, k, bob, tags(time.Now().Add(time.Duration(last)).String())).Revision
		}
		close(p.gate)
		if err := k.WaitApplied(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if applied, _ := p.count(); applied != 2 {
			t.Errorf("101 revisions were applied as %d states", applied)
		}
	})
}

// TestRefusalLeavesTheRest refuses a state for a reason that no endpoint has, and takes it later.
func TestRefusalLeavesTheRest(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k, uid := withEndpoint(t, st)
		p := &plane{}
		run(t, k, p)
		synctest.Wait()
		good := k.Status()
		p.set(func() { p.refuse = func(*vpc.State) error { return errBad } })
		second := ask(t, k, "two")[0]
		revision := do(t, k, peggy, accepts(second)).Revision
		var refused *resource.Error
		if err := k.WaitApplied(t.Context(), revision); !errors.As(err, &refused) || !strings.Contains(err.Error(), errBad.Error()) {
			t.Errorf("WaitApplied gives %v", err)
		}
		if s := k.Status(); s.Applied != good.Applied || s.Desired != revision || s.Problem != errBad.Error() {
			t.Errorf("status is %+v", s)
		}
		wantState(t, k, "two", resource.Pending)
		if got := p.endpoints(); !slices.Equal(got, []string{uid}) {
			t.Errorf("in force are %v", got)
		}
		_, tries := p.count()
		time.Sleep(10 * time.Minute)
		if _, now := p.count(); now < tries+20 || now > tries+60 { // twice every half a minute
			t.Errorf("it was tried %d times in ten minutes", now-tries)
		}
		p.set(func() { p.refuse = nil })
		time.Sleep(lastRetry)
		synctest.Wait()
		wantState(t, k, "two", resource.Available)
		if s := k.Status(); s.Applied != s.Desired || s.Problem != "" {
			t.Errorf("status is %+v", s)
		}
	})
}

// TestGuiltyEndpointsFail has two of many endpoints that the dataplane refuses.
func TestGuiltyEndpointsFail(t *testing.T) {
	ids := []string{"e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9"}
	for name, bad := range map[string][]int{"first": {0}, "last": {9}, "two": {3, 4}, "far apart": {0, 9}, "all": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, st store.Store) {
				k, first := withEndpoint(t, st)
				p := &plane{}
				run(t, k, p)
				synctest.Wait()
				uids := ask(t, k, ids...)
				var guilty []string
				for _, i := range bad {
					guilty = append(guilty, uids[i])
				}
				p.set(func() { p.refuse = refusing(func(e vpc.Endpoint) bool { return slices.Contains(guilty, e.ID) }) })
				revision := do(t, k, peggy, accepts(uids...)).Revision
				if err := k.WaitApplied(t.Context(), revision); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				want := []string{first}
				for i, id := range ids {
					if slices.Contains(guilty, uids[i]) {
						wantState(t, k, id, resource.Failed)
						if e := endpoint(k, id); e.Reason != errBad.Error() {
							t.Errorf("%s failed because of %q", id, e.Reason)
						}
						continue
					}
					wantState(t, k, id, resource.Available)
					want = append(want, uids[i])
				}
				got := p.endpoints()
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("in force are %v, want %v", got, want)
				}
				if s := k.Status(); s.Applied != s.Desired || s.Problem != "" || len(s.Held) != 0 {
					t.Errorf("status is %+v", s)
				}
				// Others go on.
				more := ask(t, k, "more")[0]
				do(t, k, peggy, accepts(more))
				synctest.Wait()
				wantState(t, k, "more", resource.Available)
			})
		})
	}
}

// TestHeldEndpoint has an available endpoint refused as it is now: it stays what it was, is tried again, and others go on.
func TestHeldEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k, uid := withEndpoint(t, st)
		p := &plane{}
		run(t, k, p)
		synctest.Wait()
		limit := func(rate uint64) uint64 {
			return do(t, k, operator, func(tx *resource.Tx) ([]resource.Key, error) {
				r, _ := tx.Get(key(resource.KindEndpoint, consumer, "one"))
				e := resource.Clone(r).(*resource.Endpoint)
				e.Bandwidth = vpc.Bandwidth{Rate: rate, Burst: rate, BurstTime: time.Second}
				_, err := tx.Update(e, 0)
				return nil, err
			}).Revision
		}
		inForce := func(name string, want uint64) {
			t.Helper()
			synctest.Wait()
			wantState(t, k, "one", resource.Available)
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, e := range p.states[len(p.states)-1].Endpoints {
				if e.ID == uid && e.Bandwidth.Rate != want {
					t.Errorf("%s: in force is a rate of %d, want %d", name, e.Bandwidth.Rate, want)
				}
			}
		}
		limit(1e9)
		inForce("at first", 1e9)
		p.set(func() { p.refuse = refusing(func(e vpc.Endpoint) bool { return e.Bandwidth.Rate == 2e9 }) })
		revision := limit(2e9)
		if err := k.WaitApplied(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		inForce("refused", 1e9)
		if s := k.Status(); s.Held[uid] != errBad.Error() || s.Applied != revision {
			t.Errorf("status is %+v", s)
		}
		_, tries := p.count()
		do(t, k, peggy, accepts(ask(t, k, "two")...))
		inForce("another one comes", 1e9)
		wantState(t, k, "two", resource.Available)
		if _, now := p.count(); now > tries+2 {
			t.Errorf("the held one was tried %d times because of others", now-tries)
		}
		limit(3e9)
		inForce("changed again", 3e9)
		if s := k.Status(); len(s.Held) != 0 {
			t.Errorf("status is %+v", s)
		}
		limit(2e9)
		inForce("refused again", 3e9)
		p.set(func() { p.refuse = nil })
		time.Sleep(lastRetry)
		inForce("what was wrong is gone", 2e9)
	})
}

func TestTick(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k := open(t, st, Options{})
		do(t, k, operator, creates(world()...))
		p := &plane{}
		run(t, k, p)
		ask(t, k, "one")
		group := key(resource.KindTargetGroup, provider, "web")
		draining := func() int {
			r, _ := k.snapshot().Get(group)
			return len(r.(*resource.TargetGroup).Draining)
		}
		do(t, k, peggy, func(tx *resource.Tx) ([]resource.Key, error) {
			_, err := tx.DeregisterTargets(group, newTargetGroup("", 1).Group.Targets)
			return nil, err
		})
		time.Sleep(300*time.Second - time.Millisecond)
		synctest.Wait()
		if draining() != 1 {
			t.Error("the target is gone early")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if draining() != 0 {
			t.Error("the target drains for ever")
		}
		time.Sleep(resource.DefaultAcceptanceTimeout - 300*time.Second - time.Millisecond)
		synctest.Wait()
		wantState(t, k, "one", resource.PendingAcceptance)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		wantState(t, k, "one", resource.Expired)
	})
}

// TestSweep deletes the records of old requests though nobody changes anything.
func TestSweep(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k := open(t, st, Options{})
		do(t, k, operator, creates(world()...))
		run(t, k, &plane{})
		for _, id := range []string{"a", "b", "c"} {
			if _, err := again(t, k, bob, id, 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		revision := k.snapshot().Revision()
		time.Sleep(requestLife + sweepDelay - 4*time.Minute)
		synctest.Wait()
		if entries, _, _ := st.List(t.Context(), requestPrefix); len(entries) != 3 {
			t.Errorf("%d records", len(entries))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if entries, _, _ := st.List(t.Context(), requestPrefix); len(entries) != 0 {
			t.Errorf("%d records", len(entries))
		}
		if got := k.snapshot().Revision(); got != revision+1 {
			t.Errorf("it took %d transactions", got-revision)
		}
		if s := k.Status(); s.Applied != s.Desired {
			t.Errorf("status is %+v", s)
		}
	})
}

// TestFailingStore cannot keep what follows for a while.
func TestFailingStore(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		f := &failing{Store: st}
		k, _ := withEndpoint(t, f)
		f.err = errors.New("no space left on device")
		p := &plane{}
		stop := run(t, k, p)
		time.Sleep(time.Minute)
		wantState(t, k, "one", resource.Pending)
		if len(p.endpoints()) != 1 {
			t.Error("the dataplane does not run it")
		}
		stop()
		f.err = nil
		run(t, k, p)
		synctest.Wait()
		wantState(t, k, "one", resource.Available)
	})
}

func TestWaitApplied(t *testing.T) {
	bubble(t, func(t *testing.T, st store.Store) {
		k := open(t, st, Options{})
		revision := do(t, k, operator, creates(world()...)).Revision
		if err := k.WaitApplied(t.Context(), revision+1); err == nil || !strings.Contains(err.Error(), "has not happened") {
			t.Errorf("a revision of the future: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := k.WaitApplied(ctx, revision); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody runs: %v", err)
		}
		run(t, k, &plane{})
		if err := k.WaitApplied(t.Context(), revision); err != nil {
			t.Error(err)
		}
	})
}

// TestRestartHeals ends the keeper at each point of an endpoint's life at which something is to follow, and goes on with
// another one.
func TestRestartHeals(t *testing.T) {
	remove := func(tx *resource.Tx) ([]resource.Key, error) {
		return nil, tx.Delete(key(resource.KindEndpoint, consumer, "one"), 0)
	}
	waiting := func() *plane { return &plane{gate: make(chan struct{})} }
	refusing := func() *plane { return &plane{refuse: func(*vpc.State) error { return errBad }} }
	for name, c := range map[string]struct {
		before func(t *testing.T, k *Keeper, uid string) // while nobody runs
		plane  func() *plane                             // that it was run with then, for a while
		want   resource.EndpointState
	}{
		"accepted":              {func(*testing.T, *Keeper, string) {}, nil, resource.Available},
		"accepted, Apply waits": {func(*testing.T, *Keeper, string) {}, waiting, resource.Available},
		"deleting":              {func(t *testing.T, k *Keeper, _ string) { do(t, k, bob, remove) }, nil, 0},
		"deleting, Apply waits": {func(t *testing.T, k *Keeper, _ string) { do(t, k, bob, remove) }, waiting, 0},
		"refused":               {func(*testing.T, *Keeper, string) {}, refusing, resource.Available},
		"rejected":              {func(t *testing.T, k *Keeper, uid string) { do(t, k, peggy, rejects(uid)) }, nil, resource.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, st store.Store) {
				k, uid := withEndpoint(t, st)
				c.before(t, k, uid)
				if c.plane != nil {
					stop := run(t, k, c.plane())
					synctest.Wait()
					stop()
				}
				k = open(t, st, Options{})
				p := &plane{}
				run(t, k, p)
				synctest.Wait()
				wantState(t, k, "one", c.want)
				if running := len(p.endpoints()) == 1; running != (c.want == resource.Available) {
					t.Errorf("in force are %v", p.endpoints())
				}
				if s := k.Status(); s.Applied != s.Desired || s.Problem != "" {
					t.Errorf("status is %+v", s)
				}
			})
		})
	}
	// What is due by the clock is done also if the time has passed meanwhile.
	bubble(t, func(t *testing.T, st store.Store) {
		k := open(t, st, Options{})
		do(t, k, operator, creates(world()...))
		ask(t, k, "one")
		time.Sleep(resource.DefaultAcceptanceTimeout)
		k = open(t, st, Options{})
		run(t, k, &plane{})
		synctest.Wait()
		wantState(t, k, "one", resource.Expired)
	})
}
