// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func TestVerdict(t *testing.T) {
	limits := thresholds{healthy: 3, unhealthy: 2}
	for _, c := range []struct {
		name    string
		results string // + is a success, - a failure
		want    string // the health after each, by its first letter; a capital where it changed
	}{
		{"first success", "+", "H"},
		{"healthy from one success", "++", "Hh"},
		{"one failure is not enough", "-", "i"},
		{"unhealthy from the start", "--", "iU"},
		{"a success after a failure", "-+", "iH"},
		{"stays healthy", "+-+-+", "Hhhhh"},
		{"turns unhealthy", "+--", "HhU"},
		{"comes back after three", "--+++", "iUuuH"},
		{"a failure starts the count again", "--++-+++", "iUuuuuuH"},
		{"and falls again", "--+++--", "iUuuHhU"},
	} {
		v := verdict{health: dataplane.Initial}
		got := ""
		for _, r := range c.results {
			changed := v.take(r == '+', limits)
			letter := v.health.String()[:1]
			if changed {
				letter = string(letter[0] - 'a' + 'A')
			}
			got += letter
		}
		if got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.name, c.results, got, c.want)
		}
	}
}

// healthState is a state with one target, checked every 10 s.
func healthState() (*vpc.State, dataplane.TargetID, []dataplane.ProbeRoute) {
	s := reference()
	s.Testing = nil
	s.TargetGroups[0].Targets = s.TargetGroups[0].Targets[:1]
	s.TargetGroups[0].HealthCheck = vpc.HealthCheck{
		Protocol: vpc.CheckTCP, Interval: 10 * time.Second, Timeout: 3 * time.Second, HealthyThreshold: 3, UnhealthyThreshold: 2,
	}
	s.TargetGroups[0].ProxyProtocol.Enabled = false
	id := dataplane.TargetID{Group: "web", Address: netip.MustParseAddrPort("10.0.1.31:8080")}
	return s, id, []dataplane.ProbeRoute{{TargetID: id, LoadBalancer: "nlb", Zone: "use1-az1", Node: addr("10.0.1.20"), Via: addr("198.18.0.2")}}
}

// network is what the targets of a test answer.
type network struct {
	mu     sync.Mutex
	answer error // nil accepts
	hang   bool  // until the timeout
	dialed []netip.AddrPort
	times  []time.Time
}

func (n *network) set(answer error, hang bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer, n.hang = answer, hang
}

func (n *network) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dialed, n.times = append(n.dialed, to), append(n.times, time.Now())
	answer, hang := n.answer, n.hang
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if answer != nil {
		return nil, answer
	}
	near, far := net.Pipe()
	far.Close()
	return near, nil
}

func (n *network) dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dialed)
}

// last is what was dialed last.
func (n *network) last() netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed[len(n.dialed)-1]
}

