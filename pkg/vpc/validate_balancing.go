// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"
	"strings"
)

// indexGroups finds the target groups, which load balancers refer to before they are checked themselves.
func (c *checker) indexGroups() {
	for i := range c.state.TargetGroups {
		g := &c.state.TargetGroups[i]
		id(c, c.groups, nth("target_groups", i), g.ID, anyID, "a name of letters, digits and ._:/-", g)
	}
}

// checkLoadBalancers checks load balancers, their nodes and listeners.
func (c *checker) checkLoadBalancers() {
	for i := range c.state.LoadBalancers {
		lb := &c.state.LoadBalancers[i]
		at := nth("load_balancers", i)
		id(c, c.lbs, at, lb.ID, anyID, "a name of letters, digits and ._:/-", lb)
		v := known(c, c.vpcs, at+".vpc_id", lb.VPC, "vpcs")
		if len(lb.Nodes) == 0 {
			c.fail(at+".nodes", "is empty; a load balancer has a node in each of its zones")
		}
		zones := map[string]bool{}
		for j := range lb.Nodes {
			here := nth(at+".nodes", j)
			c.eni(here, &lb.Nodes[j], v)
			if zone := lb.Nodes[j].Zone; zone != "" && zones[zone] {
				c.fail(here+".zone_id", "there is another node in %s; a load balancer has one a zone", zone)
			}
			zones[lb.Nodes[j].Zone] = true
		}
		if lb.Type == Gateway {
			c.gatewayLimits(at, lb)
		} else {
			c.networkLimits(at, lb)
		}
		for j := range lb.Listeners {
			c.listener(nth(at+".listeners", j), lb, &lb.Listeners[j])
		}
	}
}

// networkLimits checks what a network load balancer has and lacks.
func (c *checker) networkLimits(at string, lb *LoadBalancer) {
	if lb.Type > Gateway {
		c.fail(at+".type", "%d is no type; write network or gateway", lb.Type)
	}
	if lb.MTU != 0 {
		c.fail(at+".mtu", "is for gateway load balancers; remove it, connections of network load balancers keep to 8500 bytes by themselves")
	}
	ports := map[uint16]bool{}
	for j := range lb.Listeners {
		l := &lb.Listeners[j]
		here := nth(at+".listeners", j)
		switch {
		case l.Port == 0:
			c.fail(here+".port", "is missing; write a TCP port, 1 to 65535")
		case ports[l.Port]:
			c.fail(here+".port", "there is another listener on port %d; a load balancer has one a port", l.Port)
		}
		ports[l.Port] = true
		if l.ResetOnIdle {
			c.fail(here+".send_tcp_reset_on_idle_timeout", "is for gateway load balancers; remove it, network load balancers always answer with RST")
		}
	}
}

// listener checks what the listeners of all load balancers have.
func (c *checker) listener(at string, lb *LoadBalancer, l *Listener) {
	c.between(at+".idle_timeout", l.IdleTimeout, MinIdleTimeout, MaxIdleTimeout)
	g := known(c, c.groups, at+".target_group_id", l.TargetGroup, "target_groups")
	if g == nil {
		return
	}
	if g.VPC != lb.VPC {
		c.fail(at+".target_group_id", "target group %q is in %s, the load balancer in %s; they share a VPC", g.ID, g.VPC, lb.VPC)
	}
	user := c.users[g.ID]
	if user == nil {
		c.users[g.ID] = lb
	} else if user.Type != lb.Type {
		c.fail(at+".target_group_id", "target group %q is used by the %s load balancer %q; make a group for each type", g.ID, user.Type, user.ID)
	}
	if lb.Type == Gateway {
		c.gatewayTimeout(at, l, g)
	}
}

