// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Compile is what the dataplane is to run: all that is attached somewhere, by UIDs, without the key of hashes, which is
// the daemon's. Equal sets give equal states, in the same order. The state shares lists with the resources, which like
// these must not be changed. Everything that State.Validate would refuse was refused by a Tx before; an error is a mistake
// of this package, or comes of a store that was changed by hand.
//
// Left out are endpoints that are neither Pending nor Available, ENIs that no attachment reaches (Problems says which), and
// load balancers, services and endpoints that then have none, as well as target groups and security groups that nothing
// uses.
func (s *Set) Compile() (*vpc.State, error) {
	c := compile(&s.model)
	c.state.Revision = s.revision
	if err := c.verify(); err != nil {
		return nil, fmt.Errorf("compile resources of revision %d: %w", s.revision, err)
	}
	return c.state, nil
}

// verify validates the state but for its targets: they are most of it, and were judged when their group was changed.
func (c *compiler) verify() error {
	s := *c.state
	s.TargetGroups = slices.Clone(s.TargetGroups)
	for i := range s.TargetGroups {
		s.TargetGroups[i].Targets = nil
	}
	return s.Validate()
}

// Problems says, by resource, what keeps the dataplane from running it as it is, for its owner to read. Sets without any
// give an empty map.
func (s *Set) Problems() map[Key]string { return compile(&s.model).problems }

// compiler makes a State of a model.
type compiler struct {
	m        *model
	state    *vpc.State
	problems map[Key]string

	subnets  map[Key]*attached           // by subnet
	nextHops map[Key][]string            // ports of attachments for one GWLB endpoint
	balances map[Key]bool                // load balancers that the state has
	groups   map[Key]bool                // target groups that they use
	served   map[string]map[string]bool  // zones of services that the state has, by UID
	security map[Key]bool                // security groups that endpoints of the state name
	routes   map[string][]netip.Prefix   // of TUNs, by port
	tables   map[string][]vpc.TableRoute // likewise
}

// attached is how the ENIs of a subnet are reached.
type attached struct {
	*Subnet
	all, taps []string // ports of attachments that are for no single endpoint
	tuns      []string // those of all that are no TAPs
}

func compile(m *model) *compiler {
	c := &compiler{
		m: m, state: &vpc.State{}, problems: map[Key]string{},
		subnets: map[Key]*attached{}, nextHops: map[Key][]string{}, balances: map[Key]bool{}, groups: map[Key]bool{},
		served: map[string]map[string]bool{}, security: map[Key]bool{}, routes: map[string][]netip.Prefix{}, tables: map[string][]vpc.TableRoute{},
	}
	c.state.Endpoints = make([]vpc.Endpoint, 0, m.countAll(KindEndpoint))
	for r := range m.list(KindVPC, "") {
		v := r.(*VPC)
		c.state.VPCs = append(c.state.VPCs, vpc.VPC{ID: v.UID, CIDRs: v.CIDRs})
	}
	for r := range m.list(KindSubnet, "") {
		c.subnets[r.Metadata().Key] = &attached{Subnet: r.(*Subnet)}
	}
	c.attachments()
	c.loadBalancers()
	c.targetGroups()
	c.services()
	c.endpoints()
	c.securityGroups()
	c.routeTables()
	c.ports()
	return c
}

// uid is the UID of a resource that another one refers to.
func (c *compiler) uid(kind Kind, account, id string) string {
	if r, ok := c.m.resources.get(Key{kind, account, id}); ok {
		return r.Metadata().UID
	}
	return ""
}

// subnet finds a subnet. One that is not there, in a store that is not as the rules demand, is reached by nothing.
func (c *compiler) subnet(account, id string) *attached {
	if s, ok := c.subnets[Key{KindSubnet, account, id}]; ok {
		return s
	}
	return &attached{Subnet: &Subnet{Meta: Meta{Key: Key{KindSubnet, account, id}}}}
}

// attachments finds out how subnets and endpoints are reached.
func (c *compiler) attachments() {
	for r := range c.m.list(KindAttachment, "") {
		a := r.(*Attachment)
		if a.Endpoint != "" {
			k := Key{KindEndpoint, a.Account, a.Endpoint}
			c.nextHops[k] = append(c.nextHops[k], a.UID)
			continue
		}
		s := c.subnet(a.Account, a.Subnet)
		s.all = append(s.all, a.UID)
		if a.Bridge != "" {
			s.taps = append(s.taps, a.UID)
		} else {
			s.tuns = append(s.tuns, a.UID)
		}
	}
}

