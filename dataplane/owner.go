// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// owner is the worker that owns the packet's flow, computed from the packet alone: from the symmetric hash of the
// tuple toward a service, from the NAT port on replies. What belongs to no flow is its receiver's.
func (w *worker) owner(p *packet) int {
	workers := len(w.engine.workers)
	if workers == 1 || p.role == RoleNone || p.fragment || p.body == 0 && p.quote == 0 {
		return w.id
	}
	if p.role == RoleNode {
		if owner := flow.Owner(p.key.LocalPort, workers); owner >= 0 {
			return owner
		}
		return w.id
	}
	ip := p.ip()
	return port.QueueByFlow(port.FlowHash(ip.Src(), ip.Dst(), p.key.RemotePort, p.key.LocalPort), workers)
}

// Steering is how the kernel should choose the queues of a port, so that packets come to their owners at once: by flow, and
// on ports with load balancer nodes by the NAT port that replies are addressed to.
func Steering(nodes bool) port.Steering {
	if !nodes {
		return port.Steering{}
	}
	return port.Steering{Ranges: []port.PortRange{{Base: flow.NATBase, Count: flow.NATCount}, {Base: flow.ProbeBase, Count: flow.ProbeCount}}}
}
