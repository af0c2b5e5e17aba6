// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// owner is the worker that owns the packet's flow, computed from the packet alone: from the symmetric hash of the
// tuple toward a service, from the NAT port on replies, from the sticky key toward an appliance. What belongs to no flow is its receiver's.
func (w *worker) owner(p *packet) int {
	workers := len(w.engine.workers)
	switch {
	case workers == 1 || p.role == RoleNone:
		return w.id
	case p.role == RoleGatewayEndpoint && p.fragment && w.view.enis[p.key.ENI].gateway.kind == flow.FiveTuple:
		return w.fragmentOwner(p)
	case p.role == RoleGatewayEndpoint:
		return flow.StickyOwner(p.hash, workers)
	case p.fragment || p.body == 0 && p.quote == 0: // GENEVE among them: each datagram has an owner of its own, see decapsulate
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
