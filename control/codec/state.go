// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"encoding/hex"
	"fmt"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// UnmarshalState decodes a state file, fills in defaults and validates the state. Name is what errors call the file. The
// error joins FileErrors in the order of their lines: mistakes of form, or else broken rules. A state without hash_key
// has a zero HashKey.
func UnmarshalState(name string, data []byte) (*vpc.State, error) {
	message := &statev1.State{}
	root, err := decodeYAML(name, data, message)
	if err != nil {
		return nil, err
	}
	state, problems := stateFromProto(message)
	if problems == nil {
		problems = state.Validate()
	}
	if problems != nil {
		return nil, joinMistakes(name, locateAll(root, problems))
	}
	return state, nil
}

// stateFromProto converts a state and fills in defaults. It checks forms, not rules.
func stateFromProto(m *statev1.State) (*vpc.State, error) {
	c := &converter{}
	s := &vpc.State{Revision: m.Revision, HashKey: c.hashKey(m.HashKey)}
	for i, v := range m.Vpcs {
		s.VPCs = append(s.VPCs, vpc.VPC{ID: v.Id, CIDRs: c.prefixes(fmt.Sprintf("vpcs[%d].cidrs", i), v.Cidrs)})
	}
	for i, p := range m.Ports {
		s.Ports = append(s.Ports, c.port(fmt.Sprintf("ports[%d]", i), p))
	}
	for i, lb := range m.LoadBalancers {
		s.LoadBalancers = append(s.LoadBalancers, c.loadBalancer(fmt.Sprintf("load_balancers[%d]", i), lb))
	}
	gateways := s.GatewayGroups()
	for i, g := range m.TargetGroups {
		s.TargetGroups = append(s.TargetGroups, c.targetGroup(fmt.Sprintf("target_groups[%d]", i), g, gateways[g.Id]))
	}
	for _, e := range m.EndpointServices {
		s.Services = append(s.Services, vpc.EndpointService{ID: e.Id, LoadBalancers: e.LoadBalancerIds})
	}
	for i, e := range m.Endpoints {
		out := vpc.Endpoint{ID: e.Id, Service: e.ServiceId, VPC: e.VpcId, ENIs: c.enis(fmt.Sprintf("endpoints[%d].enis", i), e.Enis)}
		out.Type = endpointTypes.value(c, fmt.Sprintf("endpoints[%d].type", i), e.Type)
		s.Endpoints = append(s.Endpoints, out)
	}
	if t := m.Testing; t != nil {
		s.Testing = &vpc.Testing{
			TCPIdle:        c.duration("testing.idle_timeout", t.IdleTimeout, 0),
			HealthInterval: c.duration("testing.health_check_interval", t.HealthCheckInterval, 0),
			HealthTimeout:  c.duration("testing.health_check_timeout", t.HealthCheckTimeout, 0),
		}
	}
	return s, c.stateErr()
}

func (c *converter) hashKey(s string) (key [16]byte) {
	if s == "" {
		return key
	}
	if n, err := hex.Decode(key[:], []byte(s[:min(len(s), 32)])); err != nil || n != len(key) || len(s) != 32 {
		c.fail("hash_key", "%q is not 32 hexadecimal digits; make one with: openssl rand -hex 16", s)
	}
	return key
}

func (c *converter) port(path string, p *statev1.Port) vpc.Port {
	out := vpc.Port{ID: p.Id, VPC: p.VpcId, Netns: p.Netns, Device: p.Device}
	switch kind := p.Kind.(type) {
	case *statev1.Port_Tun:
		out.Kind = vpc.TUN
		out.Addresses = c.prefixes(path+".tun.addresses", kind.Tun.Addresses)
		out.Routes = c.prefixes(path+".tun.routes", kind.Tun.Routes)
	case *statev1.Port_Tap:
		out.Kind = vpc.TAP
		out.Bridge = kind.Tap.Bridge
		out.Subnet = c.prefix(path+".tap.subnet", kind.Tap.Subnet)
		out.Gateway = c.address(path+".tap.gateway", kind.Tap.Gateway)
	}
	return out
}

func (c *converter) enis(path string, list []*statev1.ENI) []vpc.ENI {
	var out []vpc.ENI
	for i, e := range list {
		a := c.address(fmt.Sprintf("%s[%d].address", path, i), e.Address)
		out = append(out, vpc.ENI{Address: a, Zone: e.ZoneId, Ports: e.PortIds})
	}
	return out
}

func (c *converter) loadBalancer(path string, lb *statev1.LoadBalancer) vpc.LoadBalancer {
	out := vpc.LoadBalancer{ID: lb.Id, VPC: lb.VpcId, MTU: int(lb.Mtu), CrossZone: lb.CrossZone, Nodes: c.enis(path+".nodes", lb.Nodes)}
	out.Type = loadBalancerTypes.value(c, path+".type", lb.Type)
	for i, l := range lb.Listeners {
		here := fmt.Sprintf("%s.listeners[%d]", path, i)
		out.Listeners = append(out.Listeners, vpc.Listener{
			Port:        c.portNumber(here+".port", l.Port),
			TargetGroup: l.TargetGroupId,
			IdleTimeout: c.duration(here+".idle_timeout", l.IdleTimeout, vpc.DefaultIdleTimeout),
			ResetOnIdle: l.SendTcpResetOnIdleTimeout,
		})
	}
	return out
}

// targetGroup converts a target group, whose defaults depend on the type of load balancer that uses it.
func (c *converter) targetGroup(path string, g *statev1.TargetGroup, gateway bool) vpc.TargetGroup {
	out := c.attributes(path, &attributes{
		proxyProtocol:             g.ProxyProtocolV2,
		healthCheck:               g.HealthCheck,
		deregistrationDelay:       g.DeregistrationDelay,
		terminateOnDeregistration: g.TerminateOnDeregistration,
		terminateOnUnhealthy:      g.TerminateOnUnhealthy,
		stickiness:                g.Stickiness,
		targetFailover:            g.TargetFailover,
		sendTCPReset:              g.SendTcpReset,
	}, gateway)
	out.ID, out.VPC = g.Id, g.VpcId
	for i, t := range g.Targets {
		here := fmt.Sprintf("%s.targets[%d]", path, i)
		out.Targets = append(out.Targets, vpc.Target{
			Address:  c.address(here+".address", t.Address),
			Port:     c.portNumber(here+".port", t.Port),
			Zone:     t.ZoneId,
			Draining: t.Draining,
		})
	}
	return out
}
