// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "sync/atomic"

// block is a set of counters of one object on one worker. The worker adds to live, which nobody else may read, and
// publishes from time to time; everybody else reads shared. So a packet costs plain additions, and a reader never
// stops a worker.
type block struct {
	live   []uint64
	shared []atomic.Uint64
	dirty  bool
}

func newBlock(n int) *block {
	return &block{live: make([]uint64, n), shared: make([]atomic.Uint64, n)}
}

func newBlocks(workers, n int) []*block {
	all := make([]*block, workers)
	for i := range all {
		all[i] = newBlock(n)
	}
	return all
}

func (b *block) publish() {
	for i, v := range b.live {
		if b.shared[i].Load() != v {
			b.shared[i].Store(v)
		}
	}
	b.dirty = false
}

// sum adds up counter i over the workers. A gauge that went up on one worker and down on another comes out right, since
// unsigned arithmetic wraps.
func sum(blocks []*block, i int) (n uint64) {
	for _, b := range blocks {
		n += b.shared[i].Load()
	}
	return n
}

// Counters of an ENI.
const (
	eniPacketsIn = iota
	eniBytesIn
	eniPacketsOut
	eniBytesOut
	eniDrops
	eniCounters = eniDrops + NumReasons
)

// Counters of a target.
const (
	targetPacketsIn = iota
	targetBytesIn
	targetPacketsOut
	targetBytesOut
	targetActive // a gauge
	targetNew
	targetPortErrors
	targetCounters
)

// Counters of a worker.
const (
	totalDrops  = 0
	totalActive = totalDrops + NumReasons + iota // a gauge
	totalNew
	totalExpired
	totalClientResets
	totalTargetResets
	totalOwnResets
	totalPortErrors
	totalHeaders
	totalClamped
	totalTurns
	totalBatches
	totalPackets
	totalStrays
	totalSleeps
	totalCounters
)

// count marks a block for the next publication and returns it.
func (w *worker) count(b *block) *block {
	if !b.dirty {
		b.dirty = true
		w.dirty = append(w.dirty, b)
	}
	return b
}

// publish makes this worker's counters visible to readers.
func (w *worker) publish() {
	w.total.publish()
	for _, b := range w.dirty {
		b.publish()
	}
	w.dirty = w.dirty[:0]
}

// drop counts that the packet goes no further, and why. It returns false, the answer of a stage that ends a route.
func (w *worker) drop(p *packet, why Reason) bool {
	if p.role != RoleNone {
		return w.dropAt(p, p.key.ENI, why)
	}
	p.reason = why
	w.total.live[totalDrops+int(why)]++
	return false
}

// dropAt is drop with the ENI in a slot to blame, which need not be the one that the packet is addressed to.
func (w *worker) dropAt(p *packet, eni uint16, why Reason) bool {
	p.reason = why
	w.total.live[totalDrops+int(why)]++
	w.count(w.view.enis[eni].counters[w.id]).live[eniDrops+int(why)]++
	return false
}
