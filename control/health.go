// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

const (
	// maxChecks is how many checks are under way at once. Ten thousand dead targets at the default interval and
	// timeout need 3,334.
	maxChecks = 4096
	// maxJitter bounds how late the first check of a target is, which spreads those that came together.
	maxJitter = 5 * time.Second
	// batchTime is how long changes are collected before the engine hears of them: it compiles its view again each
	// time.
	batchTime = 50 * time.Millisecond
)

// healthChecker checks targets, tells the engine how they are, and ends the connections of those whose deregistration
// delay has passed.
type healthChecker struct {
	engine engine
	log    *slog.Logger
	dial   dialFunc // set before Run
	jitter func(limit time.Duration) time.Duration
	ready  chan struct{}

	updates chan *vpc.State // holds the newest state that was not looked at yet
	results chan result

	// Owned by Run.
	checks  map[dataplane.TargetID]*check
	planned plan
	queue   checkQueue // checks that are not under way, by time
	running int
	drains  *drains
	flushAt time.Time // when the engine is to hear of changes; zero when there are none
	ended   map[dataplane.TargetID]bool

	mu       sync.Mutex
	problems map[dataplane.TargetID]string           // why the last check of a target failed
	told     map[dataplane.TargetID]dataplane.Health // changed by Run only, with mu, as a whole
}

// result is the outcome of one check.
type result struct {
	of  *check
	err error
}

func newHealthChecker(e engine, log *slog.Logger) *healthChecker {
	return &healthChecker{
		engine:   e,
		log:      log,
		jitter:   func(limit time.Duration) time.Duration { return rand.N(limit) },
		ready:    make(chan struct{}),
		updates:  make(chan *vpc.State, 1),
		results:  make(chan result),
		checks:   map[dataplane.TargetID]*check{},
		drains:   newDrains(),
		problems: map[dataplane.TargetID]string{},
	}
}

func (h *healthChecker) Ready() <-chan struct{} { return h.ready }
func (h *healthChecker) String() string         { return "health checks" }

// update tells of a state that the engine runs now. It is called by one goroutine and does not block.
func (h *healthChecker) update(s *vpc.State) {
	select {
	case <-h.updates:
	default:
	}
	h.updates <- s
}

// problem is why the last check of a target failed, empty when it did not.
func (h *healthChecker) problem(id dataplane.TargetID) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.problems[id]
}

// verdict is what the checks of a target say, in the words of the API, and why the last one failed.
func (h *healthChecker) verdict(id dataplane.TargetID) (health, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told[id].String(), h.problems[id]
}

// Run checks targets until ctx ends.
func (h *healthChecker) Run(ctx context.Context) error {
	close(h.ready)
	ctx, cancel := context.WithCancel(ctx)
	var underWay sync.WaitGroup
	defer underWay.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		h.flush(now)
		for h.running < maxChecks && len(h.queue) > 0 && !h.queue[0].due.After(now) {
			c := h.queue.pop()
			c.due = now.Add(c.interval)
			h.running++
			underWay.Go(func() { h.check(ctx, c) })
		}
		timer.Reset(h.next(now))
		select {
		case <-ctx.Done():
			return nil
		case s := <-h.updates:
			h.adopt(s, time.Now())
		case r := <-h.results:
			h.running--
			h.take(r, time.Now())
		case <-timer.C:
		}
	}
}

// check makes one check and hands in the result.
func (h *healthChecker) check(ctx context.Context, c *check) {
	err := c.run(ctx, h.dial)
	select {
	case h.results <- result{c, err}:
	case <-ctx.Done():
	}
}

// next is how long there is nothing to do.
func (h *healthChecker) next(now time.Time) time.Duration {
	var times []time.Time
	if h.running < maxChecks && len(h.queue) > 0 {
		times = append(times, h.queue[0].due)
	}
	if !h.flushAt.IsZero() {
		times = append(times, h.flushAt)
	}
	if _, next := h.drains.ended(now); !next.IsZero() {
		times = append(times, next)
	}
	if len(times) == 0 {
		return time.Hour
	}
	return max(0, slices.MinFunc(times, time.Time.Compare).Sub(now))
}

// adopt follows a new state: checks that did not change go on where they are.
func (h *healthChecker) adopt(s *vpc.State, now time.Time) {
	h.drains.update(s, now)
	p := plan{s, h.engine.ProbeRoutes()}
	if p.same(h.planned) {
		return
	}
	h.planned = p
	old := h.checks
	h.checks = plannedChecks(p.state, p.routes)
	h.queue = nil
	for id, c := range h.checks {
		switch before := old[id]; {
		case before == nil:
			c.due = now.Add(h.jitter(min(c.interval, maxJitter)))
		case before.probe == c.probe:
			// The object stays, since a check that is under way names it.
			before.interval, before.thresholds = c.interval, c.thresholds
			h.checks[id] = before
			if !before.queued() {
				continue
			}
			c = before
		default:
			c.verdict = before.verdict
			c.due = now.Add(h.jitter(min(c.interval, maxJitter)))
		}
		h.queue.push(c)
	}
	h.mu.Lock()
	maps.DeleteFunc(h.problems, func(id dataplane.TargetID, _ string) bool { return h.checks[id] == nil })
	h.mu.Unlock()
	h.flushAt = now
}

// take hears the result of a check, unless the check has been replaced meanwhile.
func (h *healthChecker) take(r result, now time.Time) {
	c := r.of
	if h.checks[c.id] != c {
		return
	}
	if c.due.Before(now) {
		c.due = now
	}
	h.queue.push(c)
	problem := ""
	if r.err != nil {
		problem = r.err.Error()
	}
	h.mu.Lock()
	h.problems[c.id] = problem
	h.mu.Unlock()
	if c.verdict.take(r.err == nil, c.thresholds) {
		h.log.Info("target is "+c.verdict.health.String(), "target_group", c.id.Group, "target", c.id.Address.String(), "reason", problem)
		if h.flushAt.IsZero() {
			h.flushAt = now.Add(batchTime)
		}
	}
}

// flush tells the engine what has changed, if it is time.
func (h *healthChecker) flush(now time.Time) {
	if ids, _ := h.drains.ended(now); !maps.Equal(ids, h.ended) {
		if err := h.engine.EndDraining(slices.Collect(maps.Keys(ids))); err != nil {
			h.log.Error("ending the connections of deregistered targets failed", "error", err)
		}
		h.ended = ids
	}
	if h.flushAt.IsZero() || now.Before(h.flushAt) {
		return
	}
	h.flushAt = time.Time{}
	health := make(map[dataplane.TargetID]dataplane.Health, len(h.checks))
	for id, c := range h.checks {
		health[id] = c.verdict.health
	}
	if maps.Equal(health, h.told) {
		return
	}
	if err := h.engine.SetHealth(health); err != nil {
		h.log.Error("telling the dataplane the health of targets failed", "error", err)
		h.flushAt = now.Add(time.Second)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = health
}
