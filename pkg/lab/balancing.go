// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func (c *completer) loadBalancer(lb *LoadBalancer) {
	c.name("load balancer", lb.Name)
	if c.balancers[lb.Name] != nil {
		c.fail("load balancer %s: there are two of the name; choose another", lb.Name)
	}
	c.balancers[lb.Name] = lb
	c.listeners(lb)
	v := c.vpcs[lb.VPC]
	if v == nil {
		c.fail("load balancer %s: there is no vpc %q; name one of vpcs", lb.Name, lb.VPC)
		return
	}
	if lb.Nodes == nil {
		lb.Nodes = oneAZone(v, func(string) bool { return true })
	}
	c.enis("load balancer "+lb.Name, v, lb.Nodes)
}

// listeners completes the listeners of a load balancer, which depend on its type.
func (c *completer) listeners(lb *LoadBalancer) {
	for i := range lb.Listeners {
		orDuration(&lb.Listeners[i].IdleTimeout, DefaultIdleTimeout)
	}
	switch lb.Type {
	case "":
		lb.Type = vpc.Network.String()
	case vpc.Network.String():
	case vpc.Gateway.String():
		if len(lb.Listeners) != 1 || lb.Listeners[0].Port != 0 {
			c.fail("load balancer %s: one of type gateway has one listener, which takes all ports; write listeners: [{target_group: NAME}]", lb.Name)
		}
		for _, l := range lb.Listeners {
			c.inspecting[l.TargetGroup] = true
		}
	default:
		c.fail("load balancer %s: %q is no type; write %s or %s", lb.Name, lb.Type, vpc.Network, vpc.Gateway)
	}
}

// oneAZone has an ENI in the first subnet of each zone that is wanted.
func oneAZone(v *VPC, want func(zone string) bool) []ENI {
	enis := []ENI{}
	done := map[string]bool{}
	for _, s := range v.Subnets {
		if !done[s.Zone] && want(s.Zone) {
			enis = append(enis, ENI{Subnet: s.Name})
		}
		done[s.Zone] = true
	}
	return enis
}

func (c *completer) enis(owner string, v *VPC, enis []ENI) {
	for _, e := range enis {
		if v.Subnet(e.Subnet) == nil || e.Subnet == Internet {
			c.fail("%s: vpc %s has no subnet %q; name one of its subnets", owner, v.Name, e.Subnet)
		}
	}
}

func (c *completer) targetGroup(g *TargetGroup) {
	c.name("target group", g.Name)
	if c.groups[g.Name] != nil {
		c.fail("target group %s: there are two of the name; choose another", g.Name)
	}
	c.groups[g.Name] = g
	inspecting := c.inspecting[g.Name]
	for i := range g.Targets {
		target := &g.Targets[i]
		if inspecting && target.Port == 0 {
			target.Port = vpc.GenevePort
		}
		in, ok := c.instances[target.Instance]
		if !ok {
			c.fail("target group %s: there is no instance %q; name one of a vpc's instances", g.Name, target.Instance)
			continue
		}
		if g.VPC == "" {
			g.VPC = in.vpc.Name
		}
		if in.vpc.Name != g.VPC {
			c.fail("target group %s: instance %s is in vpc %s, the group in %s; targets share the group's vpc",
				g.Name, in.Name, in.vpc.Name, g.VPC)
		}
	}
	if g.DeregistrationDelay == nil {
		delay := Duration(DefaultDeregistrationDelay)
		g.DeregistrationDelay = &delay
	}
	if g.TerminateOnUnhealthy == nil {
		terminate := !inspecting
		g.TerminateOnUnhealthy = &terminate
	}
	switch g.ProxyProtocolV2.HeaderPlacement {
	case "":
		g.ProxyProtocolV2.HeaderPlacement = vpc.FirstPayload.String()
	case vpc.FirstPayload.String(), vpc.FirstACK.String():
	default:
		c.fail("target group %s: %q is no header_placement; write %s or %s",
			g.Name, g.ProxyProtocolV2.HeaderPlacement, vpc.FirstPayload, vpc.FirstACK)
	}
	if _, err := stickiness(g.Stickiness); err != nil {
		c.fail("target group %s: %w", g.Name, err)
	}
	if g.TargetFailover != "" && g.TargetFailover != noRebalance && g.TargetFailover != rebalance {
		c.fail("target group %s: %q is no target_failover; write %s or %s", g.Name, g.TargetFailover, noRebalance, rebalance)
	}
	c.healthCheck(g.Name, &g.HealthCheck, inspecting)
}

// Values of a target group's target_failover.
const (
	noRebalance = "no_rebalance"
	rebalance   = "rebalance"
)

