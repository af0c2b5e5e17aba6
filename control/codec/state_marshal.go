// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// MarshalState writes a state as a state file: every setting is said, defaults included. UnmarshalState reads the same
// state back, if it is valid.
func MarshalState(s *vpc.State) ([]byte, error) {
	m, err := stateToProto(s)
	if err != nil {
		return nil, err
	}
	return MarshalYAML(m)
}

// stateToProto is the inverse of stateFromProto.
func stateToProto(s *vpc.State) (*statev1.State, error) {
	m := &statev1.State{Revision: s.Revision}
	if s.HashKey != [16]byte{} {
		m.HashKey = hex.EncodeToString(s.HashKey[:])
	}
	for _, v := range s.VPCs {
		m.Vpcs = append(m.Vpcs, &statev1.VPC{Id: v.ID, Cidrs: texts(v.CIDRs)})
	}
	for _, p := range s.Ports {
		out := &statev1.Port{Id: p.ID, VpcId: p.VPC, Netns: p.Netns, Device: p.Device}
		switch p.Kind {
		case vpc.TUN:
			out.Kind = &statev1.Port_Tun{Tun: &statev1.TUN{Addresses: texts(p.Addresses), Routes: texts(p.Routes)}}
		case vpc.TAP:
			out.Kind = &statev1.Port_Tap{Tap: &statev1.TAP{Bridge: p.Bridge, Subnet: prefixText(p.Subnet), Gateway: addressText(p.Gateway)}}
		default:
			return nil, fmt.Errorf("writing the state: port %s has the unknown kind %d", p.ID, p.Kind)
		}
		m.Ports = append(m.Ports, out)
	}
	for _, lb := range s.LoadBalancers {
		m.LoadBalancers = append(m.LoadBalancers, loadBalancerToProto(&lb))
	}
	gateways := s.GatewayGroups()
	for i := range s.TargetGroups {
		g, err := targetGroupToProto(&s.TargetGroups[i], gateways[s.TargetGroups[i].ID])
		if err != nil {
			return nil, err
		}
		m.TargetGroups = append(m.TargetGroups, g)
	}
	for _, e := range s.Services {
		m.EndpointServices = append(m.EndpointServices, &statev1.EndpointService{Id: e.ID, LoadBalancerIds: e.LoadBalancers})
	}
	for _, e := range s.Endpoints {
		m.Endpoints = append(m.Endpoints, &statev1.Endpoint{Id: e.ID, ServiceId: e.Service, VpcId: e.VPC,
			Enis: enisToProto(e.ENIs), Type: endpointTypes.message(e.Type)})
	}
	m.Testing = EncodeTesting(s.Testing)
	return m, nil
}

// EncodeTesting says which timers are overridden; nil is none, and nil.
func EncodeTesting(t *vpc.Testing) *statev1.Testing {
	if t == nil {
		return nil
	}
	override := func(d time.Duration) *durationpb.Duration {
		if d == 0 {
			return nil
		}
		return durationpb.New(d)
	}
	return &statev1.Testing{
		IdleTimeout:         override(t.TCPIdle),
		HealthCheckInterval: override(t.HealthInterval),
		HealthCheckTimeout:  override(t.HealthTimeout),
	}
}

func enisToProto(enis []vpc.ENI) []*statev1.ENI {
	var out []*statev1.ENI
	for _, e := range enis {
		out = append(out, &statev1.ENI{ZoneId: e.Zone, Address: addressText(e.Address), PortIds: e.Ports})
	}
	return out
}

func loadBalancerToProto(lb *vpc.LoadBalancer) *statev1.LoadBalancer {
	out := &statev1.LoadBalancer{Id: lb.ID, VpcId: lb.VPC, CrossZone: lb.CrossZone, Nodes: enisToProto(lb.Nodes),
		Type: loadBalancerTypes.message(lb.Type), Mtu: uint32(lb.MTU)}
	for _, l := range lb.Listeners {
		out.Listeners = append(out.Listeners, &statev1.Listener{
			Port: uint32(l.Port), TargetGroupId: l.TargetGroup, IdleTimeout: durationpb.New(l.IdleTimeout),
			SendTcpResetOnIdleTimeout: l.ResetOnIdle,
		})
	}
	return out
}

// targetGroupToProto leaves out what is not for the type of load balancer that uses the group, unless it is set.
func targetGroupToProto(g *vpc.TargetGroup, gateway bool) (*statev1.TargetGroup, error) {
	if checkProtocols.message(g.HealthCheck.Protocol) == 0 {
		return nil, fmt.Errorf("writing the state: target group %s has the unknown health check protocol %d", g.ID, g.HealthCheck.Protocol)
	}
	a := attributesToProto(g, gateway)
	out := &statev1.TargetGroup{
		Id:                        g.ID,
		VpcId:                     g.VPC,
		ProxyProtocolV2:           a.proxyProtocol,
		HealthCheck:               a.healthCheck,
		DeregistrationDelay:       a.deregistrationDelay,
		TerminateOnDeregistration: a.terminateOnDeregistration,
		TerminateOnUnhealthy:      a.terminateOnUnhealthy,
		Stickiness:                a.stickiness,
		TargetFailover:            a.targetFailover,
		SendTcpReset:              a.sendTCPReset,
	}
	for _, t := range g.Targets {
		out.Targets = append(out.Targets, &statev1.Target{
			Address: addressText(t.Address), Port: uint32(t.Port), ZoneId: t.Zone, Draining: t.Draining,
		})
	}
	return out, nil
}
