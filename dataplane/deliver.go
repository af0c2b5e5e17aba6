// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// leave
//
// Expects: an inner packet of a flow, and the direction whose endpoint it leaves by.
// Does: finds that endpoint, and its port.
// Drops: TooBig, NoRoute.
// See: mtu.go.
func (w *worker) leave(in *inner) bool {
	p, e := in.outer, w.inspections.At(in.handle)
	if e.Ends[in.way] == (flow.Ref{}) { // nothing has come from there yet: an answer of the appliance's own
		in.way = 1 - in.way
	}
	end, side := e.Ends[in.way], e.Sides[in.way]
	if !w.view.hasENI(end) || !w.view.hasPort(side) {
		return w.drop(p, NoRoute)
	}
	if len(in.packet()) > w.view.enis[end.Slot].gateway.mtu {
		return w.drop(p, TooBig)
	}
	in.end, in.slot = end.Slot, side.Slot
	return true
}

// deliver
//
// Expects: an inner packet of a flow, and the endpoint it leaves by.
// Does: sends it through that endpoint, together with its neighbours of the same stream where they make a super-packet.
// It is sent as the appliance left it.
// Drops: nothing.
// See: runs.go; the kernel's GRO rules (net/ipv4/tcp_offload.c, udp_offload.c).
func (w *worker) deliver(in *inner) bool {
	size := len(in.packet())
	w.inspections.At(in.handle).Seen = w.now
	c := w.count(w.view.enis[in.end].counters[w.id])
	c.live[eniPacketsOut]++
	c.live[eniBytesOut] += uint64(size)
	c = w.count(w.view.targets[in.from].counters[w.id])
	c.live[targetPacketsIn]++
	c.live[targetBytesIn] += uint64(size)
	return w.merge(in)
}

// merge lets the packet join the run of its stream, or begin one, or sends it alone.
func (w *worker) merge(in *inner) bool {
	t := &in.tuple
	m := member{b: in.packet(), l4: int(t.L4)}
	key := runKey{port: in.slot, stream: in.handle, sub: uint32(t.SrcPort)<<16 | uint32(t.DstPort)}
	switch t.Proto {
	case wire.ProtoTCP:
		key.kind = innerTCP
	case wire.ProtoUDP:
		key.kind = innerUDP
	default:
		return w.begin1(in, nil)
	}
	r := w.openRun(&key)
	if t.Frag.IsFragment() || !m.mergeable(key.kind) {
		if r != nil {
			r.last = true // what comes behind this packet must not go before it
		}
		return w.begin1(in, nil)
	}
	if r != nil && r.takes(len(m.payload), port.MaxPacket-r.hdr) && r.continues(&m) {
		r.join(&m)
		return true
	}
	if r != nil {
		r.last = true
	}
	return w.begin1(in, &run{key: key, size: len(m.payload), bytes: len(m.payload), count: 1, hdr: m.hdr,
		seq: m.seq + uint32(len(m.payload)), last: m.last})
}

// begin1 puts the packet on its vector, as the first member of a run unless r is nil.
func (w *worker) begin1(in *inner, r *run) bool {
	buf := in.outer.buf
	if in.alone {
		buf.Pull(int(in.outer.l4) + wire.UDPLen + wire.GeneveAWSLen)
		buf.SetLen(len(in.packet()))
		buf.Offload = port.Offload{}
	} else {
		buf = w.spare()
		b := in.packet()
		head := len(b)
		if r != nil {
			head = r.hdr
		}
		buf.Set(b[:head])
		if head < len(b) {
			buf.AddTail(b[head:])
		}
	}
	buf.Via = unmapped(w.view.enis[in.end].addr)
	if r == nil {
		w.enqueue(in.slot, buf)
		return true
	}
	r.head = buf
	w.beginRun(*r)
	return true
}

// member is a packet that may become a member of an inner run.
type member struct {
	b       []byte
	l4, hdr int
	payload []byte
	seq     uint32
	last    bool // TCP: PSH or FIN, behind which nothing is put
}

