// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/balance"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// open makes a flow for a SYN that find has let in: it picks the target, leases a NAT port and fills the entry. What it
// refuses is answered with RST, but for options that cannot work, which are dropped in silence.
func (w *worker) open(p *packet) bool {
	tcp := p.tcp()
	if _, _, ok := tcp.FindOption(wire.OptMD5); ok {
		return w.drop(p, BadOption)
	}
	if _, _, ok := tcp.FindOption(wire.OptAO); ok {
		return w.drop(p, BadOption)
	}
	eni := &w.view.enis[p.key.ENI]
	target, l := eni.probeTarget, (*viewListener)(nil)
	if p.role == RoleEndpoint {
		l = eni.listener(p.key.LocalPort)
		if target = l.pick(w.view.key, p, eni.addr); target < 0 {
			return w.refuse(p, NoTarget)
		}
	}
	return w.openTo(p, eni, l, uint16(target))
}

// pick chooses the target of a new connection: its slot, or -1 when the pool is empty.
func (l *viewListener) pick(key [16]byte, p *packet, addr [16]byte) int {
	i := l.pool.table.Pick(balance.Hash(key, wire.ProtoTCP, p.key.Remote, addr, p.key.RemotePort, p.key.LocalPort, p.seq))
	if i < 0 {
		return -1
	}
	return int(l.pool.targets[i])
}

func (w *worker) openTo(p *packet, eni *viewENI, l *viewListener, slot uint16) bool {
	t := &w.view.targets[slot]
	pair := flow.Pair{Node: eni.node.Slot, Target: t.addr, TargetPort: t.port, Probe: l == nil}
	if l == nil { // a health check may go to another port than the traffic
		pair.TargetPort = p.key.LocalPort
	}
	if !w.view.hasPort(w.view.enis[eni.node.Slot].toward(t.addr)) {
		return w.drop(p, NoRoute)
	}
	natPort, ok := w.leases.Lease(pair, w.now)
	if !ok {
		w.total.live[totalPortErrors]++
		w.count(t.counters[w.id]).live[targetPortErrors]++
		return w.refuse(p, PortsExhausted)
	}
	reply := flow.Key{Remote: t.addr, RemotePort: pair.TargetPort, LocalPort: natPort, ENI: eni.node.Slot}
	h, ok := w.flows.Open(&p.key, &reply)
	if !ok {
		w.leases.Release(pair, natPort, w.now-flow.PortQuiet)
		return w.refuse(p, FlowTableFull)
	}
	e := w.flows.At(h)
	w.fill(e, p, eni, l, slot)
	p.flow, p.handle = e, h
	w.total.live[totalNew]++
	w.total.live[totalActive]++
	c := w.count(t.counters[w.id])
	c.live[targetNew]++
	c.live[targetActive]++
	return true
}

// fill writes what the entry needs beyond its keys and its state, which Open has set; all else is zero.
func (w *worker) fill(e *flow.Entry, p *packet, eni *viewENI, l *viewListener, slot uint16) {
	v := w.view
	t := &v.targets[slot]
	e.Endpoint = flow.Ref{Slot: p.key.ENI, Gen: eni.gen}
	e.Node = eni.node
	e.TargetRef = flow.Ref{Slot: slot, Gen: t.gen}
	e.ClientSide = flow.Ref{Slot: p.in, Gen: v.ports[p.in].gen}
	e.TargetSide = v.enis[eni.node.Slot].toward(t.addr)
	e.Seen, e.ISN = w.now, p.seq
	e.AckTarget = p.seq + 1
	e.TargetMSS = DefaultMSS
	if _, ok := p.tcp().WindowScale(); ok {
		e.Flags |= flow.WindowScale
	}
	if l == nil {
		e.Flags |= flow.Probe
		e.IdleTenths = probeIdleTenths
		return
	}
	e.IdleTenths = l.idleTenths
	if t.proxy.Enabled {
		e.Flags |= flow.Proxy
		if t.early() {
			e.Flags |= flow.ProxyEarly
		}
	}
}

// closeFlow frees the entry and gives its NAT port back; the time it has been closing counts toward the port's rest.
func (w *worker) closeFlow(h uint32) {
	e := w.flows.At(h)
	if w.lapsed(e) {
		w.total.live[totalExpired]++
	}
	closed := w.now
	if e.State == flow.Closing || e.State == flow.Reset {
		closed = e.Seen
	}
	pair := flow.Pair{Node: e.Node.Slot, Target: e.Target, TargetPort: e.TargetPort, Probe: e.Flags&flow.Probe != 0}
	w.leases.Release(pair, e.NATPort, closed)
	w.total.live[totalActive]--
	if t := w.view.target(e.TargetRef); t != nil {
		w.count(t.counters[w.id]).live[targetActive]--
	}
	w.flows.Close(h)
}
