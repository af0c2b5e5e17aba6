// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/dataplane/port"

// send
//
// Expects: a translated packet.
// Does: puts it on the vector of the port it leaves by, and counts it at the ENI it leaves from, its target and its flow.
// Drops: PortRefused when the vector is transmitted.
// See: port.Port on who owns the buffer.
func (w *worker) send(p *packet) bool {
	e, n := p.flow, uint64(p.buf.Len())
	out, from := e.TargetSide, e.Node.Slot
	if p.inward() {
		out, from = e.ClientSide, e.Endpoint.Slot
	}
	w.enqueue(out.Slot, p.buf)
	c := w.count(w.view.enis[from].counters[w.id])
	c.live[eniPacketsOut]++
	c.live[eniBytesOut] += n
	c = w.count(w.view.targets[e.TargetRef.Slot].counters[w.id])
	if p.inward() {
		e.BytesIn += n
		c.live[targetPacketsIn]++
		c.live[targetBytesIn] += n
		return true
	}
	e.BytesOut += n
	c.live[targetPacketsOut]++
	c.live[targetBytesOut] += n
	return true
}

// enqueue puts a buffer on the vector of a port.
func (w *worker) enqueue(slot uint16, buf *port.Buffer) {
	if len(w.out[slot]) == 0 {
		w.outDirty = append(w.outDirty, slot)
	}
	w.out[slot] = append(w.out[slot], buf)
}

// transmit hands every vector to its port. After it, all buffers are the worker's again.
func (w *worker) transmit() {
	w.finishRuns()
	for _, slot := range w.outDirty {
		vec := w.out[slot]
		if refused := len(vec) - w.view.ports[slot].port.Send(w.id, vec); refused > 0 {
			w.total.live[totalDrops+int(PortRefused)] += uint64(refused)
		}
		w.out[slot] = vec[:0]
	}
	w.outDirty = w.outDirty[:0]
	w.spares = 0
	w.arena.reset()
}

// spare lends a buffer for a packet of the worker's own, until the end of the batch. Nil, which the caller counts, means
// that the batch has used them up.
func (w *worker) spare() *port.Buffer {
	if w.spares == len(w.spareBufs) {
		return nil
	}
	w.spares++
	return w.spareBufs[w.spares-1]
}
