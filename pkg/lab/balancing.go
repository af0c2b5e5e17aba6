// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
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
	v := c.vpcs[lb.VPC]
	if v == nil {
		c.fail("load balancer %s: there is no vpc %q; name one of vpcs", lb.Name, lb.VPC)
		return
	}
	if lb.Nodes == nil {
		lb.Nodes = oneAZone(v, func(string) bool { return true })
	}
	c.enis("load balancer "+lb.Name, v, lb.Nodes)
	for i := range lb.Listeners {
		orDuration(&lb.Listeners[i].IdleTimeout, DefaultIdleTimeout)
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
		if v.subnet(e.Subnet) == nil {
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
	for _, target := range g.Targets {
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
		yes := true
		g.TerminateOnUnhealthy = &yes
	}
	switch g.ProxyProtocolV2.HeaderPlacement {
	case "":
		g.ProxyProtocolV2.HeaderPlacement = vpc.FirstPayload.String()
	case vpc.FirstPayload.String(), vpc.FirstACK.String():
	default:
		c.fail("target group %s: %q is no header_placement; write %s or %s",
			g.Name, g.ProxyProtocolV2.HeaderPlacement, vpc.FirstPayload, vpc.FirstACK)
	}
	c.healthCheck(g.Name, &g.HealthCheck)
}

func (c *completer) healthCheck(group string, h *HealthCheck) {
	timeout := 10 * time.Second
	switch h.Protocol = strings.ToUpper(h.Protocol); h.Protocol {
	case "NONE":
		return
	case "":
		h.Protocol = vpc.CheckTCP.String()
	case "TCP":
	case "HTTP":
		timeout = 6 * time.Second
		if h.Path == "" {
			h.Path = "/"
		}
	default:
		c.fail("target group %s: %q is no health check protocol; write TCP, HTTP or NONE", group, h.Protocol)
	}
	orDuration(&h.Interval, 30*time.Second)
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
		s.ID = c.id("vpce-svc-", s.Name)
	}
	for _, name := range s.LoadBalancers {
		if c.balancers[name] == nil {
			c.fail("service %s: there is no load balancer %q; name one of load_balancers", s.Name, name)
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
			if subnet := c.vpcs[lb.VPC].subnet(node.Subnet); subnet != nil && subnet.Zone == zone {
				return true
			}
		}
	}
	return false
}

func (c *completer) endpoint(e *Endpoint) {
	c.node("endpoint", e.Name)
	if e.ID == "" {
		e.ID = c.id("vpce-", e.Name)
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
	if e.ENIs == nil {
		e.ENIs = oneAZone(v, func(zone string) bool { return c.serves(s, zone) })
	}
	if len(e.ENIs) == 0 {
		c.fail("endpoint %s: vpc %s has no subnet in a zone of service %s; add one, or a load balancer node", e.Name, v.Name, s.Name)
	}
	c.enis("endpoint "+e.Name, v, e.ENIs)
}
