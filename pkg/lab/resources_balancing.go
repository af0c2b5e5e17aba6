// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func (t *Topology) loadBalancer(lb *LoadBalancer) *resource.LoadBalancer {
	v := t.vpc(lb.VPC)
	out := &resource.LoadBalancer{
		Meta: t.meta(v, resource.KindLoadBalancer, lb.Name), VPC: v.Name, CrossZone: lb.CrossZone, MTU: lb.MTU, Nodes: v.enis(lb.Nodes),
	}
	if lb.Type == vpc.Gateway.String() {
		out.Type = vpc.Gateway
	}
	for _, l := range lb.Listeners {
		out.Listeners = append(out.Listeners, vpc.Listener{
			Port: l.Port, TargetGroup: l.TargetGroup, IdleTimeout: time.Duration(l.IdleTimeout), ResetOnIdle: l.ResetOnIdle,
		})
	}
	return out
}

func (t *Topology) targetGroup(g *TargetGroup) *resource.TargetGroup {
	v := t.vpc(g.VPC)
	group := vpc.TargetGroup{
		VPC:                       v.Name,
		HealthCheck:               healthCheck(&g.HealthCheck),
		DeregistrationDelay:       time.Duration(*g.DeregistrationDelay),
		TerminateOnDeregistration: g.TerminateOnDeregistration,
		TerminateOnUnhealthy:      *g.TerminateOnUnhealthy,
		Rebalance:                 g.TargetFailover == rebalance,
		ResetOnUnhealthy:          g.SendTCPReset.OnUnhealthy,
		ResetOnDeregistration:     g.SendTCPReset.OnDeregistration,
	}
	group.Stickiness, _ = stickiness(g.Stickiness) // Complete has checked it
	group.ProxyProtocol.Enabled = g.ProxyProtocolV2.Enabled
	if g.ProxyProtocolV2.HeaderPlacement == vpc.FirstACK.String() {
		group.ProxyProtocol.Placement = vpc.FirstACK
	}
	for _, target := range g.Targets {
		if in := v.instance(target.Instance); in != nil {
			group.Targets = append(group.Targets, vpc.Target{Address: in.Address, Port: target.Port, Zone: v.Subnet(in.Subnet).Zone})
		}
	}
	return &resource.TargetGroup{Meta: t.meta(v, resource.KindTargetGroup, g.Name), Type: t.usedBy(g), Group: group}
}

// usedBy is the type of the load balancers that use a target group.
func (t *Topology) usedBy(g *TargetGroup) vpc.LoadBalancerType {
	for _, lb := range t.LoadBalancers {
		for _, l := range lb.Listeners {
			if l.TargetGroup == g.Name && lb.Type == vpc.Gateway.String() {
				return vpc.Gateway
			}
		}
	}
	return vpc.Network
}

func healthCheck(h *HealthCheck) vpc.HealthCheck {
	out := vpc.HealthCheck{
		Port: h.Port, Path: h.Path, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
		HealthyThreshold: h.HealthyThreshold, UnhealthyThreshold: h.UnhealthyThreshold,
	}
	switch h.Protocol {
	case vpc.CheckTCP.String():
		out.Protocol = vpc.CheckTCP
	case vpc.CheckHTTP.String():
		out.Protocol, out.MatchLow, out.MatchHigh = vpc.CheckHTTP, 200, 399
	case vpc.CheckHTTPS.String():
		out.Protocol, out.MatchLow, out.MatchHigh = vpc.CheckHTTPS, 200, 399
	}
	return out
}
