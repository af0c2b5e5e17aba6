// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// stick
//
// Expects: a packet routed through a GWLB endpoint, on the worker that owns its flow.
// Does: finds the packet's flow, or begins one and picks its appliance; moves it from a failed appliance where the group
// says so; gives it a new cookie for a new connection on the same tuple. Both directions of a flow, through whichever
// endpoints of the VPC they come, are one flow.
// Drops: NotInspected and InspectionExpired, answered with RST on demand; NoTarget; FlowTableFull;
// TargetUnhealthy and TargetDeregistered, answered with RST, where the group says so.
// See: AWS GWLB documentation on flow stickiness, idle timeout and target failover.
func (w *worker) stick(p *packet) bool {
	g := w.view.enis[p.key.ENI].gateway
	w.makeRoom()
	h, found := w.inspections.Find(p.sticky, p.hash)
	if !found {
		return w.begin(p, g, NotInspected)
	}
	e := w.inspections.At(h)
	switch {
	case w.deserted(e):
		w.endInspection(h)
		return w.begin(p, g, NotInspected)
	case w.lapsedInspection(e):
		w.endInspection(h)
		return w.begin(p, g, InspectionExpired)
	}
	p.inspected, p.handle = e, h
	if p.opens() && p.sticky.Kind == flow.FiveTuple && e.ISN[direction(p)] != p.seq && !w.reopen(p, e, g) {
		return false
	}
	if !w.keepTarget(p, e, g) {
		return false
	}
	w.join(p, e, g)
	return true
}

// direction is 0 for a packet from A to B of its key, 1 for one from B to A.
func direction(p *packet) int {
	if p.reverse {
		return 1
	}
	return 0
}

// begin opens a flow. Only a SYN begins a TCP flow where connections are told apart: an appliance must see it whole.
func (w *worker) begin(p *packet, g *viewGateway, why Reason) bool {
	if p.proto == wire.ProtoTCP && p.sticky.Kind == flow.FiveTuple && !p.opens() {
		if g.resetOnIdle && !p.fragment {
			return w.refuse(p, why)
		}
		return w.drop(p, why)
	}
	target := g.pick(w.view.key, p.sticky)
	if target < 0 {
		return w.drop(p, NoTarget)
	}
	h, ok := w.inspections.Open(p.sticky, p.hash)
	if !ok {
		return w.drop(p, FlowTableFull)
	}
	e := w.inspections.At(h)
	p.inspected, p.handle = e, h
	w.aim(p, e, uint16(target))
	e.State = flow.Established
	e.ISN[direction(p)] = p.seq
	e.IdleTenths = otherIdleTenths
	if p.proto == wire.ProtoTCP {
		e.IdleTenths = g.idleTenths
	}
	w.total.live[totalNew]++
	w.total.live[totalActive]++
	w.count(w.view.targets[e.Target.Slot].counters[w.id]).live[targetNew]++
	w.join(p, e, g)
	return true
}

// reopen makes the flow that of a new connection on the same tuple. It gets another cookie, since whatever an appliance
// remembers of the tuple is not about this connection, and another appliance where the one it has takes no new flows.
func (w *worker) reopen(p *packet, e *flow.StickyEntry, g *viewGateway) bool {
	stays := w.view.target(e.Target) != nil && w.view.hasENI(e.Node) && g.takesNew(e.Target.Slot)
	if !stays && !w.move(p, e, g) {
		return false
	}
	w.inspections.Renew(p.handle)
	e.ISN[direction(p)], e.Previous, e.Ended = p.seq, flow.Ref{}, 0
	return true
}

// sourcePort is the outer UDP source port of a flow: constant while it stays with its appliance, different among flows
// (RFC 8926 section 3.3), and one for which the kernel gives what the appliance returns to this worker's queue. With few
// workers a few tries find one; any port would do.
func (w *worker) sourcePort(e *flow.StickyEntry) uint16 {
	node, target := unmapped(w.view.enis[e.Node.Slot].addr), unmapped(w.view.targets[e.Target.Slot].addr)
	first := uint16(e.Cookie)
	for try := range uint16(256) {
		port := 49152 + (first+try)&0x3fff
		if steeredTo(node, target, port, len(w.engine.workers)) == w.id {
			return port
		}
	}
	return 49152 + first&0x3fff
}

