// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// steerer is a port that can have the kernel choose queues.
type steerer interface {
	Steer(port.Steering) error
}

// steer has the kernel give packets to the queue of the worker that owns them, so that few have to be handed over. Where
// it cannot, nothing is wrong but the speed.
func (a *attacher) steer(s *vpc.State) {
	uses := portUses(s)
	for id, at := range a.ports {
		use := uses[id]
		p, ok := at.port.(steerer)
		if !ok || at.used == nil || at.steered && at.steering == use {
			continue
		}
		at.steered, at.steering = true, use
		if err := p.Steer(dataplane.Steering(use)); err != nil && a.news(at, "steering", err.Error()) {
			a.log.Info("packets are not steered to their workers", "port", id, "error", err)
		}
	}
}

// portUses says what traffic each port of the state carries.
func portUses(s *vpc.State) map[string]dataplane.PortUse {
	uses := map[string]dataplane.PortUse{}
	note := func(e *vpc.ENI, use dataplane.PortUse) {
		for _, id := range e.Ports {
			uses[id] = use
		}
	}
	byAddresses := map[string]bool{} // services with such
	groups := map[string]vpc.Stickiness{}
	for i := range s.TargetGroups {
		groups[s.TargetGroups[i].ID] = s.TargetGroups[i].Stickiness
	}
	portless := map[string]bool{} // load balancers whose flows are told apart without ports
	for i := range s.LoadBalancers {
		lb := &s.LoadBalancers[i]
		for j := range lb.Nodes {
			if lb.Type == vpc.Network { // to a gateway's node appliances return flows, by their source port
				note(&lb.Nodes[j], dataplane.ByNATPort)
			}
		}
		for _, l := range lb.Listeners {
			portless[lb.ID] = portless[lb.ID] || groups[l.TargetGroup] != vpc.FiveTuple
		}
	}
	for i := range s.Services {
		for _, id := range s.Services[i].LoadBalancers {
			byAddresses[s.Services[i].ID] = byAddresses[s.Services[i].ID] || portless[id]
		}
	}
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		for j := range ep.ENIs {
			if byAddresses[ep.Service] {
				note(&ep.ENIs[j], dataplane.ByAddresses)
			}
		}
	}
	return uses
}
