// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// goneTime is how long an ENI that has left the state keeps its place in the views that follow: longer than any idle
// timeout, so that every connection through it either gets its RST or is forgotten.
const goneTime = vpc.MaxIdleTimeout + time.Minute

// compiler turns a state into a view. It works on its own copies, so that a state it refuses leaves nothing behind.
type compiler struct {
	in     compilerInput
	v      *view
	places places

	ended  map[TargetID]bool   // of those asked for, the targets that are draining
	open   map[string]flow.Ref // ports by ID
	defs   map[string]*vpc.Port
	groups map[string]*vpc.TargetGroup
	lbs    map[string]*vpc.LoadBalancer
	nodes  map[[2]string]int     // (load balancer, zone) -> number of the node among enis
	refs   map[string][]flow.Ref // targets of a group, in its order
	enis   []newENI

	gatewayGroups map[string]bool              // groups of gateway load balancers, whose failed targets are judged by flow
	zonal         map[string]bool              // those of them that fail open zone by zone
	failing       map[[2]string]bool           // what failsOpen said
	listeners     map[[2]string][]viewListener // by (load balancer, zone), shared by its endpoints
}

// compilerInput is everything a view depends on.
type compilerInput struct {
	state   *vpc.State
	ports   map[string]port.Port
	health  map[TargetID]Health
	ended   map[TargetID]bool
	prev    *view
	places  places
	workers int
	now     time.Duration
}

// places are those of all objects that flows name. Identities are values that can be compared as they are: the text of ten
// thousand of them, made anew for each view, would be most of the work.
type places struct {
	ports   *slots[portID]
	enis    *slots[eniID]
	targets *slots[TargetID]
	scopes  *slots[scopeID]
}

func newPlaces() places {
	return places{&slots[portID]{}, &slots[eniID]{}, &slots[TargetID]{}, &slots[scopeID]{}}
}

// portID, eniID and scopeID are what makes a port, an ENI and the scope of GWLB flows another one.
type portID struct{ id, vpc, netns, device string }

type eniID struct {
	role       Role // RoleNode for nodes of all types
	owner      string
	generation uint32
	vpc, zone  string
	service    string // of a GWLB endpoint, whose flows are of one scope
	addr       netip.Addr
	target     flow.Ref // of a probe
}

type scopeID struct{ service, zone, vpc string }

// newENI is an ENI on its way into the view.
type newENI struct {
	id    eniID
	node  int      // number of the node it leads to, or of itself
	ports []string // IDs
	eni   viewENI
}

func compile(in compilerInput) (*compiler, error) {
	st := in.state
	c := &compiler{in: in, v: &view{revision: st.Revision, key: st.HashKey, pools: map[poolID]*pool{}, limiters: map[limitID]*limiter{}},
		ended: map[TargetID]bool{}, open: map[string]flow.Ref{}, defs: map[string]*vpc.Port{}, groups: map[string]*vpc.TargetGroup{}, lbs: map[string]*vpc.LoadBalancer{},
		nodes: map[[2]string]int{}, refs: map[string][]flow.Ref{},
		listeners: map[[2]string][]viewListener{}, gatewayGroups: map[string]bool{}, zonal: map[string]bool{}, failing: map[[2]string]bool{}}
	for i := range st.Ports {
		c.defs[st.Ports[i].ID] = &st.Ports[i]
	}
	for i := range st.TargetGroups {
		c.groups[st.TargetGroups[i].ID] = &st.TargetGroups[i]
	}
	for i := range st.LoadBalancers {
		lb := &st.LoadBalancers[i]
		c.lbs[lb.ID] = lb
		for _, l := range lb.Listeners {
			c.gatewayGroups[l.TargetGroup] = lb.Type == vpc.Gateway
			c.zonal[l.TargetGroup] = lb.Type == vpc.Gateway && !lb.CrossZone
		}
	}
	for _, step := range []func() error{c.compilePorts, c.compileTargets, c.compileGroups, c.listENIs, c.placeScopes, c.placeENIs} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *compiler) compilePorts() (err error) {
	var ids []portID
	for _, p := range c.in.state.Ports {
		if c.in.ports[p.ID] == nil {
			continue // its namespace is gone for now: what needs it is dropped with NoRoute until it is back
		}
		ids = append(ids, portID{p.ID, p.VPC, p.Netns, p.Device})
	}
	if c.in.ports[ProbePortID] != nil {
		ids = append(ids, portID{id: ProbePortID})
	}
	var refs []flow.Ref
	if c.places.ports, refs, err = c.in.places.ports.assign(ids, "ports", nil); err != nil {
		return err
	}
	c.v.ports = make([]viewPort, len(c.places.ports.gens))
	for i, r := range refs {
		id := ids[i].id
		if q := c.in.ports[id].Queues(); q < c.in.workers {
			return fmt.Errorf("port %s has %d queues for %d workers: open it with a queue for each", id, q, c.in.workers)
		}
		c.open[id] = r
		c.v.ports[r.Slot] = viewPort{gen: r.Gen, id: id, port: c.in.ports[id], gateway: -1}
	}
	return nil
}

