// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// State is the configuration of the dataplane for the lab that is built in dir. The hash key is made from the lab's
// name, so that the same lab balances alike each time. The topology is completed first; the state is valid.
func (t *Topology) State(dir string) (*vpc.State, error) {
	if err := t.Complete(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	s := &vpc.State{Testing: t.testing()}
	sum := sha256.Sum256([]byte("isthmus lab " + t.Name))
	copy(s.HashKey[:], sum[:])

	for _, v := range t.VPCs {
		s.VPCs = append(s.VPCs, vpc.VPC{ID: v.ID, CIDRs: []netip.Prefix{v.CIDR}})
		for _, subnet := range v.Subnets {
			if t.hasENI(v.Name, subnet.Name) {
				s.Ports = append(s.Ports, t.port(dir, &v, &subnet))
			}
		}
		s.Ports = append(s.Ports, t.nextHops(dir, &v)...)
	}
	for _, lb := range t.LoadBalancers {
		v := t.vpc(lb.VPC)
		out := vpc.LoadBalancer{ID: lb.Name, VPC: v.ID, MTU: lb.MTU, CrossZone: lb.CrossZone, Nodes: v.enis(lb.Nodes)}
		if lb.Type == vpc.Gateway.String() {
			out.Type = vpc.Gateway
		}
		for _, l := range lb.Listeners {
			out.Listeners = append(out.Listeners, vpc.Listener{
				Port: l.Port, TargetGroup: l.TargetGroup, IdleTimeout: time.Duration(l.IdleTimeout), ResetOnIdle: l.ResetOnIdle,
			})
		}
		s.LoadBalancers = append(s.LoadBalancers, out)
	}
	for i := range t.TargetGroups {
		s.TargetGroups = append(s.TargetGroups, t.targetGroup(&t.TargetGroups[i]))
	}
	ids := map[string]string{}
	for _, service := range t.Services {
		ids[service.Name] = service.ID
		s.Services = append(s.Services, vpc.EndpointService{ID: service.ID, LoadBalancers: service.LoadBalancers})
	}
	for _, e := range t.Endpoints {
		v := t.vpc(e.VPC)
		out := vpc.Endpoint{ID: e.ID, Service: ids[e.Service], VPC: v.ID, ENIs: v.enis(e.ENIs)}
		if e.gateway() {
			out.Type = vpc.GatewayLoadBalancer
			out.ENIs[0].Ports = []string{nextHopID(v, e.Name)}
		}
		s.Endpoints = append(s.Endpoints, out)
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	return s, nil
}

func (t *Topology) vpc(name string) *VPC {
	for i := range t.VPCs {
		if t.VPCs[i].Name == name {
			return &t.VPCs[i]
		}
	}
	return nil
}

// hasENI says whether the dataplane answers to an address in a subnet, and so needs a port there.
func (t *Topology) hasENI(vpc, subnet string) bool {
	in := func(enis []ENI) bool {
		for _, e := range enis {
			if e.Subnet == subnet {
				return true
			}
		}
		return false
	}
	for _, lb := range t.LoadBalancers {
		if lb.VPC == vpc && in(lb.Nodes) {
			return true
		}
	}
	for _, e := range t.Endpoints {
		if e.VPC == vpc && !e.gateway() && in(e.ENIs) {
			return true
		}
	}
	return false
}

func (t *Topology) port(dir string, v *VPC, s *Subnet) vpc.Port {
	return vpc.Port{
		ID: portID(v, s.Name), VPC: v.ID, Kind: vpc.TAP,
		Netns: Netns(dir, v.Name), Device: device("tap-", s.Name),
		Bridge: device("br-", s.Name), Subnet: s.CIDR, Gateway: s.Gateway,
	}
}

// nextHops are the ports of the GWLB endpoints of a VPC: a TUN device each, in the router.
func (t *Topology) nextHops(dir string, v *VPC) (list []vpc.Port) {
	for _, e := range t.Endpoints {
		if e.gateway() && e.VPC == v.Name {
			list = append(list, vpc.Port{
				ID: nextHopID(v, e.Name), VPC: v.ID, Kind: vpc.TUN, Netns: Netns(dir, v.Name), Device: tunDevice(e.Name),
			})
		}
	}
	return list
}

func nextHopID(v *VPC, endpoint string) string { return v.Name + "/endpoint/" + endpoint }

func portID(v *VPC, subnet string) string { return v.Name + "/" + subnet }

// device names an interface: prefix and name where that fits, and a part of both with a hash of the name otherwise.
func device(prefix, name string) string {
	if len(prefix+name) <= netns.MaxName {
		return prefix + name
	}
	sum := sha256.Sum256([]byte(name))
	hash := "-" + hex.EncodeToString(sum[:])[:6]
	return (prefix + name)[:netns.MaxName-len(hash)] + hash
}

// enis places ENIs of a VPC. They are reached through the port of their subnet.
func (v *VPC) enis(list []ENI) []vpc.ENI {
	var out []vpc.ENI
	for _, e := range list {
		out = append(out, vpc.ENI{Address: e.Address, Zone: v.Subnet(e.Subnet).Zone, Ports: []string{portID(v, e.Subnet)}})
	}
	return out
}

func (t *Topology) targetGroup(g *TargetGroup) vpc.TargetGroup {
	out := vpc.TargetGroup{
		ID: g.Name, VPC: t.vpc(g.VPC).ID,
		HealthCheck:               healthCheck(&g.HealthCheck),
		DeregistrationDelay:       time.Duration(*g.DeregistrationDelay),
		TerminateOnDeregistration: g.TerminateOnDeregistration,
		TerminateOnUnhealthy:      *g.TerminateOnUnhealthy,
		Rebalance:                 g.TargetFailover == rebalance,
		ResetOnUnhealthy:          g.SendTCPReset.OnUnhealthy,
		ResetOnDeregistration:     g.SendTCPReset.OnDeregistration,
	}
	out.Stickiness, _ = stickiness(g.Stickiness) // Complete has checked it
	out.ProxyProtocol.Enabled = g.ProxyProtocolV2.Enabled
	if g.ProxyProtocolV2.HeaderPlacement == vpc.FirstACK.String() {
		out.ProxyProtocol.Placement = vpc.FirstACK
	}
	v := t.vpc(g.VPC)
	for _, target := range g.Targets {
		for _, in := range v.Instances {
			if in.Name == target.Instance {
				out.Targets = append(out.Targets, vpc.Target{
					Address: in.Address, Port: target.Port, Zone: v.Subnet(in.Subnet).Zone, Draining: target.Draining,
				})
			}
		}
	}
	return out
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

func (t *Topology) testing() *vpc.Testing {
	if t.Testing == nil {
		return nil
	}
	return &vpc.Testing{
		TCPIdle:        time.Duration(t.Testing.IdleTimeout),
		HealthInterval: time.Duration(t.Testing.HealthCheckInterval),
		HealthTimeout:  time.Duration(t.Testing.HealthCheckTimeout),
	}
}
