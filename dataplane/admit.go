// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/pkg/wire"

// admit
//
// Expects: a packet addressed to an endpoint.
// Does: lets whole TCP segments with a sensible combination of flags pass, and nothing else.
// Drops: Fragment, NotTCP, ICMPQuery, ICMPUnrelated, BadFlags.
// See: AWS NLB documentation (fragments, TCP only), RFC 9293 section 3.10.7.
func (w *worker) admit(p *packet) bool {
	switch {
	case p.fragment:
		return w.drop(p, Fragment)
	case p.proto == wire.ProtoICMP && wire.ICMP(p.buf.Bytes()[p.l4:]).IsError():
		return w.drop(p, ICMPUnrelated)
	case p.proto == wire.ProtoICMP:
		return w.drop(p, ICMPQuery)
	case p.proto != wire.ProtoTCP:
		return w.drop(p, NotTCP)
	case !sensible(p.tcpFlags):
		return w.drop(p, BadFlags)
	}
	return true
}

// admitReply
//
// Expects: a packet addressed to a load balancer node.
// Does: lets whole TCP segments pass, and ICMP errors that quote one and are intact (RFC 5508, REQ-3).
// Drops: Fragment, NotTCP, ICMPQuery, ICMPUnrelated, ICMPFragNeeded, ICMPBadChecksum, BadFlags.
// See: RFC 5508 section 4.
func (w *worker) admitReply(p *packet) bool {
	if p.proto != wire.ProtoICMP || p.fragment {
		return w.admit(p)
	}
	icmp := wire.ICMP(p.buf.Bytes()[p.l4:])
	switch {
	case !icmp.IsError():
		return w.drop(p, ICMPQuery)
	case p.quote == 0:
		return w.drop(p, ICMPUnrelated)
	case icmp.Type() == wire.ICMPUnreachable && icmp.Code() == wire.ICMPFragNeeded:
		return w.drop(p, ICMPFragNeeded)
	case icmp.Type() != wire.ICMPUnreachable && icmp.Type() != wire.ICMPTimeExceeded && icmp.Type() != wire.ICMPParameter:
		return w.drop(p, ICMPUnrelated)
	case wire.Checksum(icmp, 0) != 0:
		return w.drop(p, ICMPBadChecksum)
	}
	quoted := wire.IPv4(p.buf.Bytes()[p.quote:])
	if wire.Checksum(quoted[:quoted.HeaderLen()], 0) != 0 {
		return w.drop(p, ICMPBadChecksum)
	}
	return true
}

// sensible says whether a connection can have sent a segment with these flags: SYN, RST or ACK, and SYN neither with
// FIN nor with RST.
func sensible(f uint8) bool {
	if f&(wire.TCPSyn|wire.TCPRst|wire.TCPAck) == 0 {
		return false
	}
	return f&wire.TCPSyn == 0 || f&(wire.TCPFin|wire.TCPRst) == 0
}
