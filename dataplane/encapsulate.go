// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Fields of the outer headers that AWS leaves open. DF is set and the identification is zero, since a packet that fits
// 8568 bytes needs no fragments; DSCP is copied, as the inner packet would have been treated.
const (
	outerTTL = 255
	outerLen = wire.IPv4MinLen + wire.UDPLen // bytes in front of the GENEVE header
	dscpMask = 0xfc
)

// encapsulate
//
// Expects: a packet with its flow.
// Does: puts each packet, or each segment of a super-packet, behind a GENEVE header in the form AWS sends, and sends the
// datagrams of a stream together as UDP super-packets. Payload is not copied: headers go between its pieces.
// Drops: NoRoute.
// See: runs.go; AWS GWLB documentation; RFC 8926.
func (w *worker) encapsulate(p *packet) bool {
	e := p.inspected
	out := w.view.enis[e.Node.Slot].toward(w.view.targets[e.Target.Slot].addr)
	if !w.view.hasPort(out) || !w.view.hasENI(e.Node) {
		return w.drop(p, NoRoute)
	}
	key := runKey{kind: outerRun, port: out.Slot,
		stream: uint32(e.Target.Slot)<<16 | uint32(e.SourcePort), sub: uint32(e.Node.Slot)}
	if p.buf.GSOType == port.GSONone {
		port.Complete(p.buf)
		w.wrapWhole(p, &key)
	} else {
		w.wrapSegments(p, &key)
	}
	return true
}

func innerTOS(b []byte) uint8 {
	if b[0]>>4 == 6 {
		return wire.IPv6(b).TrafficClass()
	}
	return wire.IPv4(b).TOS()
}

func etherType(b []byte) uint16 {
	if b[0]>>4 == 6 {
		return wire.EtherTypeIPv6
	}
	return wire.EtherTypeIPv4
}

// putGeneve writes the GENEVE header of a packet of the flow in the packet's direction.
func (w *worker) putGeneve(dst []byte, p *packet, proto uint16) {
	wire.PutGeneveAWS(dst, proto, w.view.enis[p.key.ENI].gateway.number, 0, p.inspected.Cookie)
}

// wrapWhole makes a datagram of a plain packet, in the packet's own buffer.
func (w *worker) wrapWhole(p *packet, key *runKey) {
	proto, tos := etherType(p.buf.Bytes()), innerTOS(p.buf.Bytes())&dscpMask
	b := p.buf.Push(wire.GeneveAWSLen)
	w.putGeneve(b, p, proto)
	w.countWrapped(p, len(b))
	if r := w.openRun(key); r != nil && r.tos == tos && r.takes(len(b), outerMost) {
		r.add(len(b), b)
		return
	}
	w.beginOuter(p, key, p.buf, len(b), tos)
}

// wrapSegments makes a datagram of each segment of a super-packet. The headers of all but the first member of a run lie
// in the arena, those of the first in a buffer of their own.
func (w *worker) wrapSegments(p *packet, key *runKey) {
	b := p.buf.Bytes()
	proto, tos := etherType(b), innerTOS(b)&dscpMask
	hdr := int(p.buf.HdrLen)
	var cut port.Segmenter
	cut.Start(p.buf)
	for {
		payload, ok := cut.Cut()
		if !ok {
			return
		}
		w.makeRoom() // the segments so far are sent, and those to come are where they were
		size := wire.GeneveAWSLen + hdr + len(payload)
		w.countWrapped(p, size)
		if r := w.openRun(key); r != nil && r.tos == tos && r.takes(size, outerMost) {
			h := w.arena.take(wire.GeneveAWSLen + hdr)
			w.putGeneve(h, p, proto)
			cut.PutHeaders(h[wire.GeneveAWSLen:], payload)
			r.add(size, h, payload)
			continue
		}
		head := w.spare()
		head.Reset()
		h := head.SetLen(wire.GeneveAWSLen + hdr)
		w.putGeneve(h, p, proto)
		cut.PutHeaders(h[wire.GeneveAWSLen:], payload)
		head.AddTail(payload)
		w.beginOuter(p, key, head, size, tos)
	}
}

// beginOuter begins a run with a datagram of size bytes, of which the head's window is the start. What its headers say of
// lengths is written by finish.
func (w *worker) beginOuter(p *packet, key *runKey, head *port.Buffer, size int, tos uint8) {
	e := p.inspected
	src := unmapped(w.view.enis[e.Node.Slot].addr)
	dst := unmapped(w.view.targets[e.Target.Slot].addr)
	b := head.Push(outerLen)
	ip := wire.IPv4(b)
	ip.Init(outerLen+size, wire.ProtoUDP, outerTTL, src, dst)
	ip.SetTOS(tos)
	udp := wire.UDP(b[wire.IPv4MinLen:])
	udp.SetSrcPort(e.SourcePort)
	udp.SetDstPort(wire.GenevePort)
	head.Offload, head.Via = port.Offload{}, [4]byte{}
	w.beginRun(run{head: head, key: *key, tos: tos, size: size, bytes: size, count: 1, hdr: outerLen})
}

// countWrapped counts a datagram on its way to the appliance, at the node and at the target.
func (w *worker) countWrapped(p *packet, size int) {
	bytes := uint64(size + outerLen)
	c := w.count(w.view.enis[p.inspected.Node.Slot].counters[w.id])
	c.live[eniPacketsOut]++
	c.live[eniBytesOut] += bytes
	c = w.count(w.view.targets[p.inspected.Target.Slot].counters[w.id])
	c.live[targetPacketsOut]++
	c.live[targetBytesOut] += bytes
}
