// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"fmt"
	"strings"
)

// GatewayGroups are the IDs of the target groups that gateway load balancers use.
func (s *State) GatewayGroups() map[string]bool {
	groups := map[string]bool{}
	for i := range s.LoadBalancers {
		lb := &s.LoadBalancers[i]
		if lb.Type != Gateway {
			continue
		}
		for j := range lb.Listeners {
			groups[lb.Listeners[j].TargetGroup] = true
		}
	}
	return groups
}

// gatewayLimits checks what a gateway load balancer has and lacks (AWS GWLB listeners).
func (c *checker) gatewayLimits(at string, lb *LoadBalancer) {
	if n := len(lb.Listeners); n != 1 {
		c.fail(at+".listeners", "there are %d; a gateway load balancer has exactly one, for all packets", n)
	}
	for j := range lb.Listeners {
		if p := lb.Listeners[j].Port; p != 0 {
			c.fail(fmt.Sprintf("%s.listeners[%d].port", at, j),
				"%d is a port, but a gateway load balancer takes all protocols and ports; leave it out", p)
		}
	}
	if lb.MTU != 0 && (lb.MTU < MinGatewayMTU || lb.MTU > MaxGatewayMTU) {
		c.fail(at+".mtu", "%d is out of range; write %d to %d", lb.MTU, MinGatewayMTU, MaxGatewayMTU)
	}
}

// gatewayTimeout checks what a listener of a gateway load balancer says about TCP against its group's stickiness: where
// connections are not told apart, they are not timed or reset one by one either.
func (c *checker) gatewayTimeout(at string, l *Listener, g *TargetGroup) {
	if g.Stickiness == FiveTuple {
		return
	}
	if l.IdleTimeout != DefaultIdleTimeout {
		c.fail(at+".idle_timeout", "%s needs five_tuple stickiness of target group %q; leave it out, or change that",
			seconds(l.IdleTimeout), g.ID)
	}
	if l.ResetOnIdle {
		c.fail(at+".send_tcp_reset_on_idle_timeout", "needs five_tuple stickiness of target group %q; remove it, or change that", g.ID)
	}
}

// failover checks what a group says about the flows of failed appliances, whoever uses it (AWS GWLB target group
// attributes).
func (c *checker) failover(at string, g *TargetGroup) {
	if g.Stickiness > TwoTuple {
		c.fail(at+".stickiness", "%d is no stickiness; write %s, %s or %s", g.Stickiness, FiveTuple, ThreeTuple, TwoTuple)
		return
	}
	for _, reset := range []struct {
		name string
		on   bool
	}{{"on_unhealthy", g.ResetOnUnhealthy}, {"on_deregistration", g.ResetOnDeregistration}} {
		here := at + ".send_tcp_reset." + reset.name
		if reset.on && g.Stickiness != FiveTuple {
			c.fail(here, "needs five_tuple stickiness, which this group has not; remove it, or change that")
		}
		if reset.on && g.Rebalance {
			c.fail(here, "needs target_failover: no_rebalance, since flows that move are not reset; remove one of the two")
		}
	}
}

// networkGroup refuses what only groups of gateway load balancers have.
func (c *checker) networkGroup(at string, g *TargetGroup) {
	c.unfit(at, "gateway", []attribute{
		{"stickiness", g.Stickiness != FiveTuple},
		{"target_failover", g.Rebalance},
		{"send_tcp_reset.on_unhealthy", g.ResetOnUnhealthy},
		{"send_tcp_reset.on_deregistration", g.ResetOnDeregistration},
	})
}

// gatewayGroup checks a group of a gateway load balancer: refuses what only those of network load balancers have, and
// checks that GENEVE and health checks can reach its targets.
func (c *checker) gatewayGroup(at string, g *TargetGroup) {
	c.unfit(at, "network", []attribute{
		{"proxy_protocol_v2.enabled", g.ProxyProtocol.Enabled},
		{"terminate_on_deregistration", g.TerminateOnDeregistration},
		{"terminate_on_unhealthy", g.TerminateOnUnhealthy},
	})
	for j := range g.Targets {
		if p := g.Targets[j].Port; p != 0 && p != GenevePort {
			c.fail(fmt.Sprintf("%s.targets[%d].port", at, j), "%d is not the port of GENEVE; write %d, as for every appliance", p, GenevePort)
		}
	}
	if h := &g.HealthCheck; h.Protocol != CheckNone && h.Port == 0 {
		c.fail(at+".health_check.port", "is missing; GENEVE's port takes no connections, write the TCP port on which appliances answer, such as 80")
	}
}

