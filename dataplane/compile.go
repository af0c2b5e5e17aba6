// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
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
	in      compilerInput
	v       *view
	portIDs *slots
	eniIDs  *slots
	tgtIDs  *slots
	scopes  *slots

	ended  map[TargetID]bool   // of those asked for, the targets that are draining
	open   map[string]flow.Ref // ports by ID
	defs   map[string]*vpc.Port
	groups map[string]*vpc.TargetGroup
	lbs    map[string]*vpc.LoadBalancer
	nodes  map[[2]string]string // (load balancer, zone) -> identity of the node's ENI
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
	portIDs *slots
	eniIDs  *slots
	tgtIDs  *slots
	scopes  *slots
	workers int
	now     time.Duration
}

// newENI is an ENI on its way into the view.
type newENI struct {
	id    string // identity
	node  string // identity of the node it leads to, "" for a node
	scope string // identity of the scope of its flows, for a GWLB endpoint
	eni   viewENI
	at    vpc.ENI
}

func compile(in compilerInput) (*compiler, error) {
	st := in.state
	c := &compiler{in: in, v: &view{revision: st.Revision, key: st.HashKey, pools: map[poolID]*pool{}},
		ended: map[TargetID]bool{}, open: map[string]flow.Ref{}, defs: map[string]*vpc.Port{}, groups: map[string]*vpc.TargetGroup{}, lbs: map[string]*vpc.LoadBalancer{}, nodes: map[[2]string]string{},
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
	for _, step := range []func() error{c.compilePorts, c.compileTargets, c.listENIs, c.placeScopes, c.placeENIs} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *compiler) compilePorts() (err error) {
	var ids []string
	identity := map[string]string{}
	for _, p := range c.in.state.Ports {
		if c.in.ports[p.ID] == nil {
			continue // its namespace is gone for now: what needs it is dropped with NoRoute until it is back
		}
		identity[p.ID] = strings.Join([]string{p.ID, p.VPC, p.Netns, p.Device}, "|")
		ids = append(ids, identity[p.ID])
	}
	if c.in.ports[ProbePortID] != nil {
		identity[ProbePortID] = ProbePortID
		ids = append(ids, ProbePortID)
	}
	if c.portIDs, err = c.in.portIDs.assign(ids, "ports"); err != nil {
		return err
	}
	c.v.ports = make([]viewPort, len(c.portIDs.gens))
	for id, ident := range identity {
		r := c.portIDs.ref(ident)
		if q := c.in.ports[id].Queues(); q < c.in.workers {
			return fmt.Errorf("port %s has %d queues for %d workers: open it with a queue for each", id, q, c.in.workers)
		}
		c.open[id] = r
		c.v.ports[r.Slot] = viewPort{gen: r.Gen, id: id, port: c.in.ports[id], gateway: -1}
	}
	return nil
}

// portRefs are the places of an ENI's ports that are open.
func (c *compiler) portRefs(eni vpc.ENI) (refs []flow.Ref) {
	for _, id := range eni.Ports {
		if r, ok := c.open[id]; ok {
			refs = append(refs, r)
		}
	}
	return refs
}

// listENIs collects the ENIs of the state: nodes before what leads to them.
func (c *compiler) listENIs() error {
	st := c.in.state
	for i := range st.LoadBalancers {
		lb := &st.LoadBalancers[i]
		for _, n := range lb.Nodes {
			id := strings.Join([]string{"node", lb.ID, lb.VPC, n.Zone, n.Address.String()}, "|")
			c.nodes[[2]string{lb.ID, n.Zone}] = id
			role := RoleNode
			if lb.Type == vpc.Gateway {
				role = RoleGatewayNode
			}
			c.enis = append(c.enis, newENI{id: id, at: n, eni: viewENI{role: role, owner: lb.ID, vpc: lb.VPC, zone: n.Zone}})
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
	return c.listProbes()
}

// listEndpoint adds the ENI of an endpoint in one zone.
func (c *compiler) listEndpoint(ep *vpc.Endpoint, service *vpc.EndpointService, at vpc.ENI) error {
	chosen := ep.ID
	n := newENI{id: strings.Join([]string{"endpoint", ep.ID, ep.VPC, at.Zone, at.Address.String()}, "|"), at: at,
		eni: viewENI{role: RoleEndpoint, owner: ep.ID, vpc: ep.VPC, zone: at.Zone}}
	if ep.Type == vpc.GatewayLoadBalancer {
		n.eni.role = RoleGatewayEndpoint
		n.scope = strings.Join([]string{ep.Service, at.Zone, ep.VPC}, "|")
		n.id = strings.Join([]string{"gateway-endpoint", ep.ID, n.scope, at.Address.String()}, "|") // its flows are of one scope
		chosen = n.scope                                                                            // endpoints that share flows share the load balancer
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

// placeENIs gives the ENIs their slots, keeps places for those that have just gone, and builds the address table.
func (c *compiler) placeENIs() (err error) {
	ids := make([]string, len(c.enis))
	for i, n := range c.enis {
		ids[i] = n.id
	}
	ghosts := c.ghosts(ids)
	if c.eniIDs, err = c.in.eniIDs.assign(append(ids, ghosts...), "ENIs"); err != nil {
		return err
	}
	c.renewReturned(ids)
	v := c.v
	v.enis = make([]viewENI, len(c.eniIDs.gens))
	v.addrs = newAddrTable(c.addresses())
	v.known = make(map[[16]byte]bool, len(c.enis))
	for i := range c.enis {
		if err := c.placeENI(&c.enis[i]); err != nil {
			return err
		}
	}
	for _, id := range ghosts {
		c.placeGhost(id)
	}
	return nil
}

func (c *compiler) placeENI(n *newENI) error {
	ref := c.eniIDs.ref(n.id)
	e := n.eni
	e.gen, e.addr = ref.Gen, n.at.Address.As16()
	if n.node == "" {
		e.node, e.egress = ref, c.egress(n.at)
	} else {
		e.node = c.eniIDs.ref(n.node)
	}
	if prev := c.in.prev; int(ref.Slot) < len(prev.enis) && prev.enis[ref.Slot].gen == ref.Gen {
		e.counters = prev.enis[ref.Slot].counters
	} else {
		e.counters = newBlocks(c.in.workers, eniCounters)
	}
	for _, r := range c.portRefs(n.at) {
		e.ports = append(e.ports, r.Slot)
		if !c.v.addrs.add(r.Slot, e.addr, ref.Slot) {
			return fmt.Errorf("address %v belongs to two ENIs on port %s", n.at.Address, c.v.ports[r.Slot].id)
		}
		if err := c.placeNextHop(e.role, r, ref.Slot); err != nil {
			return err
		}
	}
	c.v.known[e.addr] = true
	c.v.enis[ref.Slot] = e
	return nil
}

// egress lists the ports of a node by the prefixes they reach.
func (c *compiler) egress(eni vpc.ENI) (out []egress) {
	for _, r := range c.portRefs(eni) {
		p := c.defs[c.v.ports[r.Slot].id]
		out = append(out, egress{prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), port: r})
		if p.Subnet.IsValid() {
			out = append(out, egress{prefix: p.Subnet.Masked(), port: r})
		}
		for _, a := range p.Addresses {
			out = append(out, egress{prefix: a.Masked(), port: r})
		}
	}
	slices.SortStableFunc(out, func(a, b egress) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return out
}

// addresses is how many (port, address) pairs there can be.
func (c *compiler) addresses() (n int) {
	for i := range c.enis {
		n += len(c.enis[i].at.Ports)
	}
	for i := range c.in.prev.enis { // any of them may keep its places
		n += len(c.in.prev.enis[i].ports)
	}
	return n
}
