// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/dataplane/flow"

// find
//
// Expects: a TCP segment from the client's side.
// Does: finds the segment's flow. For one of no flow it asks the endpoint's security groups, and then whether it is a SYN:
// that may open a flow. A SYN with another initial number than the flow of its tuple is one of no flow; while it is refused
// that flow lives on.
// Drops: BadSource; SecurityGroup and NoListener, in silence; FlowRemoved, TargetUnhealthy, TargetDeregistered, FlowReset,
// FlowExpired and NoFlow, answered with RST.
// See: group.go; semantics of NLB connections in doc.go; RFC 9293 section 3.10.7.
func (w *worker) find(p *packet) bool {
	h, reply, found := w.flows.FindHash(&p.key, p.hash)
	if !found || reply {
		return w.unfound(p, NoFlow)
	}
	e := w.flows.At(h)
	p.flow, p.handle = e, h
	switch lapsed := w.lapsed(e); {
	case p.opens() && (lapsed || p.seq != e.ISN):
		return w.unfound(p, NoFlow)
	case lapsed:
		w.closeFlow(h)
		p.flow = nil
		return w.unfound(p, FlowExpired)
	}
	if why := w.ended(e); why != Unexplained {
		return w.refuse(p, why)
	}
	return true
}

// unfound decides on a segment from the client's side that is of no flow. Whom the groups refuse does not learn that there
// is an endpoint: not by RST, and not by its silence about one port.
func (w *worker) unfound(p *packet, why Reason) bool {
	eni := &w.view.enis[p.key.ENI]
	switch {
	case w.ours(p, unmapped(p.key.Remote)):
		return w.drop(p, BadSource)
	case !eni.letsIn(p.key.Remote, p.key.LocalPort):
		return w.drop(p, SecurityGroup)
	case p.role == RoleEndpoint && eni.listener(p.key.LocalPort) == nil:
		return w.drop(p, NoListener)
	case !p.opens():
		return w.refuse(p, why)
	}
	p.opening = true
	return true
}

// findReply
//
// Expects: a TCP segment, or an ICMP error that quotes one, from the target's side.
// Does: finds the flow whose node, NAT port and target these are.
// Drops: BadSource; ProviderInitiated; ICMPUnrelated; FlowRemoved, TargetUnhealthy, TargetDeregistered, FlowReset,
// FlowExpired and NoFlow, answered with RST.
// See: AWS PrivateLink guide, "services cannot initiate requests"; RFC 5508 REQ-4.
func (w *worker) findReply(p *packet) bool {
	h, reply, found := w.flows.FindHash(&p.key, p.hash)
	switch found = found && reply; {
	case p.quote != 0 && !found:
		return w.drop(p, ICMPUnrelated)
	case !found && w.ours(p, unmapped(p.key.Remote)):
		return w.drop(p, BadSource)
	case p.opens():
		return w.drop(p, ProviderInitiated)
	case !found:
		return w.refuse(p, NoFlow)
	}
	e := w.flows.At(h)
	if w.lapsed(e) {
		w.closeFlow(h)
		return w.refuse(p, FlowExpired)
	}
	p.flow, p.handle = e, h
	if why := w.ended(e); why != Unexplained {
		return w.refuse(p, why)
	}
	return true
}

// ended says why the flow is over: the view, as it is now, no longer lets it live, or it has been reset. Unexplained means
// that it lives. What has ended once stays so: after the first RST a connection does not come back.
func (w *worker) ended(e *flow.Entry) Reason {
	if e.Ended != 0 {
		return Reason(e.Ended)
	}
	why := w.view.verdict(e)
	switch {
	case why != Unexplained:
		e.Ended = uint8(why)
	case e.State == flow.Reset:
		return FlowReset
	}
	return why
}
