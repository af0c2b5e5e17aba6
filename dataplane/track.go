// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// track
//
// Expects: a segment from the client's side with its flow, or one that may open a flow.
// Does: follows the connection's state as far as timers need it, or opens the flow, in place of the one that had the tuple.
// Drops: what open refuses.
// See: semantics of NLB connections in doc.go; RFC 9293 section 3.10.7.
func (w *worker) track(p *packet) bool {
	if p.opening {
		return w.openAnew(p)
	}
	e, f := p.flow, p.tcpFlags
	switch {
	case f&wire.TCPRst != 0:
		if e.State == flow.Opening || !wire.SeqBefore(seqToTarget(e, p.seq, p.payload, f), e.AckTarget) {
			w.reset(e)
			w.total.live[totalClientResets]++
		}
		return true
	case f&wire.TCPSyn != 0: // a retransmission; half-open connections do not live longer for it
		return true
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
	return true
}

// openAnew opens a flow, in place of the one that has the tuple, if any.
func (w *worker) openAnew(p *packet) bool {
	if p.flow != nil {
		w.closeFlow(p.handle)
		p.flow = nil
	}
	return w.open(p)
}

// trackReply
//
// Expects: a segment from the target's side with its flow, or an ICMP error with the flow that it quotes.
// Does: follows the connection's state.
// Drops: nothing.
// See: RFC 9293 section 3.10.7.
func (w *worker) trackReply(p *packet) bool {
	e, f := p.flow, p.tcpFlags
	switch {
	case p.quote != 0:
		return true
	case f&wire.TCPRst != 0:
		if e.State == flow.Opening || !wire.SeqBefore(p.seq, e.AckClient) {
			w.reset(e)
			w.total.live[totalTargetResets]++
		}
		return true
	case f&wire.TCPSyn != 0:
		w.followSynAck(p, e)
		return true
	}
	if f&wire.TCPAck != 0 && wire.SeqAfter(p.ack, e.AckTarget) {
		e.AckTarget = p.ack
	}
	if f&wire.TCPFin != 0 {
		e.Flags |= flow.FinTarget
	}
	w.touch(e)
	return true
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
