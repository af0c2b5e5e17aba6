// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// track
//
// Expects: a TCP segment from the client's side.
// Does: finds the segment's flow, or opens one for a SYN; follows the connection's state as far as timers need it.
// Drops: FlowRemoved, TargetUnhealthy, TargetDeregistered, FlowReset, FlowExpired and NoFlow, answered with RST; and
// what open refuses.
// See: semantics of NLB connections in doc.go; RFC 9293 section 3.10.7.
func (w *worker) track(p *packet) bool {
	h, reply, found := w.flows.FindHash(&p.key, p.hash)
	if !found || reply {
		return w.untracked(p)
	}
	e := w.flows.At(h)
	p.flow, p.handle = e, h
	anew := p.opens() && p.seq != e.ISN
	if anew || w.lapsed(e) {
		w.closeFlow(h)
		p.flow = nil
		if p.opens() {
			return w.open(p)
		}
		return w.refuse(p, FlowExpired)
	}
	if why := w.ended(e); why != Unexplained {
		return w.refuse(p, why)
	}
	if e.State == flow.Reset {
		return w.refuse(p, FlowReset)
	}
	w.followClient(p, e)
	return true
}

// untracked decides on a segment from the client's side that belongs to no flow.
func (w *worker) untracked(p *packet) bool {
	if p.opens() {
		return w.open(p)
	}
	if w.view.enis[p.key.ENI].listener(p.key.LocalPort) == nil && p.role == RoleEndpoint {
		return w.drop(p, NoListener)
	}
	return w.refuse(p, NoFlow)
}

// trackReply
//
// Expects: a TCP segment, or an ICMP error that quotes one, from the target's side.
// Does: finds the flow whose node, NAT port and target these are; follows the connection's state.
// Drops: ProviderInitiated; ICMPUnrelated; FlowRemoved, TargetUnhealthy, TargetDeregistered, FlowReset, FlowExpired and
// NoFlow, answered with RST.
// See: AWS PrivateLink guide, "services cannot initiate requests"; RFC 5508 REQ-4.
func (w *worker) trackReply(p *packet) bool {
	h, reply, found := w.flows.FindHash(&p.key, p.hash)
	switch {
	case p.quote != 0 && (!found || !reply):
		return w.drop(p, ICMPUnrelated)
	case p.opens():
		return w.drop(p, ProviderInitiated)
	case !found || !reply:
		return w.refuse(p, NoFlow)
	}
	e := w.flows.At(h)
	p.flow, p.handle = e, h
	if w.lapsed(e) {
		w.closeFlow(h)
		p.flow = nil
		return w.refuse(p, FlowExpired)
	}
	if why := w.ended(e); why != Unexplained {
		return w.refuse(p, why)
	}
	if e.State == flow.Reset {
		return w.refuse(p, FlowReset)
	}
	if p.quote == 0 {
		w.followTarget(p, e)
	}
	return true
}

// ended says why the view, as it is now, no longer lets the flow live; Unexplained means that it does. What has ended
// once stays so: after the first RST a connection does not come back.
func (w *worker) ended(e *flow.Entry) Reason {
	if e.Ended != 0 {
		return Reason(e.Ended)
	}
	why := w.view.verdict(e)
	if why != Unexplained {
		e.Ended = uint8(why)
	}
	return why
}

// followClient notes what a segment from the client does to the connection.
func (w *worker) followClient(p *packet, e *flow.Entry) {
	f := p.tcpFlags
	switch {
	case f&wire.TCPRst != 0:
		if e.State == flow.Opening || !wire.SeqBefore(seqToTarget(e, p.seq, p.payload, f), e.AckTarget) {
			w.reset(e)
			w.total.live[totalClientResets]++
		}
		return
	case f&wire.TCPSyn != 0: // a retransmission; half-open connections do not live longer for it
		return
	}
	if wire.SeqAfter(p.ack, e.AckClient) || e.State == flow.Opening {
		e.AckClient = p.ack
	}
	if e.State == flow.Opening && e.Flags&flow.SynAck != 0 {
		e.State, e.Seen = flow.Established, w.now
	}
	if f&wire.TCPFin != 0 {
		e.Flags |= flow.FinClient
	}
	w.touch(e)
}

// followTarget notes what a segment from the target does to the connection.
func (w *worker) followTarget(p *packet, e *flow.Entry) {
	f := p.tcpFlags
	switch {
	case f&wire.TCPRst != 0:
		if e.State == flow.Opening || !wire.SeqBefore(p.seq, e.AckClient) {
			w.reset(e)
			w.total.live[totalTargetResets]++
		}
		return
	case f&wire.TCPSyn != 0:
		w.followSynAck(p, e)
		return
	}
	if f&wire.TCPAck != 0 && wire.SeqAfter(p.ack, e.AckTarget) {
		e.AckTarget = p.ack
	}
	if f&wire.TCPFin != 0 {
		e.Flags |= flow.FinTarget
	}
	w.touch(e)
}

// followSynAck keeps what the target said of itself: its MSS and window scale.
func (w *worker) followSynAck(p *packet, e *flow.Entry) {
	tcp := p.tcp()
	e.Flags |= flow.SynAck
	if wire.SeqAfter(p.ack, e.AckTarget) { // of data in the SYN; a late duplicate takes nothing back
		e.AckTarget = p.ack
	}
	e.TargetMSS = DefaultMSS
	if mss, ok := tcp.MSS(); ok {
		e.TargetMSS = min(mss, MaxMSS)
	}
	if shift, ok := tcp.WindowScale(); ok {
		e.TargetShift = min(shift, 14)
	} else {
		e.Flags &^= flow.WindowScale
	}
}

// touch restarts the idle timer of an open connection and begins the closing time when both sides have sent FIN.
func (w *worker) touch(e *flow.Entry) {
	if e.State == flow.Closing {
		return
	}
	if e.Flags&(flow.FinClient|flow.FinTarget) == flow.FinClient|flow.FinTarget {
		e.State = flow.Closing
	}
	if e.State != flow.Opening {
		e.Seen = w.now
	}
}

func (w *worker) reset(e *flow.Entry) { e.State, e.Seen = flow.Reset, w.now }