// checkTargetGroups checks target groups and targets. ENIs and load balancers must have been checked.
func (c *checker) checkTargetGroups() {
	for i := range c.state.TargetGroups {
		g := &c.state.TargetGroups[i]
		at := nth("target_groups", i)
		known(c, c.vpcs, at+".vpc_id", g.VPC, "vpcs")
		if g.ProxyProtocol.Placement > FirstACK {
			c.fail(at+".proxy_protocol_v2.header_placement", "%d is no placement; write on_first_ack_with_payload or on_first_ack", g.ProxyProtocol.Placement)
		}
		c.between(at+".deregistration_delay", g.DeregistrationDelay, 0, MaxDeregistrationDelay)
		c.checkHealth(at+".health_check", &g.HealthCheck)
		c.failover(at, g)
		if lb := c.users[g.ID]; lb != nil && lb.Type == Gateway {
			c.gatewayGroup(at, g)
		} else if lb != nil {
			c.networkGroup(at, g)
		}
		seen := make(map[netip.AddrPort]bool, len(g.Targets))
		for j := range g.Targets {
			c.target(nth(at+".targets", j), g, &g.Targets[j], seen)
		}
	}
}

// target checks one target of a group; seen holds those before it.
func (c *checker) target(at string, g *TargetGroup, t *Target, seen map[netip.AddrPort]bool) {
	c.zone(at+".zone_id", t.Zone)
	if t.Port == 0 {
		c.fail(at+".port", "is missing; write a TCP port, 1 to 65535")
	}
	if !c.address(at+".address", t.Address) {
		return
	}
	if eni, taken := c.enis[vpcAddress{g.VPC, t.Address}]; taken {
		c.fail(at+".address", "%s is the address of an ENI (%s); a target is a host of the VPC", t.Address, eni)
	}
	addr := netip.AddrPortFrom(t.Address, t.Port)
	if seen[addr] {
		c.fail(at+".address", "%s is in the group already; targets are unique", addr)
	}
	seen[addr] = true
}

// checkHealth checks how targets are checked.
func (c *checker) checkHealth(at string, h *HealthCheck) {
	switch h.Protocol {
	case CheckNone:
		return
	case CheckTCP:
		if h.Path != "" || h.MatchLow != 0 || h.MatchHigh != 0 {
			c.fail(at+".protocol", "a TCP check knows no path and no matcher; remove them, or write HTTP or HTTPS")
		}
	case CheckHTTP, CheckHTTPS:
		c.checkHTTP(at, h)
	default:
		c.fail(at+".protocol", "%d is no protocol; write TCP, HTTP, HTTPS or NONE", h.Protocol)
		return
	}
	c.between(at+".interval", h.Interval, MinHealthInterval, MaxHealthInterval)
	c.between(at+".timeout", h.Timeout, MinHealthTimeout, MaxHealthTimeout)
	if h.Timeout > h.Interval {
		c.fail(at+".timeout", "%s is longer than the interval of %s; lower it", seconds(h.Timeout), seconds(h.Interval))
	}
	for _, f := range []struct {
		path string
		n    int
	}{{at + ".healthy_threshold", h.HealthyThreshold}, {at + ".unhealthy_threshold", h.UnhealthyThreshold}} {
		if f.n < MinHealthThreshold || f.n > MaxHealthThreshold {
			c.fail(f.path, "%d is out of range; write %d to %d", f.n, MinHealthThreshold, MaxHealthThreshold)
		}
	}
}

// checkHTTP checks what HTTP and HTTPS checks have beyond others.
func (c *checker) checkHTTP(at string, h *HealthCheck) {
	switch {
	case !strings.HasPrefix(h.Path, "/"):
		c.fail(at+".path", "%q does not begin with /; write an absolute path such as /health", h.Path)
	case len(h.Path) > 1024 || strings.ContainsFunc(h.Path, unprintable):
		c.fail(at+".path", "is longer than 1024 bytes or has bytes that a request line cannot; escape them as %%XX")
	}
	if h.MatchLow < MinMatch || h.MatchHigh > MaxMatch || h.MatchLow > h.MatchHigh {
		c.fail(at+".matcher", "%d-%d is no range of status codes; write one inside %d-%d", h.MatchLow, h.MatchHigh, MinMatch, MaxMatch)
	}
}
