// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// MarshalState writes a state as a configuration file: every setting is said, defaults included. UnmarshalState reads
// the same state back, if it is valid.
func MarshalState(s *vpc.State) ([]byte, error) {
	m, err := stateToProto(s)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(messageNode(m.ProtoReflect())); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	return out.Bytes(), nil
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
			return nil, fmt.Errorf("writing the configuration: port %s has the unknown kind %d", p.ID, p.Kind)
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
		out := &statev1.Endpoint{Id: e.ID, ServiceId: e.Service, VpcId: e.VPC, Enis: enisToProto(e.ENIs),
			Type: statev1.EndpointType_ENDPOINT_TYPE_INTERFACE}
		if e.Type == vpc.GatewayLoadBalancer {
			out.Type = statev1.EndpointType_ENDPOINT_TYPE_GATEWAY_LOAD_BALANCER
		}
		m.Endpoints = append(m.Endpoints, out)
	}
	m.Testing = testingToProto(s.Testing)
	return m, nil
}

func testingToProto(t *vpc.Testing) *statev1.Testing {
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
		Type: statev1.LoadBalancerType_LOAD_BALANCER_TYPE_NETWORK, Mtu: uint32(lb.MTU)}
	if lb.Type == vpc.Gateway {
		out.Type = statev1.LoadBalancerType_LOAD_BALANCER_TYPE_GATEWAY
	}
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
	out := &statev1.TargetGroup{
		Id:                        g.ID,
		VpcId:                     g.VPC,
		DeregistrationDelay:       durationpb.New(g.DeregistrationDelay),
		TerminateOnDeregistration: g.TerminateOnDeregistration,
	}
	if !gateway || g.TerminateOnUnhealthy {
		out.TerminateOnUnhealthy = proto.Bool(g.TerminateOnUnhealthy)
	}
	failoverToProto(out, g, gateway)
	if g.ProxyProtocol != (vpc.ProxyProtocol{}) {
		out.ProxyProtocolV2 = &statev1.ProxyProtocolV2{
			Enabled:         g.ProxyProtocol.Enabled,
			HeaderPlacement: statev1.HeaderPlacement_HEADER_PLACEMENT_ON_FIRST_ACK_WITH_PAYLOAD,
		}
		if g.ProxyProtocol.Placement == vpc.FirstACK {
			out.ProxyProtocolV2.HeaderPlacement = statev1.HeaderPlacement_HEADER_PLACEMENT_ON_FIRST_ACK
		}
	}
	var err error
	if out.HealthCheck, err = healthCheckToProto(&g.HealthCheck); err != nil {
		return nil, fmt.Errorf("writing the configuration: target group %s: %w", g.ID, err)
	}
	for _, t := range g.Targets {
		out.Targets = append(out.Targets, &statev1.Target{
			Address: addressText(t.Address), Port: uint32(t.Port), ZoneId: t.Zone, Draining: t.Draining,
		})
	}
	return out, nil
}

// failoverToProto says how packets stick to appliances and what becomes of them when those fail.
func failoverToProto(out *statev1.TargetGroup, g *vpc.TargetGroup, gateway bool) {
	switch {
	case g.Stickiness == vpc.ThreeTuple:
		out.Stickiness = statev1.Stickiness_STICKINESS_SOURCE_IP_DEST_IP_PROTO
	case g.Stickiness == vpc.TwoTuple:
		out.Stickiness = statev1.Stickiness_STICKINESS_SOURCE_IP_DEST_IP
	case gateway:
		out.Stickiness = statev1.Stickiness_STICKINESS_FIVE_TUPLE
	}
	switch {
	case g.Rebalance:
		out.TargetFailover = statev1.TargetFailover_TARGET_FAILOVER_REBALANCE
	case gateway:
		out.TargetFailover = statev1.TargetFailover_TARGET_FAILOVER_NO_REBALANCE
	}
	if g.ResetOnUnhealthy || g.ResetOnDeregistration {
		out.SendTcpReset = &statev1.SendTCPReset{OnUnhealthy: g.ResetOnUnhealthy, OnDeregistration: g.ResetOnDeregistration}
	}
}

func healthCheckToProto(h *vpc.HealthCheck) (*statev1.HealthCheck, error) {
	out := &statev1.HealthCheck{
		Port:               uint32(h.Port),
		Path:               h.Path,
		Interval:           durationpb.New(h.Interval),
		Timeout:            durationpb.New(h.Timeout),
		HealthyThreshold:   proto.Uint32(uint32(h.HealthyThreshold)),
		UnhealthyThreshold: proto.Uint32(uint32(h.UnhealthyThreshold)),
	}
	switch h.Protocol {
	case vpc.CheckNone:
		return &statev1.HealthCheck{Protocol: statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_NONE}, nil
	case vpc.CheckTCP:
		out.Protocol = statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_TCP
		return out, nil
	case vpc.CheckHTTP:
		out.Protocol = statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_HTTP
	case vpc.CheckHTTPS:
		out.Protocol = statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_HTTPS
	default:
		return nil, fmt.Errorf("unknown health check protocol %d", h.Protocol)
	}
	out.Matcher = fmt.Sprintf("%d-%d", h.MatchLow, h.MatchHigh)
	return out, nil
}

func texts(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, prefixText(p))
	}
	return out
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// messageNode writes the fields of a message that are set, in the order of the schema.
func messageNode(m protoreflect.Message) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		value := m.Get(field)
		var v *yaml.Node
		if field.IsList() {
			v = listNode(field, value.List())
		} else {
			v = valueNode(field, value)
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: string(field.Name())}, v)
	}
	return n
}

// listNode writes messages one below the other, single values on one line.
func listNode(field protoreflect.FieldDescriptor, list protoreflect.List) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if field.Message() == nil {
		n.Style = yaml.FlowStyle
	}
	for i := range list.Len() {
		n.Content = append(n.Content, valueNode(field, list.Get(i)))
	}
	return n
}

func valueNode(field protoreflect.FieldDescriptor, value protoreflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch {
	case field.Message() != nil && field.Message().FullName() == durationName:
		n.Value = durationText(value.Message().Interface().(*durationpb.Duration).AsDuration())
	case field.Message() != nil:
		return messageNode(value.Message())
	case field.Kind() == protoreflect.EnumKind:
		n.Value = enumName(field.Enum().Values().ByNumber(value.Enum()))
	case field.Kind() == protoreflect.StringKind:
		n.SetString(value.String())
	default:
		n.Value = value.String()
	}
	return n
}

// durationText writes a duration in seconds, exactly.
func durationText(d time.Duration) string {
	whole, rest := d/time.Second, d%time.Second
	if rest == 0 {
		return strconv.FormatInt(int64(whole), 10) + "s"
	}
	if d < 0 {
		return d.String()
	}
	return strings.TrimRight(fmt.Sprintf("%d.%09d", whole, rest), "0") + "s"
}
