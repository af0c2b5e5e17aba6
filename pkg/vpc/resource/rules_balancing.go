// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func (*TargetGroup) kind() Kind  { return KindTargetGroup }
func (*LoadBalancer) kind() Kind { return KindLoadBalancer }

// apiNames are the names that the API has for fields whose values are resources here and ids in a State.
var apiNames = strings.NewReplacer("target_group_id", "target_group", "vpc_id", "vpc")

// drained is when a draining target is gone.
func (r *TargetGroup) drained(i int) time.Time {
	return r.Draining[i].Since.Add(r.Group.DeregistrationDelay)
}

func (r *TargetGroup) prepare(t *Tx, old Resource, c *complaints) {
	resolve[*VPC](t, c, KindVPC, "vpc", &r.Group.VPC)
	r.Group.ID, r.Draining = "", nil
	for i := range r.Group.Targets {
		r.complete(t, &r.Group.Targets[i])
	}
	if old == nil {
		t.quota(c, kinds[KindTargetGroup].limit, "", "target_groups", "", t.model.count(KindTargetGroup, r.Account)+1)
	} else {
		o := old.(*TargetGroup)
		c.fixed("vpc", r.Group.VPC == o.Group.VPC)
		c.fixed("type", r.Type == o.Type)
		r.drain(o, t.env.Now)
	}
	t.quota(c, "TooManyTargets", "targets", "targets_per_group", "target group "+r.ID, len(r.Group.Targets))
}

func (r *TargetGroup) check(m *model, c *complaints) {
	if _, ok := lookup[*VPC](m, KindVPC, r.Account, r.Group.VPC); !ok {
		c.absent(KindVPC, "vpc", r.Group.VPC)
		return
	}
	for i := range r.Group.Targets {
		m.checkHost(c, at("targets", i)+".address", r.Group.VPC, r.Group.Targets[i].Address)
	}
	for i := range r.Draining {
		m.checkHost(c, at("draining_targets", i)+".address", r.Group.VPC, r.Draining[i].Address)
	}
}

// form has the dataplane's rules about target groups judge it. They depend on the type of the load balancers that use a
// group, so that one is there to use it.
func (r *TargetGroup) form(c *complaints) {
	if r.Type > vpc.Gateway {
		c.wrong("type", "%d is no type; write network or gateway", r.Type)
		return
	}
	s := courtroom(r.Type)
	s.TargetGroups = []vpc.TargetGroup{r.Group}
	s.TargetGroups[0].ID, s.TargetGroups[0].VPC = "judged", s.VPCs[0].ID
	s.LoadBalancers[0].Listeners = []vpc.Listener{{TargetGroup: "judged", IdleTimeout: vpc.DefaultIdleTimeout}}
	c.judge(s, "target_groups[0]", apiNames)
}

// courtroom is a State with a load balancer that nothing is wrong with but for the listeners and target groups that are
// put in to be judged.
func courtroom(t vpc.LoadBalancerType) *vpc.State {
	const id = "vpc-judged"
	return &vpc.State{
		VPCs:  []vpc.VPC{{ID: id, CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Ports: []vpc.Port{{ID: "judged", VPC: id, Kind: vpc.TUN, Netns: "/judged", Device: "judged"}},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: "judged", VPC: id, Type: t,
			Nodes: []vpc.ENI{{Address: netip.MustParseAddr("192.0.2.1"), Zone: "judged", Ports: []string{"judged"}}},
		}},
	}
}

// follow has what uses the group judged with it.
func (r *TargetGroup) follow(t *Tx, c *complaints) {
	for lb := range t.model.users(r.Key, KindLoadBalancer) {
		used := &complaints{key: lb.Metadata().Key}
		lb.check(&t.model, used)
		for _, err := range used.errs {
			c.add(FailedPrecondition, "TARGET_GROUP_IN_USE", "InvalidConfigurationRequest", "", "load balancer %s uses the group: %v", lb.Metadata().ID, err)
		}
	}
}

func (r *TargetGroup) release(t *Tx, c *complaints) {
	c.dependents("TARGET_GROUP_IN_USE", "ResourceInUse", t.dependentsOf(r.Key))
}

func (r *LoadBalancer) prepare(t *Tx, old Resource, c *complaints) {
	resolve[*VPC](t, c, KindVPC, "vpc", &r.VPC)
	var before []SubnetAddress
	if old == nil {
		t.quota(c, kinds[KindLoadBalancer].limit, "", "load_balancers", "", t.model.count(KindLoadBalancer, r.Account)+1)
	} else {
		o := old.(*LoadBalancer)
		c.fixed("vpc", r.VPC == o.VPC)
		c.fixed("type", r.Type == o.Type)
		before = o.Nodes
	}
	t.quota(c, "TooManyListeners", "listeners", "listeners_per_load_balancer", "load balancer "+r.ID, len(r.Listeners))
	subnets := t.placeENIs(c, "nodes", r.VPC, r.Nodes, before)
	for i := range r.Listeners {
		resolve[*TargetGroup](t, c, KindTargetGroup, at("listeners", i)+".target_group", &r.Listeners[i].TargetGroup)
	}
	if old != nil && len(c.errs) == 0 {
		r.keepZones(t, old.(*LoadBalancer), subnets, c)
	}
}