// problem records the first problem of a resource.
func (c *compiler) problem(k Key, format string, args ...any) {
	if c.problems[k] == "" {
		c.problems[k] = fmt.Sprintf(format, args...)
	}
}

// eni is one ENI with the zone of its subnet; ok is false when it is reached through no port.
func (c *compiler) eni(owner Key, e SubnetAddress, ports []string, s *attached) (eni vpc.ENI, ok bool) {
	if len(ports) == 0 {
		c.problem(owner, "no attachment reaches its address %s in subnet %s; create one", e.Address, s.ID)
		return eni, false
	}
	return vpc.ENI{Address: e.Address, Zone: s.ZoneID, Ports: ports}, true
}

// reach has the namespaces of a subnet's TUNs route an ENI's address there. An endpoint's does so in every state, so that
// who still sends to it gets the dataplane's answer and not somebody else's.
func (c *compiler) reach(e SubnetAddress, s *attached) {
	for _, port := range s.tuns {
		c.routes[port] = append(c.routes[port], netip.PrefixFrom(e.Address, 32))
	}
}

func (c *compiler) loadBalancers() {
	for r := range c.m.list(KindLoadBalancer, "") {
		lb := r.(*LoadBalancer)
		out := vpc.LoadBalancer{
			ID: lb.UID, VPC: c.uid(KindVPC, lb.Account, lb.VPC), Type: lb.Type, MTU: lb.MTU, CrossZone: lb.CrossZone,
			Nodes: make([]vpc.ENI, 0, len(lb.Nodes)),
		}
		for _, n := range lb.Nodes {
			s := c.subnet(lb.Account, n.Subnet)
			if eni, ok := c.eni(lb.Key, n, s.all, s); ok {
				out.Nodes = append(out.Nodes, eni)
				c.reach(n, s)
			}
		}
		if len(out.Nodes) == 0 {
			continue
		}
		c.balances[lb.Key] = true
		for i := range lb.Listeners {
			l := lb.Listeners[i]
			k := Key{KindTargetGroup, lb.Account, l.TargetGroup}
			c.groups[k] = true
			l.TargetGroup = c.uid(k.Kind, k.Account, k.ID)
			out.Listeners = append(out.Listeners, l)
		}
		c.state.LoadBalancers = append(c.state.LoadBalancers, out)
	}
}

func (c *compiler) targetGroups() {
	for r := range c.m.list(KindTargetGroup, "") {
		g := r.(*TargetGroup)
		if !c.groups[g.Key] {
			continue
		}
		out := g.Group
		out.ID, out.VPC = g.UID, c.uid(KindVPC, g.Account, g.Group.VPC)
		if len(g.Draining) > 0 {
			out.Targets = slices.Grow(slices.Clone(out.Targets), len(g.Draining))
			for _, d := range g.Draining {
				d.Target.Draining, d.Target.DrainingSince = true, d.Since
				out.Targets = append(out.Targets, d.Target)
			}
		}
		c.state.TargetGroups = append(c.state.TargetGroups, out)
	}
}

func (c *compiler) services() {
	nodes := make(map[string][]vpc.ENI, len(c.state.LoadBalancers))
	for i := range c.state.LoadBalancers {
		nodes[c.state.LoadBalancers[i].ID] = c.state.LoadBalancers[i].Nodes
	}
	for r := range c.m.list(KindEndpointService, "") {
		s := r.(*EndpointService)
		out := vpc.EndpointService{ID: s.UID}
		zones := map[string]bool{}
		for _, id := range s.LoadBalancers {
			if !c.balances[Key{KindLoadBalancer, s.Account, id}] {
				continue
			}
			lb := c.uid(KindLoadBalancer, s.Account, id)
			out.LoadBalancers = append(out.LoadBalancers, lb)
			for i := range nodes[lb] {
				zones[nodes[lb][i].Zone] = true
			}
		}
		for _, zone := range s.ZoneIDs {
			if !zones[zone] {
				c.problem(s.Key, "no load balancer node in %s is reached through an attachment; create one in its subnet", zone)
			}
		}
		if len(out.LoadBalancers) > 0 {
			c.state.Services = append(c.state.Services, out)
			c.served[s.UID] = zones
		}
	}
}

