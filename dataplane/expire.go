// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
)

// Timers of a connection in milliseconds, but for the idle time, which is the listener's (AWS NLB; where AWS does not
// say, the values conntrack implementations agree on).
const (
	openingTime     = 30_000
	closingTime     = 60_000
	tombstoneTime   = 2_000
	probeIdleTenths = 1300 // a health check takes 120 s at most
)

// Expiry visits every entry once in sweepPeriod milliseconds, and at most sweepMost of them in one turn, so that it is
// never a pause. It only gives back memory and ports: a packet of a lapsed flow is recognised without it.
const (
	sweepPeriod = 4_000
	sweepMost   = 512
)

// lapsed says whether the flow's timer has run out.
func (w *worker) lapsed(e *flow.Entry) bool {
	return flow.Expired(w.now, e.Seen, lifetime(e))
}

// lifetime is how many milliseconds the flow lives after Seen in its state.
func lifetime(e *flow.Entry) uint32 {
	switch e.State {
	case flow.Established:
		return uint32(e.IdleTenths) * 100
	case flow.Closing:
		return closingTime
	case flow.Reset:
		return tombstoneTime
	}
	return openingTime
}

// expire visits the share of the tables that the time since the last visit asks for, and closes what has lapsed.
func (w *worker) expire() {
	entries := uint64(w.flows.HighWater() + w.inspections.HighWater())
	due := entries * uint64(flow.Elapsed(w.now, w.swept)) / sweepPeriod
	if due == 0 {
		return
	}
	w.swept = w.now
	n := int(min(due, sweepMost))
	w.flows.Sweep(n, w.visit)
	w.inspections.Sweep(n, w.visitInspection)
	w.leases.Sweep(n, w.now)
	w.fragments.Expire(w.now)
}

// sweepPause is how long a worker without traffic may sleep so that its turns keep up with sweepPeriod: a second at most,
// less with a table of many entries.
func sweepPause(entries int) time.Duration {
	pause := sweepMost * sweepPeriod * time.Millisecond / time.Duration(max(entries, 1))
	return min(max(pause, time.Millisecond), time.Second)
}

// reap is what expire does to one entry.
func (w *worker) reap(h uint32, e *flow.Entry) {
	if w.lapsed(e) {
		w.closeFlow(h)
	}
}

// reapInspection is reap for a flow of a GWLB endpoint.
func (w *worker) reapInspection(h flow.Handle, e *flow.StickyEntry) {
	if w.lapsedInspection(e) || w.deserted(e) {
		w.endInspection(h)
	}
}
