// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// nextHop is the GWLB endpoint that a packet is routed through, or -1 when it is addressed to an ENI or routed elsewhere.
// On a TUN that is the endpoint alone there; on a TAP the link layer names it.
func (w *worker) nextHop(p *packet) int {
	b := p.buf.Bytes()
	if len(b) >= wire.IPv4MinLen && b[0]>>4 == 4 && w.view.addrs.find(p.in, mapped(wire.IPv4(b).Dst())) >= 0 {
		return -1
	}
	if eni := w.view.ports[p.in].gateway; eni >= 0 {
		return int(eni)
	}
	eni := w.view.addrs.find(p.in, mapped(p.buf.Via))
	if eni >= 0 && w.view.enis[eni].role == RoleGatewayEndpoint && !w.view.enis[eni].gone {
		return eni
	}
	return -1
}

// parseTransit is parse for a packet that is routed through a GWLB endpoint: of any protocol, IPv4 or IPv6.
func (w *worker) parseTransit(p *packet, eni uint16) bool {
	p.key.ENI, p.role = eni, RoleGatewayEndpoint
	var t wire.Tuple
	switch {
	case !t.Parse(p.buf.Bytes()):
		return w.drop(p, Malformed)
	case confined(&t.Dst) || confined(&t.Src) || disguised(&t):
		return w.drop(p, NotForwardable)
	}
	p.buf.SetLen(int(t.End))
	w.setTuple(p, &t)
	return true
}

// setTuple fills in what a packet's tuple says. The key of a later fragment lacks the ports until joinFirst has found
// them.
func (w *worker) setTuple(p *packet, t *wire.Tuple) {
	p.proto, p.l4, p.tcpFlags, p.seq = t.Proto, t.L4, t.TCPFlags, t.TCPSeq
	p.fragment, p.later = t.Frag.IsFragment(), t.Frag.IsLater()
	p.key.RemotePort, p.key.LocalPort = t.SrcPort, t.DstPort
	g := w.view.enis[p.key.ENI].gateway
	*p.sticky, p.reverse = flow.NewStickyKey(g.kind, g.scope, t.Proto, t.Src, t.Dst, t.SrcPort, t.DstPort)
	p.hash = w.inspections.Hash(p.sticky)
}

// disguised says whether a packet of IPv6 has addresses that stand for IPv4 ones, as those of IPv4 do in keys. They are not
// for the wire (RFC 4291 section 2.5.5.2), and its flow would be one of IPv4.
func disguised(t *wire.Tuple) bool { return t.Version == 6 && (isMapped(&t.Src) || isMapped(&t.Dst)) }

func isMapped(a *[16]byte) bool { return [12]byte(a[:12]) == [12]byte{10: 0xff, 11: 0xff} }

// confined says whether an address, IPv4 in its mapped form, never leaves its link: link-local, multicast, unspecified
// and loopback ones.
func confined(a *[16]byte) bool {
	if *a == [16]byte{} || *a == [16]byte{15: 1} {
		return true
	}
	if isMapped(a) {
		return a[12] == 0 || a[12] == 127 || a[12] >= 224 || a[12] == 169 && a[13] == 254
	}
	return a[0] == 0xff || a[0] == 0xfe && a[1]&0xc0 == 0x80
}