// listENIs collects the ENIs of the state: nodes before what leads to them.
func (c *compiler) listENIs() error {
	st := c.in.state
	c.enis = make([]newENI, 0, len(c.in.prev.enis)+64) // about as many as there were
	for i := range st.LoadBalancers {
		lb := &st.LoadBalancers[i]
		for _, n := range lb.Nodes {
			c.nodes[[2]string{lb.ID, n.Zone}] = len(c.enis)
			role := RoleNode
			if lb.Type == vpc.Gateway {
				role = RoleGatewayNode
			}
			c.enis = append(c.enis, newENI{node: len(c.enis), ports: n.Ports,
				id:  eniID{role: RoleNode, owner: lb.ID, vpc: lb.VPC, zone: n.Zone, addr: n.Address},
				eni: viewENI{role: role, owner: lb.ID, vpc: lb.VPC, zone: n.Zone}})
		}
	}
	services := map[string]*vpc.EndpointService{}
	for i := range st.Services {
		services[st.Services[i].ID] = &st.Services[i]
	}
	for i := range st.Endpoints {
		ep := &st.Endpoints[i]
		for _, n := range ep.ENIs {
			if err := c.listEndpoint(ep, services[ep.Service], n); err != nil {
				return err
			}
		}
	}
	c.listProbes()
	return nil
}

// listEndpoint adds the ENI of an endpoint in one zone.
func (c *compiler) listEndpoint(ep *vpc.Endpoint, service *vpc.EndpointService, at vpc.ENI) error {
	chosen := ep.ID
	n := newENI{ports: at.Ports,
		id:  eniID{role: RoleEndpoint, owner: ep.ID, generation: ep.Generation, vpc: ep.VPC, zone: at.Zone, addr: at.Address},
		eni: viewENI{role: RoleEndpoint, owner: ep.ID, vpc: ep.VPC, zone: at.Zone, limiter: c.limiterOf(ep, at.Zone)}}
	if ep.Type == vpc.GatewayLoadBalancer {
		n.eni.role, n.id.role, n.id.service = RoleGatewayEndpoint, RoleGatewayEndpoint, ep.Service
		chosen = strings.Join([]string{ep.Service, at.Zone, ep.VPC}, "|") // endpoints that share flows share the load balancer
	}
	lb := c.pickLoadBalancer(service, chosen, at.Zone)
	if lb == nil {
		return fmt.Errorf("endpoint %s: its service has no load balancer node in zone %s", ep.ID, at.Zone)
	}
	key := [2]string{lb.ID, at.Zone}
	n.node = c.nodes[key]
	if ep.Type == vpc.GatewayLoadBalancer {
		n.eni.gateway = c.compileGateway(ep, lb, at.Zone)
	} else {
		if c.listeners[key] == nil {
			c.listeners[key] = c.compileListeners(lb, at.Zone)
		}
		n.eni.listeners = c.listeners[key]
		n.eni.filtered, n.eni.groups = ep.Filtered, c.groupsOf(ep)
	}
	c.enis = append(c.enis, n)
	return nil
}

// pickLoadBalancer chooses the load balancer that serves an endpoint in a zone: one of those of the service with a
// node there, always the same one while they stay (the highest of keyed scores).
func (c *compiler) pickLoadBalancer(s *vpc.EndpointService, endpoint, zone string) (best *vpc.LoadBalancer) {
	if s == nil {
		return nil
	}
	var high uint64
	for _, id := range s.LoadBalancers {
		if _, ok := c.nodes[[2]string{id, zone}]; !ok {
			continue
		}
		if score := scoreOf(c.v.key, endpoint, zone, id); best == nil || score > high {
			best, high = c.lbs[id], score
		}
	}
	return best
}