// keepZones refuses that a node goes from a zone in which endpoints are attached.
func (r *LoadBalancer) keepZones(t *Tx, old *LoadBalancer, subnets []*Subnet, c *complaints) {
	lost := map[string]bool{}
	for _, n := range old.Nodes {
		if s, ok := lookup[*Subnet](&t.model, KindSubnet, r.Account, n.Subnet); ok {
			lost[s.ZoneID] = true
		}
	}
	for _, s := range subnets {
		delete(lost, s.ZoneID)
	}
	if len(lost) == 0 {
		return
	}
	for u := range t.model.users(r.Key, KindEndpointService) {
		s := u.(*EndpointService)
		for e := range t.model.connections(s) {
			for _, zone := range t.model.zonesOf(e) {
				if e.attached() && lost[zone] {
					c.add(FailedPrecondition, "ZONE_HAS_ENDPOINTS", "ExistingVpcEndpointConnections", "nodes",
						"endpoint %s is attached to endpoint service %s in %s; keep the node there, or reject the endpoint first", e.UID, s.ID, zone)
					return
				}
			}
		}
	}
}

func (r *LoadBalancer) form(c *complaints) {
	if r.Type > vpc.Gateway {
		c.wrong("type", "%d is no type; write network or gateway", r.Type)
	}
	if len(r.Nodes) == 0 {
		c.missing("nodes", "name a subnet in each zone that the load balancer is to have a node in")
	}
}

func (r *LoadBalancer) check(m *model, c *complaints) {
	if _, ok := lookup[*VPC](m, KindVPC, r.Account, r.VPC); !ok {
		c.absent(KindVPC, "vpc", r.VPC)
		return
	}
	m.checkENIs(c, "nodes", r.VPC, r.Nodes)
	s := courtroom(r.Type)
	s.LoadBalancers[0].MTU, s.LoadBalancers[0].Listeners = r.MTU, r.Listeners
	listed := map[string]bool{}
	for i := range r.Listeners {
		g, ok := lookup[*TargetGroup](m, KindTargetGroup, r.Account, r.Listeners[i].TargetGroup)
		here := at("listeners", i) + ".target_group"
		switch {
		case !ok:
			c.absent(KindTargetGroup, here, r.Listeners[i].TargetGroup)
			return
		case g.Type != r.Type:
			c.add(InvalidArgument, "TARGET_GROUP_TYPE", "IncompatibleProtocols", here,
				"target group %s is for %s load balancers, this one is a %s one; make a group for it", g.ID, g.Type, r.Type)
			return
		case g.Group.VPC != r.VPC:
			c.add(InvalidArgument, "TARGET_GROUP_OF_OTHER_VPC", "InvalidConfigurationRequest", here,
				"target group %s is in VPC %s, the load balancer in %s; they share a VPC", g.ID, g.Group.VPC, r.VPC)
			return
		case !listed[g.ID]:
			listed[g.ID] = true
			group := g.Group
			group.ID, group.VPC, group.Targets = g.ID, s.VPCs[0].ID, nil
			s.TargetGroups = append(s.TargetGroups, group)
		}
	}
	c.judge(s, "load_balancers[0]", apiNames)
}

// follow has the services of a changed load balancer offer its zones.
func (r *LoadBalancer) follow(t *Tx, c *complaints) {
	for u := range t.model.users(r.Key, KindEndpointService) {
		s := u.(*EndpointService)
		n := Clone(s)
		n.derive(&t.model)
		if same(s, n) {
			continue
		}
		n.Updated = t.env.Now
		used := &complaints{key: s.Key}
		t.put(s, n, used)
		c.errs = append(c.errs, used.errs...)
	}
}

func (r *LoadBalancer) release(t *Tx, c *complaints) {
	c.dependents("LOAD_BALANCER_IN_USE", "ResourceInUse", t.dependentsOf(r.Key))
}

// follow does what follows from a change of one resource for others.
func (t *Tx) follow(old, n Resource, c *complaints) {
	switch n := n.(type) {
	case *VPC:
		if old == nil {
			n.addDefaultGroup(t, c)
		}
	case *TargetGroup:
		n.follow(t, c)
	case *LoadBalancer:
		n.follow(t, c)
	}
}
