// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// fragmentLimit is how many fragmented packets a worker remembers at once.
const fragmentLimit = 4096

// gather
//
// Expects: a packet routed through a GWLB endpoint.
// Does: gives later fragments the ports of their first one, and all fragments to the worker that owns their flow.
// Drops: FragmentOrphan; InboxFull.
// See: fragmentOwner.
func (w *worker) gather(p *packet) bool {
	if !p.fragment {
		return true
	}
	if !w.joinFirst(p, w.view.enis[p.key.ENI].gateway) {
		return w.drop(p, FragmentOrphan)
	}
	if owner := w.inspector(p.sticky); owner != w.id {
		w.handOver(p, owner)
		return false
	}
	return true
}

// followsFirst says whether a later fragment of this kind of packet tells less of its flow than the first one: it lacks the
// ports, and in IPv6 it may name another protocol.
func (g *viewGateway) followsFirst(b []byte, proto uint8) bool {
	switch {
	case g.kind == flow.TwoTuple:
		return false
	case b[0]>>4 == 6:
		return true
	}
	return g.kind == flow.FiveTuple && (proto == wire.ProtoTCP || proto == wire.ProtoUDP)
}

// joinFirst lets later fragments follow their first one: it remembers the ports of a first fragment, and gives them to the
// key of a later one. False means that the first has not come.
func (w *worker) joinFirst(p *packet, g *viewGateway) bool {
	if p.joined || !g.followsFirst(p.buf.Bytes(), p.proto) {
		return true
	}
	var t wire.Tuple
	t.Parse(p.buf.Bytes())
	key := flow.FragmentKey{Src: t.Src, Dst: t.Dst, ID: t.Frag.ID, Scope: g.scope}
	if t.Version == 4 {
		key.Proto = t.Proto
	}
	if !p.later {
		w.fragments.Remember(&key, flow.FirstFragment{SrcPort: t.SrcPort, DstPort: t.DstPort, Proto: t.Proto}, w.now)
		return true
	}
	first, ok := w.fragments.Lookup(&key, w.now)
	if !ok {
		return false
	}
	w.setPorts(p, first)
	return true
}

// setPorts completes the key of a later fragment by what its first one said.
func (w *worker) setPorts(p *packet, first flow.FirstFragment) {
	var t wire.Tuple
	t.Parse(p.buf.Bytes())
	t.SrcPort, t.DstPort, t.Proto = first.SrcPort, first.DstPort, first.Proto
	w.setTuple(p, &t)
	p.joined = true
}

// fragmentOwner is the worker that knows the fragments of a packet: all of them come to it, ports or not, and it hands
// them on to the worker of their flow.
func (w *worker) fragmentOwner(p *packet) int {
	var t wire.Tuple
	t.Parse(p.buf.Bytes())
	key, _ := flow.NewStickyKey(flow.TwoTuple, w.view.enis[p.key.ENI].gateway.scope, 0, t.Src, t.Dst, 0, 0)
	return w.inspector(&key)
}
