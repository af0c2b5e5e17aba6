// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// mapped is the IPv4-mapped IPv6 form of an IPv4 address, the form of all keys.
func mapped(a [4]byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a[0], 13: a[1], 14: a[2], 15: a[3]}
}

// unmapped is the IPv4 address in an IPv4-mapped one.
func unmapped(a [16]byte) [4]byte { return [4]byte(a[12:]) }

// parse
//
// Expects: buf and in.
// Does: finds the headers, the ENI the packet is addressed to, the flow key, its hash and its owner's part of it.
// Drops: NotIPv4, Malformed, NextHopOnly, NotForwardable.
// See: RFC 791, RFC 9293 section 3.1, RFC 792.
func (w *worker) parse(p *packet, buf *port.Buffer, in uint16) bool {
	*p = packet{buf: buf, in: in, sticky: p.sticky}
	if w.view.ports[in].transit {
		if eni := w.nextHop(p); eni >= 0 {
			return w.parseTransit(p, uint16(eni))
		}
	}
	b := buf.Bytes()
	if len(b) == 0 || b[0]>>4 != 4 {
		return w.drop(p, NotIPv4)
	}
	ip, ok := wire.ParseIPv4(b)
	if !ok {
		return w.drop(p, Malformed)
	}
	if n := ip.TotalLen(); n < len(b) { // padding of a short Ethernet frame
		buf.SetLen(n)
	}
	p.proto, p.l4, p.fragment = ip.Protocol(), uint16(ip.HeaderLen()), ip.IsFragment()
	p.key.Remote = mapped(ip.Src())
	slot := w.view.addrs.find(in, mapped(ip.Dst()))
	if slot >= 0 {
		p.key.ENI, p.role = uint16(slot), w.view.enis[slot].role
	}
	if p.role == RoleGatewayEndpoint {
		return w.drop(p, NextHopOnly)
	}
	if p.fragment {
		return true
	}
	switch p.proto {
	case wire.ProtoTCP:
		ok = p.parseTCP()
	case wire.ProtoICMP:
		ok = p.parseICMP()
	}
	if !ok {
		return w.drop(p, Malformed)
	}
	p.hash = w.flows.Hash(&p.key)
	return true
}

func (p *packet) parseTCP() bool {
	b := p.buf.Bytes()
	if len(b) < int(p.l4)+wire.TCPMinLen {
		return false
	}
	tcp := p.tcp()
	hl := tcp.HeaderLen()
	if hl < wire.TCPMinLen || len(tcp) < hl {
		return false
	}
	if p.buf.GSOType != port.GSONone && p.buf.GSOType&^port.GSOECN != port.GSOTCPv4 {
		return false
	}
	p.body = p.l4 + uint16(hl)
	p.payload = uint32(len(tcp) - hl)
	p.seq, p.ack, p.tcpFlags = tcp.Seq(), tcp.Ack(), tcp.Flags()
	p.key.RemotePort, p.key.LocalPort = tcp.SrcPort(), tcp.DstPort()
	return true
}

// parseICMP finds the TCP segment that an ICMP error quotes; its key is that of the segment's replies, since the
// quoted segment is one that this ENI sent.
func (p *packet) parseICMP() bool {
	b := p.buf.Bytes()[p.l4:]
	if len(b) < wire.ICMPLen {
		return false
	}
	if !wire.ICMP(b).IsError() {
		return true
	}
	q := b[wire.ICMPLen:]
	if len(q) < wire.IPv4MinLen || q[0]>>4 != 4 {
		return true
	}
	quoted := wire.IPv4(q)
	hl := quoted.HeaderLen()
	if hl < wire.IPv4MinLen || len(q) < hl+8 || quoted.Protocol() != wire.ProtoTCP || quoted.IsFragment() ||
		quoted.Src() != p.ip().Dst() {
		return true
	}
	p.quote = p.l4 + wire.ICMPLen
	seg := q[hl:]
	p.key = flow.Key{
		Remote:     mapped(quoted.Dst()),
		RemotePort: uint16(seg[2])<<8 | uint16(seg[3]),
		LocalPort:  uint16(seg[0])<<8 | uint16(seg[1]),
		ENI:        p.key.ENI,
	}
	p.seq = uint32(seg[4])<<24 | uint32(seg[5])<<16 | uint32(seg[6])<<8 | uint32(seg[7])
	return true
}
