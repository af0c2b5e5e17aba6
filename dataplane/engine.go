// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// DefaultMaxFlows is how many flows an engine holds unless told otherwise.
const DefaultMaxFlows = 1 << 20

// Config sizes an engine.
type Config struct {
	// Workers is how many threads carry packets, 1 to 64; every port needs as many queues.
	Workers int
	// MaxFlows bounds the flows of all workers together. 0 means DefaultMaxFlows. Memory for them is touched as they come.
	MaxFlows int
	// Clock is the engine's time since an arbitrary start; it must not go backwards. Nil means real time.
	Clock func() time.Duration
	// Pin binds each worker's thread to a processor.
	Pin bool
	// Spin is how long a worker goes on polling after the last packet before it sleeps.
	Spin time.Duration
}

// Engine is the dataplane: workers, and the view they share. All methods may be called from any goroutine, but for Turn,
// which stands in for Run.
type Engine struct {
	cfg     Config
	view    atomic.Pointer[view]
	workers []*worker
	inboxes [][]*inbox // [from][to]
	keyed   sync.Once  // the flow tables have been made

	mu      sync.Mutex // guards what follows, and serialises changes of the view
	running bool
	state   *vpc.State
	ports   map[string]port.Port
	health  map[TargetID]Health
	ended   map[TargetID]bool
	places  places
}

// New makes an engine with an empty view.
func New(cfg Config) (*Engine, error) {
	if cfg.Workers < 1 || cfg.Workers > maxWorkers {
		return nil, fmt.Errorf("%d workers: choose 1 to %d", cfg.Workers, maxWorkers)
	}
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = DefaultMaxFlows
	}
	if cfg.MaxFlows < cfg.Workers {
		return nil, fmt.Errorf("room for %d flows: allow at least one for each of %d workers", cfg.MaxFlows, cfg.Workers)
	}
	if cfg.Clock == nil {
		start := time.Now()
		cfg.Clock = func() time.Duration { return time.Since(start) }
	}
	e := &Engine{cfg: cfg, health: map[TargetID]Health{}, ended: map[TargetID]bool{}, places: newPlaces()}
	e.view.Store(&view{addrs: newAddrTable(0), known: newAddrTable(0)})
	for i := range cfg.Workers {
		e.workers = append(e.workers, newWorker(e, i))
		e.inboxes = append(e.inboxes, make([]*inbox, cfg.Workers))
		for to := range cfg.Workers {
			if to != i {
				e.inboxes[i][to] = newInbox()
			}
		}
	}
	return e, nil
}

// Apply makes st what the dataplane runs. The state must have passed its Validate and is the engine's from then on. ports
// holds the open ports by ID, and the probe port under ProbePortID; a port of the state that is missing is treated as
// gone for now. The state is compiled whole and published whole: on an error nothing has changed. When Apply returns,
// no worker uses a port any more that was in the previous call and is not in this one, and the caller may close it.
//
// Flow tables are keyed by the first state's HashKey; a later state's keys only the choice of targets.
func (e *Engine) Apply(st *vpc.State, ports map[string]port.Port) error {
	ctx := context.Background()
	// Only now is the key known. A table is made once: a second one would not be given untouched memory.
	e.keyed.Do(func() {
		key := flow.NewHashKey(st.HashKey)
		_ = e.do(ctx, func(w *worker) { w.makeTables(e.cfg.MaxFlows/len(e.workers), key) })
	})
	e.mu.Lock()
	err := e.publish(st, maps.Clone(ports), e.health, e.ended)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.do(ctx, func(w *worker) { w.settle() })
}

// settle makes sure that the worker uses the newest view.
func (w *worker) settle() {
	if v := w.engine.view.Load(); v != w.view {
		w.adopt(v)
	}
}

// publish compiles and swaps the view. The caller holds mu.
func (e *Engine) publish(st *vpc.State, ports map[string]port.Port, health map[TargetID]Health, ended map[TargetID]bool) error {
	c, err := compile(compilerInput{state: st, ports: ports, health: health, ended: ended, prev: e.view.Load(),
		places: e.places, workers: len(e.workers), now: e.cfg.Clock()})
	if err != nil {
		return fmt.Errorf("compile state of revision %d: %w", st.Revision, err)
	}
	e.state, e.ports, e.health, e.ended = st, ports, health, c.ended
	e.places = c.places
	e.view.Store(c.v)
	e.wakeAll()
	return nil
}

// errNoState is returned where a change of the view needs a state that has not been applied yet.
var errNoState = errors.New("no state applied yet")

// SetHealth tells the engine the health of targets; one that is missing counts as Unchecked.
func (e *Engine) SetHealth(h map[TargetID]Health) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == nil {
		return errNoState
	}
	return e.publish(e.state, e.ports, maps.Clone(h), e.ended)
}

// EndDraining ends the connections of targets whose deregistration delay has passed. It holds for as long as each of
// them is draining.
func (e *Engine) EndDraining(ids []TargetID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == nil {
		return errNoState
	}
	ended := make(map[TargetID]bool, len(ids))
	for _, id := range ids {
		ended[id] = true
	}
	return e.publish(e.state, e.ports, e.health, ended)
}

// ProbeRoutes says where each target that is checked is found on the probe port.
func (e *Engine) ProbeRoutes() []ProbeRoute { return slices.Clone(e.view.Load().probes) }

// Revision is that of the state the dataplane runs, 0 before the first.
func (e *Engine) Revision() uint64 { return e.view.Load().revision }

// Turn lets every worker take one turn over all its ports at the given engine time, and says whether there was
// anything to do. It replaces Run where ports have no descriptors and time is virtual, and must not be mixed with it.
func (e *Engine) Turn(now time.Duration) (busy bool) {
	ready := make([]uint32, len(e.view.Load().ports))
	for i := range ready {
		ready[i] = uint32(i)
	}
	for _, w := range e.workers {
		busy = w.turn(now, ready) || busy
		w.publish()
	}
	return busy
}