// aim gives the flow a target, and counts it there. It goes there from the node of the endpoint that the packet came
// through, which is of the load balancer whose target that is.
func (w *worker) aim(p *packet, e *flow.StickyEntry, slot uint16) {
	if old := w.view.target(e.Target); old != nil {
		w.count(old.counters[w.id]).live[targetActive]--
	}
	t := &w.view.targets[slot]
	e.Target, e.Node = flow.Ref{Slot: slot, Gen: t.gen}, w.view.enis[p.key.ENI].node
	e.SourcePort = w.sourcePort(e)
	w.count(t.counters[w.id]).live[targetActive]++
}

// keepTarget sees to it that the flow has a target it may use. It moves from one that failed where the group rebalances,
// and from one that is gone altogether, or whose node is; it is ended where the group sends resets; else it stays.
func (w *worker) keepTarget(p *packet, e *flow.StickyEntry, g *viewGateway) bool {
	if e.Ended != 0 {
		return w.refuseInspected(p, Reason(e.Ended))
	}
	t := w.view.target(e.Target)
	if t == nil || !w.view.hasENI(e.Node) {
		return w.move(p, e, g)
	}
	if t.deny == Unexplained {
		return true
	}
	switch moves, reset := g.failed(t.deny); {
	case moves:
		return w.move(p, e, g)
	case reset && p.proto == wire.ProtoTCP:
		e.Ended = uint8(t.deny)
		return w.refuseInspected(p, t.deny)
	}
	return true
}

// move gives the flow the target that a new one would get. What the old one still returns is taken.
func (w *worker) move(p *packet, e *flow.StickyEntry, g *viewGateway) bool {
	slot := g.pick(w.view.key, p.sticky)
	if slot < 0 {
		return w.drop(p, NoTarget)
	}
	e.Previous = e.Target
	w.aim(p, e, uint16(slot))
	return true
}

// refuseInspected answers a segment of a flow that has been ended with RST; other packets cannot be answered.
func (w *worker) refuseInspected(p *packet, why Reason) bool {
	if p.later {
		return w.drop(p, why)
	}
	return w.refuse(p, why)
}

// join notes that the packet is the flow's newest. A flow of all protocols that has carried TCP lives as long as TCP does.
func (w *worker) join(p *packet, e *flow.StickyEntry, g *viewGateway) {
	d := direction(p)
	if p.proto == wire.ProtoTCP && e.Key.Kind == flow.TwoTuple {
		e.IdleTenths = g.idleTenths
	}
	e.Ends[d] = flow.Ref{Slot: p.key.ENI, Gen: w.view.enis[p.key.ENI].gen}
	e.Sides[d] = flow.Ref{Slot: p.in, Gen: w.view.ports[p.in].gen}
	e.Seen = w.now
	e.Bytes[d] += uint64(p.buf.Len())
}

func (w *worker) lapsedInspection(e *flow.StickyEntry) bool {
	return flow.Expired(w.now, e.Seen, uint32(e.IdleTenths)*100)
}

// deserted says whether no endpoint is left that the flow came through. Its scope's slot may then be another's, to whom
// the flow must not lead.
func (w *worker) deserted(e *flow.StickyEntry) bool {
	return !w.view.hasENI(e.Ends[0]) && !w.view.hasENI(e.Ends[1])
}

// endInspection frees the entry.
func (w *worker) endInspection(h flow.Handle) {
	e := w.inspections.At(h)
	if t := w.view.target(e.Target); t != nil {
		w.count(t.counters[w.id]).live[targetActive]--
	}
	if w.lapsedInspection(e) {
		w.total.live[totalExpired]++
	}
	w.total.live[totalActive]--
	w.inspections.Close(h)
}
