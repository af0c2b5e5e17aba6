// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// owner is the worker that owns the packet's flow, computed from the packet alone: from the symmetric hash of the tuple
// toward a service, from the NAT port on replies, from the sticky key toward an appliance, and from the flow cookie on the
// way back. What belongs to no flow is its receiver's.
func (w *worker) owner(p *packet) int {
	workers := len(w.engine.workers)
	switch {
	case workers == 1 || p.role == RoleNone:
		return w.id
	case p.role == RoleGatewayEndpoint && p.fragment && w.view.enis[p.key.ENI].gateway.followsFirst(p.buf.Bytes(), p.proto):
		return w.fragmentOwner(p)
	case p.role == RoleGatewayEndpoint:
		return w.inspector(p.sticky)
	case p.fragment:
		return w.id
	case p.role == RoleGatewayNode && p.proto == wire.ProtoUDP:
		return w.cookieOwner(p)
	case p.body == 0 && p.quote == 0:
		return w.id
	case p.inward():
		if owner := flow.Owner(p.key.LocalPort, workers); owner >= 0 {
			return owner
		}
		return w.id
	}
	ip := p.ip()
	return port.QueueByFlow(port.FlowHash(ip.Src(), ip.Dst(), p.key.RemotePort, p.key.LocalPort), workers)
}

// cookieOwner is the worker that the cookie of a GENEVE packet names. A super-packet goes to that of its first datagram,
// which the others share but for rare ones; those are relayed one by one, see decapsulate.
func (w *worker) cookieOwner(p *packet) int {
	b := p.buf.Bytes()
	g, why := wire.ParseGeneveAWS(b[min(int(p.l4)+wire.UDPLen, len(b)):])
	if owner := w.inspections.CookieWorker(g.Cookie); why == wire.GeneveOK && owner < len(w.engine.workers) {
		return owner
	}
	return w.id
}

// inspector is the worker that owns the GWLB flow of a sticky key: the one whose queue the kernel chooses for the flow's
// packets, so that they come to it at once. Ports that do not count are 0 in a key.
func (w *worker) inspector(key *flow.StickyKey) int {
	a, b := unmapped(key.A), unmapped(key.B)
	if !isMapped(&key.A) {
		a, b = port.Fold(key.A), port.Fold(key.B)
	}
	return port.QueueByFlow(port.FlowHash(a, b, key.APort, key.BPort), len(w.engine.workers))
}

// PortUse says what traffic a port carries, as far as it matters for the choice of queues.
type PortUse uint8

// Uses of ports.
const (
	ByFlow      PortUse = iota // clients, or packets for appliances that are told apart by ports
	ByNATPort                  // load balancer nodes, to which targets reply
	ByAddresses                // packets for appliances that are told apart without ports
)

// Steering is how the kernel should choose the queues of a port, so that packets come to their owners at once.
func Steering(use PortUse) port.Steering {
	switch use {
	case ByFlow:
		return port.Steering{}
	case ByAddresses:
		return port.Steering{Addresses: true}
	}
	return port.Steering{Ranges: []port.PortRange{{Base: flow.NATBase, Count: flow.NATCount}, {Base: flow.ProbeBase, Count: flow.ProbeCount}}}
}

// steeredTo is the queue that the kernel chooses for GENEVE packets which a target returns to a node.
func steeredTo(node, target [4]byte, sourcePort uint16, queues int) int {
	return port.QueueByFlow(port.FlowHash(node, target, sourcePort, wire.GenevePort), queues)
}