func (c *compiler) endpoints() {
	for r := range c.m.list(KindEndpoint, "") {
		e := r.(*Endpoint)
		out := vpc.Endpoint{
			ID: e.UID, Type: e.Type, Generation: e.Generation, Service: e.ServiceUID, VPC: c.uid(KindVPC, e.Account, e.VPC),
			Filtered: e.Type == vpc.Interface, Bandwidth: e.Bandwidth, ENIs: make([]vpc.ENI, 0, len(e.ENIs)),
		}
		for _, a := range e.ENIs {
			s := c.subnet(e.Account, a.Subnet)
			ports := s.all
			if e.Type == vpc.GatewayLoadBalancer {
				if ports = c.nextHops[e.Key]; len(ports) == 0 {
					ports = s.taps
				}
				if len(ports) == 0 && e.running() {
					c.problem(e.Key, "no attachment is its device in subnet %s; create one that names it as its endpoint, or one on a bridge", s.ID)
				}
			} else {
				c.reach(a, s)
			}
			if !e.running() {
				continue
			}
			if eni, ok := c.eni(e.Key, a, ports, s); !ok {
				continue
			} else if c.served[e.ServiceUID][eni.Zone] {
				out.ENIs = append(out.ENIs, eni)
			} else {
				c.problem(e.Key, "the service has no load balancer in %s that is attached; ask its provider", eni.Zone)
			}
		}
		if len(out.ENIs) == 0 {
			continue
		}
		switch {
		case c.m.cfg.NoLimits:
			out.Bandwidth = vpc.Bandwidth{}
		case out.Bandwidth == (vpc.Bandwidth{}):
			out.Bandwidth = c.m.cfg.bandwidth(e.Type)
		}
		for _, id := range e.SecurityGroups {
			k := Key{KindSecurityGroup, e.Account, id}
			c.security[k] = true
			out.SecurityGroups = append(out.SecurityGroups, c.uid(k.Kind, k.Account, k.ID))
		}
		c.state.Endpoints = append(c.state.Endpoints, out)
	}
}

// securityGroups resolves references to groups by their members. Endpoints are members of groups as well, but open no
// connections: their addresses would let in nobody.
func (c *compiler) securityGroups() {
	for r := range c.m.list(KindSecurityGroup, "") {
		g := r.(*SecurityGroup)
		if !c.security[g.Key] {
			continue
		}
		out := vpc.SecurityGroup{ID: g.UID}
		for i := range g.Ingress {
			rule := &g.Ingress[i]
			in := vpc.SecurityRule{FromPort: rule.FromPort, ToPort: rule.ToPort, Sources: rule.CIDRs}
			if in.FromPort == 0 && in.ToPort == 0 {
				in.ToPort = 65535
			}
			if from, ok := lookup[*SecurityGroup](c.m, KindSecurityGroup, g.Account, rule.Group); ok {
				in.Sources = from.Members
			}
			out.Ingress = append(out.Ingress, in)
		}
		c.state.SecurityGroups = append(c.state.SecurityGroups, out)
	}
}

// routeTables finds the routes that go through TUNs.
func (c *compiler) routeTables() {
	for r := range c.m.list(KindRouteTable, "") {
		t := r.(*RouteTable)
		for _, route := range t.Routes {
			d := c.m.nextHop(t.Account, route.Endpoint)
			if d == nil {
				c.problem(t.Key, "endpoint %s has no attachment in a namespace, so that no kernel has the route to %s; create one", route.Endpoint, route.Destination)
				continue
			}
			c.tables[d.UID] = append(c.tables[d.UID], vpc.TableRoute{Destination: route.Destination, Table: t.Table})
		}
	}
}

// ports has a port for every attachment, whether an ENI is reached through it or not.
func (c *compiler) ports() {
	for r := range c.m.list(KindAttachment, "") {
		a := r.(*Attachment)
		s := c.subnet(a.Account, a.Subnet)
		p := vpc.Port{ID: a.UID, VPC: c.uid(KindVPC, a.Account, s.VPC), Kind: vpc.TUN, Netns: a.Netns, Device: a.Device}
		if a.Bridge != "" {
			p.Kind, p.Bridge, p.Subnet, p.Gateway = vpc.TAP, a.Bridge, s.CIDR, a.Gateway
		} else {
			p.Addresses, p.Routes, p.TableRoutes = a.Addresses, c.routes[a.UID], c.tables[a.UID]
			slices.SortFunc(p.Routes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
		}
		c.state.Ports = append(c.state.Ports, p)
	}
}