// stickiness reads what a target group has written.
func stickiness(word string) (vpc.Stickiness, error) {
	all := []vpc.Stickiness{vpc.FiveTuple, vpc.ThreeTuple, vpc.TwoTuple}
	for _, s := range all {
		if word == s.String() || word == "" {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%q is no stickiness; write %s, %s or %s", word, all[0], all[1], all[2])
}

// healthCheck completes a health check. Appliances are checked more often than servers, and on a port that has nothing
// to do with their traffic.
func (c *completer) healthCheck(group string, h *HealthCheck, inspecting bool) {
	timeout, interval := 10*time.Second, 30*time.Second
	switch h.Protocol = strings.ToUpper(h.Protocol); h.Protocol {
	case "NONE":
		return
	case "":
		h.Protocol = vpc.CheckTCP.String()
	case "TCP":
	case "HTTP", "HTTPS":
		if h.Protocol == "HTTP" {
			timeout = 6 * time.Second
		}
		if h.Path == "" {
			h.Path = "/"
		}
	default:
		c.fail("target group %s: %q is no health check protocol; write TCP, HTTP, HTTPS or NONE", group, h.Protocol)
	}
	if inspecting {
		timeout, interval = 5*time.Second, 10*time.Second
		if h.Port == 0 {
			h.Port = 80
		}
	}
	orDuration(&h.Interval, interval)
	// A timeout that was not chosen gives way to an interval that was.
	orDuration(&h.Timeout, min(timeout, max(time.Duration(h.Interval), vpc.MinHealthTimeout)))
	if h.HealthyThreshold == 0 {
		h.HealthyThreshold = 5
	}
	if h.UnhealthyThreshold == 0 {
		h.UnhealthyThreshold = 2
	}
}

// references joins listeners and target groups, when both are known.
func (c *completer) references() {
	for _, lb := range c.t.LoadBalancers {
		for _, l := range lb.Listeners {
			g := c.groups[l.TargetGroup]
			if g == nil {
				c.fail("load balancer %s: there is no target group %q; name one of target_groups", lb.Name, l.TargetGroup)
			} else if g.VPC == "" {
				g.VPC = lb.VPC
			}
		}
	}
	for _, g := range c.t.TargetGroups {
		if c.vpcs[g.VPC] == nil {
			c.fail("target group %s: there is no vpc %q; name one of vpcs", g.Name, g.VPC)
		}
	}
}

func (c *completer) service(s *Service) {
	c.name("service", s.Name)
	if c.services[s.Name] != nil {
		c.fail("service %s: there are two of the name; choose another", s.Name)
	}
	c.services[s.Name] = s
	if s.ID == "" {
		s.ID = c.t.uid("vpce-svc-", s.Name)
	}
	if len(s.LoadBalancers) == 0 {
		c.fail("service %s: there are no load_balancers; name at least one", s.Name)
	}
	owner := ""
	for _, name := range s.LoadBalancers {
		lb := c.balancers[name]
		if lb == nil {
			c.fail("service %s: there is no load balancer %q; name one of load_balancers", s.Name, name)
			continue
		}
		if v := c.vpcs[lb.VPC]; v != nil && owner != "" && v.Account != owner {
			c.fail("service %s: load balancer %s belongs to account %s, others to %s; a service has those of one account", s.Name, name, v.Account, owner)
		} else if v != nil {
			owner = v.Account
		}
	}
}

// serves says whether the service has a load balancer node in a zone.
func (c *completer) serves(s *Service, zone string) bool {
	for _, name := range s.LoadBalancers {
		lb := c.balancers[name]
		if lb == nil || c.vpcs[lb.VPC] == nil {
			continue
		}
		for _, node := range lb.Nodes {
			if subnet := c.vpcs[lb.VPC].Subnet(node.Subnet); subnet != nil && subnet.Zone == zone {
				return true
			}
		}
	}
	return false
}

// gateway says whether a service is offered by gateway load balancers.
func (c *completer) gateway(s *Service) bool {
	for _, name := range s.LoadBalancers {
		if lb := c.balancers[name]; lb != nil && lb.Type == vpc.Gateway.String() {
			return true
		}
	}
	return false
}

func (c *completer) endpoint(e *Endpoint) {
	c.node("endpoint", e.Name)
	c.endpoints[e.Name] = e
	if e.ID == "" {
		e.ID = c.t.uid("vpce-", e.Name)
	}
	v, s := c.vpcs[e.VPC], c.services[e.Service]
	if v == nil {
		c.fail("endpoint %s: there is no vpc %q; name one of vpcs", e.Name, e.VPC)
	}
	if s == nil {
		c.fail("endpoint %s: there is no service %q; name one of services", e.Name, e.Service)
	}
	if v == nil || s == nil {
		return
	}
	kind := vpc.Interface
	if c.gateway(s) {
		kind = vpc.GatewayLoadBalancer
	}
	if e.Type == "" {
		e.Type = kind.String()
	}
	if e.Type != kind.String() {
		c.fail("endpoint %s: type %q does not fit the load balancers of service %s; write %s, or leave it out", e.Name, e.Type, s.Name, kind)
	}
	if e.ENIs == nil {
		e.ENIs = oneAZone(v, func(zone string) bool { return c.serves(s, zone) })
		if e.gateway() {
			e.ENIs = e.ENIs[:min(1, len(e.ENIs))]
		}
	}
	if len(e.ENIs) == 0 {
		c.fail("endpoint %s: vpc %s has no subnet in a zone of service %s; add one, or a load balancer node", e.Name, v.Name, s.Name)
	}
	if e.gateway() && len(e.ENIs) > 1 {
		c.fail("endpoint %s: one of type %s is in one subnet; write another endpoint for the other", e.Name, e.Type)
	}
	c.enis("endpoint "+e.Name, v, e.ENIs)
}

// gateway says whether routes have the endpoint as their next hop.
func (e *Endpoint) gateway() bool { return e.Type == vpc.GatewayLoadBalancer.String() }
