// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// geneveFaults are the reasons for what wire finds wrong with a GENEVE header.
var geneveFaults = [...]Reason{wire.GeneveTruncated: GeneveTruncated, wire.GeneveVersion: GeneveVersion,
	wire.GeneveLayout: GeneveLayout, wire.GeneveProtocol: GeneveProtocol}

// decapsulate
//
// Expects: a datagram from an appliance.
// Does: checks that the GENEVE header is laid out as it was sent, and finds the flow that its cookie names, on whichever
// worker that is. What appliances change outside is not looked at: TTL, DF, identification, TOS, checksum, source port.
// Drops: GeneveTruncated, GeneveVersion, GeneveLayout, GeneveProtocol, WrongCookie; InboxFull.
// See: semantics of the return check in doc.go; RFC 8926 section 3.4.
func (w *worker) decapsulate(in *inner) bool {
	p := in.outer
	g, why := wire.ParseGeneveAWS(in.datagram)
	if why != wire.GeneveOK {
		return w.drop(p, geneveFaults[why])
	}
	if owner := w.inspections.CookieWorker(g.Cookie); owner != w.id {
		if owner >= len(w.engine.workers) {
			return w.drop(p, WrongCookie)
		}
		return w.relay(in, owner)
	}
	h, ok := w.inspections.ByCookie(g.Cookie)
	if !ok || w.lapsedInspection(w.inspections.At(h)) {
		return w.drop(p, WrongCookie)
	}
	in.geneve, in.handle = g, h
	return true
}

// recognise
//
// Expects: a datagram with its flow.
// Does: checks that it comes from the flow's appliance, or the one before it, to the flow's node, that it names an endpoint
// of the flow, and that the inner packet is one of the flow in either direction, or an ICMP error that quotes one, to whom
// sent it. Either direction's header is good for both: appliances keep the newest one a flow has.
// Drops: BadSource, WrongTarget, WrongEndpoint, WrongInner, Malformed.
// See: semantics of the return check in doc.go.
func (w *worker) recognise(in *inner) bool {
	p, e := in.outer, w.inspections.At(in.handle)
	if !w.fromTarget(in, e) {
		if w.ours(p, p.ip().Src()) {
			return w.drop(p, BadSource)
		}
		return w.drop(p, WrongTarget)
	}
	if !w.isEnd(e.Ends[0], in.geneve.Endpoint) && !w.isEnd(e.Ends[1], in.geneve.Endpoint) {
		return w.drop(p, WrongEndpoint)
	}
	if !in.tuple.Parse(in.packet()) {
		return w.drop(p, Malformed)
	}
	in.datagram = in.datagram[:wire.GeneveAWSLen+int(in.tuple.End)]
	var ok bool
	if in.way, ok = wayOf(e, &in.tuple); ok {
		return true
	}
	var quoted wire.Tuple
	if !quoted.ParseQuoted(in.packet()) {
		return w.drop(p, WrongInner)
	}
	// The error goes to the quoted packet's sender, who is on the side that packet came from.
	if in.way, ok = wayOf(e, &quoted); !ok || in.tuple.Dst != quoted.Src {
		return w.drop(p, WrongInner)
	}
	return true
}

// fromTarget says whether the datagram comes from one of the two targets that its flow names, and notes which. An address
// is a target's in the VPC of the flow's node alone.
func (w *worker) fromTarget(in *inner, e *flow.StickyEntry) bool {
	p := in.outer
	if e.Node != w.view.enis[p.key.ENI].node {
		return false
	}
	src := mapped(p.ip().Src())
	for _, r := range [...]flow.Ref{e.Target, e.Previous} {
		if t := w.view.target(r); t != nil && t.addr == src {
			in.from = r.Slot
			return true
		}
	}
	return false
}

// isEnd says whether an endpoint that a flow names has this number.
func (w *worker) isEnd(r flow.Ref, number uint64) bool {
	return w.view.hasENI(r) && w.view.enis[r.Slot].gateway.number == number
}

// wayOf is the direction of the flow that a tuple has; false means that it is not the flow's. A later fragment shows no
// ports, and in IPv6 not for certain the protocol; those are taken for the flow's.
func wayOf(e *flow.StickyEntry, t *wire.Tuple) (int, bool) {
	proto, sport, dport := t.Proto, t.SrcPort, t.DstPort
	if t.Frag.IsLater() {
		sport, dport = e.Key.APort, e.Key.BPort
		if t.Src == e.Key.B {
			sport, dport = dport, sport
		}
		if t.Version == 6 {
			proto = e.Key.Proto
		}
	}
	key, reverse := flow.NewStickyKey(e.Key.Kind, e.Key.Scope, proto, t.Src, t.Dst, sport, dport)
	if key != e.Key || disguised(t) {
		return 0, false
	}
	if reverse {
		return 1, true
	}
	return 0, true
}