// attribute is a setting of a group, and whether it is used.
type attribute struct {
	name string
	used bool
}

// unfit complains about attributes that only groups of the other type of load balancer have.
func (c *checker) unfit(at, other string, attributes []attribute) {
	for _, a := range attributes {
		if a.used {
			c.fail(at+"."+a.name, "is for target groups of %s load balancers; remove it", other)
		}
	}
}

// endpointType checks an endpoint's type against its service, which is nil when the reference to it is broken, and what a
// GWLB endpoint has less than others: one zone.
func (c *checker) endpointType(at string, e *Endpoint, s *EndpointService) {
	if e.Type > GatewayLoadBalancer {
		c.fail(at+".type", "%d is no type; write Interface or GatewayLoadBalancer", e.Type)
		return
	}
	if s != nil && len(s.LoadBalancers) > 0 {
		if lb := c.lbs[s.LoadBalancers[0]]; lb != nil && (lb.Type == Gateway) != (e.Type == GatewayLoadBalancer) {
			c.fail(at+".type", "%s does not fit %s, which is offered by %s load balancers; write %s, or name another service",
				e.Type, s.ID, lb.Type, GatewayLoadBalancer-e.Type)
		}
	}
	if e.Type == GatewayLoadBalancer && len(e.ENIs) > 1 {
		c.fail(at+".enis", "there are %d; a GatewayLoadBalancer endpoint has exactly one, make an endpoint for each zone", len(e.ENIs))
	}
}

// indexNextHops finds the ports that GWLB endpoints name.
func (c *checker) indexNextHops() {
	for i := range c.state.Endpoints {
		e := &c.state.Endpoints[i]
		if e.Type != GatewayLoadBalancer {
			continue
		}
		for j := range e.ENIs {
			for _, name := range e.ENIs[j].Ports {
				c.nextHops[name] = true
			}
		}
	}
}

// checkNextHops checks where GWLB endpoints are: alone on a TUN, since all that is routed into it is theirs, or on TAPs,
// where the address tells them apart. The endpoints must have been checked.
func (c *checker) checkNextHops() {
	numbers := map[string]string{}
	for i := range c.state.Endpoints {
		e := &c.state.Endpoints[i]
		if e.Type != GatewayLoadBalancer {
			continue
		}
		at := nth("endpoints", i)
		if endpointID.MatchString(e.ID) {
			number := e.ID[len("vpce-")+1:]
			if other, taken := numbers[number]; taken && other != e.ID {
				c.fail(at+".id", "%q and %q are the same to appliances: GENEVE carries the last 16 digits only; choose others", e.ID, other)
			}
			numbers[number] = e.ID
		}
		for j := range e.ENIs {
			c.nextHop(nth(at+".enis", j), &e.ENIs[j])
		}
	}
}

// nextHop checks the ports of one GWLB endpoint's ENI.
func (c *checker) nextHop(at string, e *ENI) {
	for i, name := range e.Ports {
		p := c.ports[name]
		if p == nil || p.Kind != TUN {
			continue
		}
		here := nth(at+".port_ids", i)
		if len(e.Ports) > 1 {
			c.fail(here, "port %q is a TUN; the ENI of a GatewayLoadBalancer endpoint is on one TUN alone, or on TAPs only", name)
		}
		var others []string
		for _, tenant := range c.tenants[name] {
			if tenant != at {
				others = append(others, tenant)
			}
		}
		if len(others) > 0 {
			c.fail(here, "port %q also has %s; all that is routed into a TUN goes to its GatewayLoadBalancer endpoint, give that a port of its own",
				name, strings.Join(others, ", "))
		}
	}
}