// runHealth runs a checker in a bubble of virtual time.
func runHealth(t *testing.T, test func(h *healthChecker, e *fakeEngine, n *network)) {
	synctest.Test(t, func(t *testing.T) {
		e, n := &fakeEngine{t: t}, &network{}
		h := newHealthChecker(e, slog.New(slog.DiscardHandler))
		h.dial = n.dial
		h.jitter = func(time.Duration) time.Duration { return time.Second }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		test(h, e, n)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// after lets virtual time pass and everything that it brings happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lastHealth is what the engine was told last of a target.
func lastHealth(e *fakeEngine, id dataplane.TargetID) dataplane.Health {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.health) == 0 {
		return dataplane.Unchecked
	}
	return e.health[len(e.health)-1][id]
}

func TestHealthOverTime(t *testing.T) {
	runHealth(t, func(h *healthChecker, e *fakeEngine, n *network) {
		s, id, routes := healthState()
		e.routes = routes
		h.update(s)
		synctest.Wait()
		if got := lastHealth(e, id); got != dataplane.Initial || n.dials() != 0 {
			t.Fatalf("at first %s after %d checks", got, n.dials())
		}
		after(time.Second + batchTime)
		if got := lastHealth(e, id); got != dataplane.Healthy || n.dials() != 1 {
			t.Fatalf("after one success %s, %d checks", got, n.dials())
		}
		if n.last() != netip.MustParseAddrPort("198.18.0.2:8080") {
			t.Errorf("dialed %v", n.last())
		}
		n.set(nil, true)
		after(10*time.Second + 3*time.Second)
		if got := h.problem(id); got != "no answer in 3s" {
			t.Errorf("the problem is %q", got)
		}
		if got := lastHealth(e, id); got != dataplane.Healthy {
			t.Errorf("after one failure %s", got)
		}
		after(10*time.Second + batchTime)
		if got := lastHealth(e, id); got != dataplane.Unhealthy {
			t.Errorf("after two failures %s", got)
		}
		n.set(nil, false)
		after(20 * time.Second)
		if got := lastHealth(e, id); got != dataplane.Unhealthy {
			t.Errorf("after two successes %s", got)
		}
		after(10 * time.Second)
		if got := lastHealth(e, id); got != dataplane.Healthy || h.problem(id) != "" {
			t.Errorf("after three successes %s, problem %q", got, h.problem(id))
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for i, at := range n.times[1:] {
			if d := at.Sub(n.times[i]); d != 10*time.Second {
				t.Errorf("check %d came %v after the one before", i+1, d)
			}
		}
		if e.mu.Lock(); len(e.health) != 4 {
			t.Errorf("the engine was told %d times, want 4: initial, healthy, unhealthy, healthy", len(e.health))
		}
		e.mu.Unlock()
	})
}

func TestHealthFollowsStates(t *testing.T) {
	runHealth(t, func(h *healthChecker, e *fakeEngine, n *network) {
		s, id, routes := healthState()
		e.routes = routes
		n.set(errors.New("no route"), false)
		h.update(s)
		after(12 * time.Second)
		if got := lastHealth(e, id); got != dataplane.Unhealthy {
			t.Fatalf("a dead target is %s", got)
		}
		// The same check under a new state goes on where it was.
		checks := n.dials()
		h.update(s)
		after(8 * time.Second)
		if n.dials() != checks {
			t.Error("the same state began the check again")
		}
		// Another port makes another check of the same target, which is still unhealthy.
		again := *s
		again.TargetGroups = slices.Clone(s.TargetGroups)
		again.TargetGroups[0].HealthCheck.Port = 9000
		h.update(&again)
		after(2 * time.Second)
		if got := n.last(); got.Port() != 9000 || lastHealth(e, id) != dataplane.Unhealthy {
			t.Errorf("after a change of port: dialed %v, the target is %s", got, lastHealth(e, id))
		}
		// Without checks nothing is known of it.
		none := *s
		none.TargetGroups = slices.Clone(s.TargetGroups)
		none.TargetGroups[0].HealthCheck = vpc.HealthCheck{}
		h.update(&none)
		checks = n.dials()
		after(time.Minute)
		if n.dials() != checks || lastHealth(e, id) != dataplane.Unchecked || h.problem(id) != "" {
			t.Errorf("without checks: %d more, the target is %s, problem %q", n.dials()-checks, lastHealth(e, id), h.problem(id))
		}
	})
}

func TestCheckUnderWayIsForgotten(t *testing.T) {
	runHealth(t, func(h *healthChecker, e *fakeEngine, n *network) {
		s, id, routes := healthState()
		e.routes = routes
		n.set(nil, true)
		h.update(s)
		after(2 * time.Second) // one check hangs
		e.mu.Lock()
		e.routes = nil
		e.mu.Unlock()
		h.update(s)
		after(time.Minute)
		if n.dials() != 1 || lastHealth(e, id) != dataplane.Unchecked {
			t.Errorf("%d checks, the target is %s", n.dials(), lastHealth(e, id))
		}
	})
}

func TestChecksAreBounded(t *testing.T) {
	runHealth(t, func(h *healthChecker, e *fakeEngine, n *network) {
		s, _, _ := healthState()
		n.set(nil, true)
		g := &s.TargetGroups[0]
		g.Targets = nil
		for i := range maxChecks + 10 {
			target := vpc.Target{Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port: 80, Zone: "use1-az1"}
			g.Targets = append(g.Targets, target)
			e.routes = append(e.routes, dataplane.ProbeRoute{
				TargetID: dataplane.TargetID{Group: "web", Address: netip.AddrPortFrom(target.Address, 80)}, Via: addr("198.18.0.2"),
			})
		}
		h.update(s)
		after(2 * time.Second)
		if n.dials() != maxChecks {
			t.Errorf("%d checks are under way, want %d", n.dials(), maxChecks)
		}
		after(3 * time.Second)
		if n.dials() != maxChecks+10 {
			t.Errorf("after the first have ended there were %d checks, want %d", n.dials(), maxChecks+10)
		}
	})
}

func TestTestingOverridesChecks(t *testing.T) {
	s, id, routes := healthState()
	s.Testing = &vpc.Testing{HealthInterval: time.Second}
	c := plannedChecks(s, routes)[id]
	if c.interval != time.Second || c.timeout != time.Second {
		t.Errorf("interval %v and timeout %v, want 1s and 1s", c.interval, c.timeout)
	}
	s.Testing.HealthTimeout = 500 * time.Millisecond
	if c := plannedChecks(s, routes)[id]; c.timeout != 500*time.Millisecond {
		t.Errorf("timeout %v, want 500ms", c.timeout)
	}
}

func TestHTTPCheckIsPlanned(t *testing.T) {
	s, id, routes := healthState()
	s.TargetGroups[0].HealthCheck = reference().TargetGroups[0].HealthCheck
	s.TargetGroups[0].ProxyProtocol.Enabled = true
	c := plannedChecks(s, routes)[id]
	want := probe{
		protocol: vpc.CheckHTTP, to: netip.MustParseAddrPort("198.18.0.2:8081"), proxy: true, timeout: 6 * time.Second,
		host: "10.0.1.20:80", path: "/health", low: 200, high: 399,
	}
	if c.probe != want {
		t.Errorf("got %+v, want %+v", c.probe, want)
	}
}

func TestDeregistrationDelay(t *testing.T) {
	runHealth(t, func(h *healthChecker, e *fakeEngine, n *network) {
		s, id, routes := healthState()
		e.routes = routes
		s.TargetGroups[0].DeregistrationDelay = 30 * time.Second
		s.TargetGroups[0].TerminateOnDeregistration = true
		h.update(s)
		after(time.Minute)
		draining := *s
		draining.TargetGroups = slices.Clone(s.TargetGroups)
		draining.TargetGroups[0].Targets = slices.Clone(s.TargetGroups[0].Targets)
		draining.TargetGroups[0].Targets[0].Draining = true
		h.update(&draining)
		after(30*time.Second - time.Millisecond)
		if len(e.endings()) != 0 {
			t.Fatalf("too early: %v", e.endings())
		}
		after(time.Millisecond)
		if len(e.endings()) != 1 || !slices.Equal(e.endings()[0], []dataplane.TargetID{id}) {
			t.Fatalf("after the delay: %v", e.endings())
		}
		after(time.Minute)
		if len(e.endings()) != 1 {
			t.Errorf("said again: %v", e.endings())
		}
		h.update(s) // registered again
		after(0)
		if len(e.endings()) != 2 || len(e.endings()[1]) != 0 {
			t.Errorf("after it came back: %v", e.endings())
		}
	})
}

func TestDrains(t *testing.T) {
	start := time.Unix(1000, 0)
	s, id, _ := healthState()
	g := &s.TargetGroups[0]
	g.DeregistrationDelay, g.TerminateOnDeregistration = 10*time.Second, true
	without := *s
	without.TargetGroups = slices.Clone(s.TargetGroups)
	without.TargetGroups[0].Targets = nil

	d := newDrains()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	check := func(seconds int, want bool) {
		t.Helper()
		ids, next := d.ended(at(seconds))
		if ids[id] != want || len(ids) > 1 {
			t.Errorf("at %d s ended are %v", seconds, slices.Collect(maps.Keys(ids)))
		}
		if want && !next.IsZero() {
			t.Errorf("at %d s another one is to end at %v", seconds, next)
		}
	}
	d.update(s, at(0))
	check(100, false)
	d.update(&without, at(100)) // it leaves the state
	check(109, false)
	if _, next := d.ended(at(101)); next != at(110) {
		t.Errorf("it is to end at %v, want %v", next, at(110))
	}
	d.update(&without, at(105)) // another state without it
	check(110, true)
	d.update(s, at(111)) // it comes back
	check(200, false)
	d.update(&without, at(200))
	without.TargetGroups[0].TerminateOnDeregistration = false
	d.update(&without, at(201))
	check(300, false)
	d.update(&without, at(201+int(forgetAfter/time.Second)))
	if len(d.leaving) != 0 {
		t.Error("it is remembered for good")
	}
	gone := *s
	gone.TargetGroups = nil
	d.update(s, at(0))
	d.update(&gone, at(1))
	if len(d.leaving) != 0 {
		t.Error("a target of no group is remembered")
	}
}

// TestDrainsSince restarts the daemon in the middle of a delay: what the state says goes on.
func TestDrainsSince(t *testing.T) {
	start := time.Unix(1000, 0)
	s, id, _ := healthState()
	g := &s.TargetGroups[0]
	g.DeregistrationDelay, g.TerminateOnDeregistration = 10*time.Second, true
	g.Targets[0].Draining, g.Targets[0].DrainingSince = true, start
	d := newDrains()
	d.update(s, start.Add(7*time.Second))
	if ids, next := d.ended(start.Add(9 * time.Second)); len(ids) != 0 || next != start.Add(10*time.Second) {
		t.Errorf("ended are %v, the next at %v", ids, next)
	}
	if ids, _ := d.ended(start.Add(10 * time.Second)); !ids[id] {
		t.Errorf("ended are %v, want %v", ids, id)
	}
}