// mergeable says whether the packet is one of those that can be merged: no IP options or extension headers, for TCP no
// flags but ACK, PSH and FIN, some payload, and right checksums, so that no error is laundered.
func (m *member) mergeable(kind runKind) bool {
	plain := wire.IPv4MinLen
	if m.b[0]>>4 == 6 {
		plain = wire.IPv6Len
	}
	if m.l4 != plain {
		return false
	}
	seg := m.b[m.l4:]
	if kind == innerUDP {
		udp := wire.UDP(seg)
		if int(udp.Length()) != len(seg) || udp.Checksum() == 0 {
			return false
		}
		m.hdr = m.l4 + wire.UDPLen
	} else {
		tcp := wire.TCP(seg)
		hl := tcp.HeaderLen()
		if hl < wire.TCPMinLen || hl > len(seg) || tcp.Flags()&^(wire.TCPPsh|wire.TCPFin) != wire.TCPAck {
			return false
		}
		m.hdr, m.seq, m.last = m.l4+hl, tcp.Seq(), tcp.Flags() != wire.TCPAck
	}
	m.payload = m.b[m.hdr:]
	return len(m.payload) > 0 && m.intact(kind)
}

func (m *member) intact(kind runKind) bool {
	proto := uint8(wire.ProtoTCP)
	if kind == innerUDP {
		proto = wire.ProtoUDP
	}
	seg := m.b[m.l4:]
	if m.b[0]>>4 == 6 {
		ip := wire.IPv6(m.b)
		return wire.Checksum(seg, wire.PseudoSum6(ip.Src(), ip.Dst(), proto, uint32(len(seg)))) == 0
	}
	ip := wire.IPv4(m.b)
	return wire.Checksum(ip[:wire.IPv4MinLen], 0) == 0 && wire.Checksum(seg, wire.PseudoSum4(ip.Src(), ip.Dst(), proto, uint16(len(seg)))) == 0
}

// continues says whether the packet could have been cut from one with the run's headers, behind its members.
func (r *run) continues(m *member) bool {
	h := r.head.Bytes()
	if m.hdr != r.hdr || h[0] != m.b[0] || !r.sameNetwork(h, m.b) {
		return false
	}
	if r.key.kind == innerUDP {
		return bytes.Equal(h[m.l4:m.l4+4], m.b[m.l4:m.l4+4]) // ports
	}
	a, b := wire.TCP(h[m.l4:r.hdr]), wire.TCP(m.b[m.l4:m.hdr])
	const offset = 12 // of the byte with the header's length and, since RFC 9768, a flag
	return m.seq == r.seq && bytes.Equal(a[:4], b[:4]) && a.Ack() == b.Ack() && a[offset] == b[offset] &&
		a.Window() == b.Window() && a.Urgent() == b.Urgent() && bytes.Equal(a.Options(), b.Options())
}

// sameNetwork compares the IP headers but for what segments differ in: length, checksum, and the identification, which
// counts up from segment to segment unless DF makes it meaningless.
func (r *run) sameNetwork(a, b []byte) bool {
	if a[0]>>4 == 6 {
		return bytes.Equal(a[:4], b[:4]) && bytes.Equal(a[6:wire.IPv6Len], b[6:wire.IPv6Len])
	}
	x, y := wire.IPv4(a), wire.IPv4(b)
	if !x.DontFragment() && y.ID() != x.ID()+uint16(r.count) {
		return false
	}
	return a[1] == b[1] && bytes.Equal(a[6:10], b[6:10]) && bytes.Equal(a[12:wire.IPv4MinLen], b[12:wire.IPv4MinLen])
}

// join appends a packet that continues the run.
func (r *run) join(m *member) {
	r.add(len(m.payload), m.payload)
	if r.key.kind == innerTCP {
		r.seq = m.seq + uint32(len(m.payload))
		r.flags |= wire.TCP(m.b[m.l4:]).Flags()
		r.last = r.last || m.last
	}
}
