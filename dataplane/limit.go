// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/dataplane/port"

// limit
//
// Expects: a packet whose flow is found, or which may open one; toward an appliance a packet routed through an endpoint.
// Does: charges it to the bandwidth of its endpoint in the zone, whichever way it goes: the layer 3 bytes that the
// consumer's side has on the wire, for a super-packet those of all segments with their headers.
//
// It stands behind what is not the endpoint's own traffic, so that nobody whom it would refuse anyway uses up its
// bandwidth; and before a flow is opened or noted to go on, before anything is rewritten or sent, so that a flood beyond
// the limit costs a look into the flow table, takes no entry and no port, and leaves no trace of a segment in a connection
// that its receiver never got.
// Drops: Bandwidth, at the endpoint's ENI. Nothing waits.
// See: limiter.go; AWS PrivateLink quotas.
func (w *worker) limit(p *packet) bool {
	return w.view.enis[p.key.ENI].limiter == nil || w.charge(p, p.key.ENI)
}

// limitReply
//
// Expects: a packet of a target whose flow is found.
// Does: as limit, charging the endpoint that the flow names.
// Drops: Bandwidth, at that endpoint's ENI.
// See: limit.
func (w *worker) limitReply(p *packet) bool {
	end := p.flow.Endpoint.Slot
	return w.view.enis[end].limiter == nil || w.charge(p, end)
}

// limitInner
//
// Expects: what an appliance returns, with the endpoint that it leaves by.
// Does: as limit, charging that endpoint.
// Drops: Bandwidth, at its ENI.
// See: limit.
func (w *worker) limitInner(in *inner) bool {
	l := w.view.enis[in.end].limiter
	return l == nil || l.take(w.id, int64(len(in.packet())), w.clock) || w.dropAt(in.outer, in.end, Bandwidth)
}

// charge takes a packet's bytes from the bandwidth of an endpoint's ENI that has a limit. It is apart from the stages, which
// are compiled into the routes, so that endpoints without a limit pay for a comparison and not for a call.
func (w *worker) charge(p *packet, eni uint16) bool {
	return w.view.enis[eni].limiter.take(w.id, wireLen(p.buf), w.clock) || w.dropAt(p, eni, Bandwidth)
}

// wireLen is the layer 3 bytes of a packet on the wire.
func wireLen(b *port.Buffer) int64 {
	n := b.Len()
	if b.GSOType == port.GSONone || b.GSOSize == 0 {
		return int64(n)
	}
	head, size := int(b.HdrLen), int(b.GSOSize)
	return int64(n + max(0, (n-head-1)/size)*head)
}
