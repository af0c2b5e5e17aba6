// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// check is one target under observation.
type check struct {
	probe
	id         dataplane.TargetID
	interval   time.Duration
	thresholds thresholds
	verdict    verdict
	due        time.Time // of the next check
	place      int       // in the queue, from 1; 0 while the check is under way
}

func (c *check) queued() bool { return c.place > 0 }

// plan is what checks are made of. Neither is written to.
type plan struct {
	state  *vpc.State // nil before the first
	routes []dataplane.ProbeRoute
}

// same says whether two plans have the same checks for sure. Most changes of a state are none of its targets, and with ten
// thousand of these it matters that they are not gone through again.
func (p plan) same(q plan) bool {
	return q.state != nil && slices.Equal(p.routes, q.routes) && p.state.Testing == q.state.Testing &&
		slices.EqualFunc(p.state.TargetGroups, q.state.TargetGroups, func(a, b vpc.TargetGroup) bool {
			return a.ID == b.ID && a.HealthCheck == b.HealthCheck && a.ProxyProtocol == b.ProxyProtocol && sameList(a.Targets, b.Targets)
		}) &&
		slices.EqualFunc(p.state.LoadBalancers, q.state.LoadBalancers, func(a, b vpc.LoadBalancer) bool {
			return a.ID == b.ID && slices.Equal(a.Listeners, b.Listeners)
		})
}

// sameList says whether two lists are the same one, and so have the same targets: nobody writes to that of a state.
func sameList(a, b []vpc.Target) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// plannedChecks are the checks that a state asks for. Targets of groups without checks, and those that no load balancer
// reaches, have none. A target of several load balancers is checked from the first of them.
func plannedChecks(s *vpc.State, routes []dataplane.ProbeRoute) map[dataplane.TargetID]*check {
	via := make(map[dataplane.TargetID]*dataplane.ProbeRoute, len(routes))
	for i := range routes {
		if r := &routes[i]; via[r.TargetID] == nil {
			via[r.TargetID] = r
		}
	}
	listeners := listenerPorts(s)
	checks := make(map[dataplane.TargetID]*check, len(routes))
	for i := range s.TargetGroups {
		g := &s.TargetGroups[i]
		if g.HealthCheck.Protocol == vpc.CheckNone {
			continue
		}
		for j := range g.Targets {
			id := dataplane.TargetID{Group: g.ID, Address: netip.AddrPortFrom(g.Targets[j].Address, g.Targets[j].Port)}
			if r := via[id]; r != nil {
				checks[id] = newCheck(s, g, id, r, listeners[lbGroup{r.LoadBalancer, g.ID}])
			}
		}
	}
	return checks
}

// lbGroup is a target group as a load balancer uses it.
type lbGroup struct{ loadBalancer, group string }

// listenerPorts finds the first listener of each load balancer for each target group.
func listenerPorts(s *vpc.State) map[lbGroup]uint16 {
	ports := map[lbGroup]uint16{}
	for i := range s.LoadBalancers {
		lb := &s.LoadBalancers[i]
		for _, l := range lb.Listeners {
			key := lbGroup{lb.ID, l.TargetGroup}
			if _, ok := ports[key]; !ok {
				ports[key] = l.Port
			}
		}
	}
	return ports
}

// newCheck makes the check of one target. listener is the port that clients use.
func newCheck(s *vpc.State, g *vpc.TargetGroup, id dataplane.TargetID, r *dataplane.ProbeRoute, listener uint16) *check {
	h := &g.HealthCheck
	c := &check{
		id:         id,
		interval:   h.Interval,
		thresholds: thresholds{h.HealthyThreshold, h.UnhealthyThreshold},
		verdict:    verdict{health: dataplane.Initial},
		probe: probe{
			protocol: h.Protocol,
			to:       netip.AddrPortFrom(r.Via, id.Address.Port()),
			proxy:    g.ProxyProtocol.Enabled,
			timeout:  h.Timeout,
		},
	}
	if h.Port != 0 {
		c.to = netip.AddrPortFrom(r.Via, h.Port)
	}
	if h.Protocol == vpc.CheckHTTP || h.Protocol == vpc.CheckHTTPS {
		// As AWS does: the node's address and the listener's port, not the target's. A gateway load balancer has none.
		if listener == 0 {
			listener = c.to.Port()
		}
		c.host = netip.AddrPortFrom(r.Node, listener).String()
		c.path, c.low, c.high = h.Path, h.MatchLow, h.MatchHigh
	}
	if t := s.Testing; t != nil {
		if t.HealthInterval != 0 {
			c.interval = t.HealthInterval
		}
		if t.HealthTimeout != 0 {
			c.timeout = t.HealthTimeout
		}
		c.timeout = min(c.timeout, c.interval)
	}
	return c
}

// checkQueue holds checks by the time they are due, the earliest first. It is a heap.
type checkQueue []*check

func (q *checkQueue) push(c *check) { heap.Push((*checkHeap)(q), c) }
func (q *checkQueue) pop() *check   { return heap.Pop((*checkHeap)(q)).(*check) }

// checkHeap is what container/heap asks for.
type checkHeap []*check

func (h checkHeap) Len() int           { return len(h) }
func (h checkHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h checkHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

func (h *checkHeap) Push(x any) {
	c := x.(*check)
	c.place = len(*h) + 1
	*h = append(*h, c)
}

func (h *checkHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.place = 0
	return c
}
