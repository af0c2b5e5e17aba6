// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// unwrap
//
// Expects: a packet addressed to a GWLB node, other than TCP and ICMP, which concern health checks.
// Does: takes the GENEVE datagram, or each of a UDP super-packet, through decapsulate, recognise and deliver.
// Drops: NotGeneve, Malformed, OuterChecksum, GeneveTruncated.
// See: RFC 8926 section 3.3; RFC 768.
func (w *worker) unwrap(p *packet) bool {
	b := p.buf.Bytes()
	if p.fragment || p.proto != wire.ProtoUDP || len(b) < int(p.l4)+wire.UDPLen {
		return w.drop(p, NotGeneve)
	}
	udp := wire.UDP(b[p.l4:])
	if udp.DstPort() != wire.GenevePort {
		return w.drop(p, NotGeneve)
	}
	if p.buf.GSOType == port.GSONone {
		n := int(udp.Length())
		if n < wire.UDPLen || n > len(udp) {
			return w.drop(p, Malformed)
		}
		udp = udp[:n]
	}
	if p.full() && udp.Checksum() != 0 && p.buf.Flags&port.DataValid == 0 {
		ip := p.ip()
		if wire.Checksum(udp, wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoUDP, uint16(len(udp)))) != 0 {
			return w.drop(p, OuterChecksum)
		}
	}
	datagrams := udp[wire.UDPLen:]
	size := len(datagrams)
	if p.buf.GSOType == port.GSOUDP {
		size = int(p.buf.GSOSize)
	}
	sent := size == 0 && w.drop(p, GeneveTruncated)
	for len(datagrams) > 0 {
		n := min(size, len(datagrams))
		w.makeRoom() // the datagrams so far are sent, and those to come are where they were
		in := inner{outer: p, datagram: datagrams[:n], alone: n == len(udp)-wire.UDPLen}
		sent = w.fromInside(&in) || sent
		datagrams = datagrams[n:]
	}
	return sent
}

// inner is one GENEVE datagram on its way out of its outer packet.
type inner struct {
	outer    *packet
	datagram []byte // GENEVE header and inner packet
	alone    bool   // the only one of its outer packet, whose buffer it may leave in
	geneve   wire.GeneveAWS
	tuple    wire.Tuple
	handle   uint32 // of the flow
	way      int    // direction of the flow whose endpoint it leaves by
	from     uint16 // slot of the target it comes from
	end      uint16 // slot of the endpoint it leaves by
	slot     uint16 // of the port it leaves by
}

// packet is the inner packet.
func (in *inner) packet() []byte { return in.datagram[wire.GeneveAWSLen:] }

// relay gives a datagram of a super-packet to the worker that owns its flow, as a packet of its own.
func (w *worker) relay(in *inner, owner int) bool {
	p := in.outer
	buf := w.spare()
	head := int(p.l4) + wire.UDPLen
	buf.Set(p.buf.Bytes()[:head])
	b := buf.SetLen(head + len(in.datagram))
	copy(b[head:], in.datagram)
	wire.IPv4(b).RewriteTotalLen(len(b))
	udp := wire.UDP(b[p.l4:])
	udp.SetLength(uint16(len(udp)))
	udp.SetChecksum(0)
	w.handOver(&packet{buf: buf, in: p.in, role: p.role, key: p.key}, owner)
	return false
}
