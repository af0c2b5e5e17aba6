// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"sync/atomic"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// inboxSize is how many strays of one worker wait for another at most, a batch; a further one is dropped and counted.
const inboxSize = batchSize

// inbox carries strays, packets that the kernel gave to another worker than their owner, from one worker to one
// other. Packets are copied, so that buffers never change hands. One goroutine puts, one other takes.
type inbox struct {
	ring [inboxSize]stray
	head atomic.Uint32 // next to take, written by the taker
	_    [60]byte      // keeps the two ends on cache lines of their own
	tail atomic.Uint32 // next to fill, written by the putter
}

type stray struct {
	buf *port.Buffer
	in  uint16
	gen uint16 // of the port in, since the owner may already run another view
	// joined says that this is a later fragment, and first what its first one said.
	joined bool
	first  flow.FirstFragment
}

func newInbox() *inbox {
	b := &inbox{}
	for i := range b.ring {
		b.ring[i].buf = port.NewBuffer()
	}
	return b
}

// put copies a packet into the inbox and says whether it had room.
func (b *inbox) put(p *packet, gen uint16) bool {
	t := b.tail.Load()
	if t-b.head.Load() == inboxSize {
		return false
	}
	s := &b.ring[t%inboxSize]
	s.buf.CopyFrom(p.buf)
	s.in, s.gen, s.joined = p.in, gen, p.joined
	s.first = flow.FirstFragment{SrcPort: p.key.RemotePort, DstPort: p.key.LocalPort, Proto: p.proto}
	b.tail.Store(t + 1)
	return true
}

// peek is the i-th stray that waits, or nil.
func (b *inbox) peek(i uint32) *stray {
	h := b.head.Load()
	if h+i == b.tail.Load() {
		return nil
	}
	return &b.ring[(h+i)%inboxSize]
}

// take gives the places of the first n strays back.
func (b *inbox) take(n uint32) { b.head.Store(b.head.Load() + n) }

// handOver gives a stray to its owner.
func (w *worker) handOver(p *packet, owner int) {
	w.total.live[totalStrays]++
	if !w.engine.inboxes[w.id][owner].put(p, w.view.ports[p.in].gen) {
		w.drop(p, InboxFull)
		return
	}
	w.strayed |= 1 << owner
}

// wakeOwners wakes the workers that got strays in this batch.
func (w *worker) wakeOwners() {
	for i := 0; w.strayed != 0; i++ {
		if w.strayed&1 != 0 {
			w.engine.workers[i].wake()
		}
		w.strayed >>= 1
	}
}

// carryStrays carries the packets that other workers received for this one.
func (w *worker) carryStrays() (busy bool) {
	for from := range w.engine.workers {
		if from == w.id {
			continue
		}
		box := w.engine.inboxes[from][w.id]
		n := uint32(0)
		for s := box.peek(n); s != nil; s = box.peek(n) {
			n++
			p := &w.batch[0]
			if !w.view.hasPort(refOf(s.in, s.gen)) { // its port has gone meanwhile, and its ENI with it
				w.total.live[totalDrops+int(NoENI)]++
			} else if w.parse(p, s.buf, s.in) {
				if s.joined {
					w.setPorts(p, s.first)
				}
				w.carry(p)
			}
		}
		if n > 0 {
			w.finish()
			box.take(n)
			busy = true
		}
	}
	return busy
}
