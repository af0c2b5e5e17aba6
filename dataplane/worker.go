// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

const (
	batchSize  = 64  // packets of one port carried at a time
	spareSize  = 256 // packets of its own a worker can make in one batch
	maxWorkers = 64
)

// worker takes one turn after another. It owns queue id of every port, its flows, its NAT ports and its counters; all
// else it reads is the view.
type worker struct {
	id     int
	engine *Engine
	view   *view
	clock  time.Duration // engine time of the turn
	now    uint32        // the same in milliseconds, modulo 2^32

	flows           *flow.Table       // of one flow until the first state is applied
	inspections     *flow.StickyTable // flows of GWLB endpoints; likewise
	fragments       *flow.Fragments
	leases          *flow.Ports
	swept           uint32 // when expiry last visited entries
	visit           func(flow.Handle, *flow.Entry)
	visitInspection func(flow.Handle, *flow.StickyEntry)
	pending         []early // PROXY headers that wait for their acknowledgement
	after           []early // PROXY headers to send behind this batch
	repeated        uint32  // when pending was last looked at

	bufs      [batchSize]*port.Buffer
	batch     [batchSize]packet
	keys      [batchSize]flow.StickyKey // of the packets in batch
	spareBufs [spareSize]*port.Buffer
	spares    int
	out       [][]*port.Buffer // by port slot
	outDirty  []uint16
	runs      []run // super-packets in the making on the vectors
	arena     arena

	total *block
	dirty []*block

	strayed uint64 // owners of strays of this batch, a bit each
	touched uint64 // keeps the compiler from leaving out what only warms the cache
	poller  *port.Poller
	watched []port.Port // by slot, what the poller waits for

	asked atomic.Bool // tasks has something
	mu    sync.Mutex  // guards tasks
	tasks []func()
}

func newWorker(e *Engine, id int) *worker {
	w := &worker{id: id, engine: e, view: &view{}, total: newBlock(totalCounters),
		leases: flow.NewPorts(id, e.cfg.Workers), runs: make([]run, 0, runsMost), arena: arena{mem: make([]byte, arenaSize)},
		pending: make([]early, 0, earlyPending), after: make([]early, 0, batchSize)}
	for i := range w.bufs {
		w.bufs[i] = port.NewBuffer()
	}
	for i := range w.spareBufs {
		w.spareBufs[i] = port.NewBuffer()
	}
	for i := range w.batch {
		w.batch[i].sticky = &w.keys[i]
	}
	w.makeTables(1, flow.HashKey{})
	w.visit, w.visitInspection = w.reap, w.reapInspection
	return w
}

// makeTables gives the worker empty flow tables for at most limit flows each.
func (w *worker) makeTables(limit int, key flow.HashKey) {
	w.flows = flow.NewTable(limit, key)
	w.inspections = flow.NewSticky(min(limit, flow.MaxStickyFlows), key, w.id)
	w.fragments = flow.NewFragments(fragmentLimit, key)
}

// turn serves the ports that are ready, and says whether there was anything to do.
func (w *worker) turn(now time.Duration, ready []uint32) (busy bool) {
	w.clock, w.now = now, uint32(now/time.Millisecond)
	if v := w.engine.view.Load(); v != w.view {
		w.adopt(v)
	}
	w.total.live[totalTurns]++
	for _, slot := range ready {
		if int(slot) < len(w.view.ports) && w.view.ports[slot].gen != 0 {
			busy = w.serve(uint16(slot)) || busy
		}
	}
	busy = w.carryStrays() || busy
	if len(w.pending) > 0 && w.now != w.repeated {
		w.repeatEarly()
	}
	w.expire()
	return busy
}

// serve carries one batch of a port.
func (w *worker) serve(slot uint16) bool {
	n, err := w.view.ports[slot].port.Receive(w.id, w.bufs[:])
	if err != nil {
		w.unwatch(slot)
	}
	if n == 0 {
		return false
	}
	w.total.live[totalBatches]++
	w.total.live[totalPackets] += uint64(n)
	// All packets of a batch are parsed before the first is carried: their looks into the flow index are independent,
	// so the memory they miss is fetched for several at a time.
	for i := range n {
		p := &w.batch[i]
		if w.parse(p, w.bufs[i], slot) {
			if p.role == RoleGatewayEndpoint {
				w.touched += w.inspections.Touch(p.hash)
			} else {
				w.touched += w.flows.Touch(p.hash)
			}
		}
	}
	for i := range n {
		p := &w.batch[i]
		if p.reason != Unexplained {
			continue
		}
		w.countIn(p)
		if owner := w.owner(p); owner != w.id {
			w.handOver(p, owner)
			continue
		}
		w.carry(p)
	}
	w.finish()
	return true
}

// countIn counts a packet at the ENI it is addressed to.
func (w *worker) countIn(p *packet) {
	if p.role != RoleNone {
		c := w.count(w.view.enis[p.key.ENI].counters[w.id])
		c.live[eniPacketsIn]++
		c.live[eniBytesIn] += uint64(p.buf.Len())
	}
}

// finish sends what the batch has left on the vectors, then the PROXY headers that go behind it.
func (w *worker) finish() {
	w.transmit()
	if len(w.after) > 0 {
		w.sendEarly()
		w.transmit()
	}
	w.wakeOwners()
}

// adopt starts to use a view: it makes room for its ports and lets the poller wait for exactly those.
func (w *worker) adopt(v *view) {
	w.view = v
	for len(w.out) < len(v.ports) {
		w.out = append(w.out, make([]*port.Buffer, 0, batchSize+spareSize))
		w.watched = append(w.watched, nil)
	}
	for slot := range w.watched {
		var p port.Port
		if slot < len(v.ports) {
			p = v.ports[slot].port
		}
		if w.watched[slot] != p {
			w.unwatch(uint16(slot))
			w.watch(uint16(slot), p)
		}
	}
}

func (w *worker) watch(slot uint16, p port.Port) {
	if w.poller == nil || p == nil || p.FD(w.id) < 0 {
		return
	}
	if w.poller.Add(p.FD(w.id), uint32(slot)) == nil {
		w.watched[slot] = p
	}
}

func (w *worker) unwatch(slot uint16) {
	if w.poller != nil && w.watched[slot] != nil {
		_ = w.poller.Remove(w.watched[slot].FD(w.id)) // a closed descriptor has left the poller by itself
		w.watched[slot] = nil
	}
}

// patience is how long the worker may sleep when nothing arrives.
func (w *worker) patience() time.Duration {
	wait := 10 * time.Second
	if w.flows.Len()+w.inspections.Len() > 0 {
		wait = sweepPause(w.flows.HighWater() + w.inspections.HighWater())
	}
	for i := range w.pending {
		left := time.Duration(int32(w.pending[i].due-w.now)) * time.Millisecond
		wait = min(wait, max(left, time.Millisecond))
	}
	return wait
}

// wake ends the worker's sleep.
func (w *worker) wake() {
	if w.poller != nil {
		w.poller.Wake()
	}
}

func refOf(slot, gen uint16) flow.Ref { return flow.Ref{Slot: slot, Gen: gen} }
