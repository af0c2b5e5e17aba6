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

// steered says how the queues of a port are chosen.
type steered uint8

const (
	unsteered steered = iota
	byFlow
	byPort
)

// steer has the kernel give packets to the queue of the worker that owns them, so that few have to be handed over. Where
// it cannot, nothing is wrong but the speed.
func (a *attacher) steer(s *vpc.State) {
	nodes := map[string]bool{}
	for i := range s.LoadBalancers {
		for _, n := range s.LoadBalancers[i].Nodes {
			for _, id := range n.Ports {
				nodes[id] = true
			}
		}
	}
	for id, at := range a.ports {
		want := byFlow
		if nodes[id] {
			want = byPort
		}
		p, ok := at.port.(steerer)
		if !ok || at.used == nil || at.steered == want {
			continue
		}
		at.steered = want
		if err := p.Steer(dataplane.Steering(nodes[id])); err != nil && a.news(at, "steering", err.Error()) {
			a.log.Info("packets are not steered to their workers", "port", id, "error", err)
		}
	}
}
