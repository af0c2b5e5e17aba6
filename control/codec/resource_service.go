// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func (d *messageDecoder) decodeTargetGroup(m *apiv1.TargetGroup) *resource.TargetGroup {
	out := &resource.TargetGroup{
		Meta: d.meta(resource.KindTargetGroup, m.GetName(), m.GetMetadata()),
		Type: loadBalancerTypes.value(&d.converter, "type", m.GetType()),
	}
	gateway := out.Type == vpc.Gateway
	out.Group = d.attributes("", &attributes{
		proxyProtocol:             m.GetProxyProtocolV2(),
		healthCheck:               m.GetHealthCheck(),
		deregistrationDelay:       m.GetDeregistrationDelay(),
		terminateOnDeregistration: m.GetTerminateOnDeregistration(),
		terminateOnUnhealthy:      m.TerminateOnUnhealthy,
		stickiness:                m.GetStickiness(),
		targetFailover:            m.GetTargetFailover(),
		sendTCPReset:              m.GetSendTcpReset(),
	}, gateway)
	out.Group.VPC = d.ref("vpc", m.GetVpc(), resource.KindVPC, d.account)
	for i, t := range m.GetTargets() {
		out.Group.Targets = append(out.Group.Targets, d.target(fmt.Sprintf("targets[%d]", i), t, gateway))
	}
	if !d.outputs {
		return out
	}
	for i, t := range m.GetDrainingTargets() {
		here := fmt.Sprintf("draining_targets[%d]", i)
		out.Draining = append(out.Draining, resource.DrainingTarget{
			Target: d.target(here, t, gateway), Since: d.time(here+".drain_time", t.GetDrainTime()),
		})
	}
	return out
}

// DecodeTargets makes targets of those of a request about a target group of a type. The error joins resource.Errors about
// the field "targets".
func DecodeTargets(list []*apiv1.Target, t vpc.LoadBalancerType) ([]vpc.Target, error) {
	d := &messageDecoder{}
	var out []vpc.Target
	for i, target := range list {
		out = append(out, d.target(fmt.Sprintf("targets[%d]", i), target, t == vpc.Gateway))
	}
	return out, d.resourceErr(resource.Key{})
}

func (d *messageDecoder) target(path string, m *apiv1.Target, gateway bool) vpc.Target {
	out := vpc.Target{
		Address: d.address(path+".address", m.GetAddress()),
		Port:    d.portNumber(path+".port", m.GetPort()),
		Zone:    m.GetZoneId(),
	}
	if gateway && m.GetPort() == 0 {
		out.Port = vpc.GenevePort
	}
	return out
}

func encodeTargetGroup(r *resource.TargetGroup) *apiv1.TargetGroup {
	a := attributesToProto(&r.Group, r.Type == vpc.Gateway)
	out := &apiv1.TargetGroup{
		Name:                      Name(r.Key),
		Metadata:                  encodeMeta(r),
		Type:                      loadBalancerTypes.message(r.Type),
		Vpc:                       refName(r.Group.VPC, resource.KindVPC, r.Account),
		ProxyProtocolV2:           a.proxyProtocol,
		HealthCheck:               a.healthCheck,
		DeregistrationDelay:       a.deregistrationDelay,
		TerminateOnDeregistration: a.terminateOnDeregistration,
		TerminateOnUnhealthy:      a.terminateOnUnhealthy,
		Stickiness:                a.stickiness,
		TargetFailover:            a.targetFailover,
		SendTcpReset:              a.sendTCPReset,
	}
	for i := range r.Group.Targets {
		out.Targets = append(out.Targets, encodeTarget(&r.Group.Targets[i]))
	}
	for i := range r.Draining {
		t := encodeTarget(&r.Draining[i].Target)
		t.DrainTime = timestamp(r.Draining[i].Since)
		out.DrainingTargets = append(out.DrainingTargets, t)
	}
	return out
}

func encodeTarget(t *vpc.Target) *apiv1.Target {
	return &apiv1.Target{Address: addressText(t.Address), Port: uint32(t.Port), ZoneId: t.Zone}
}

func (d *messageDecoder) decodeLoadBalancer(m *apiv1.LoadBalancer) *resource.LoadBalancer {
	out := &resource.LoadBalancer{
		Meta:      d.meta(resource.KindLoadBalancer, m.GetName(), m.GetMetadata()),
		Type:      loadBalancerTypes.value(&d.converter, "type", m.GetType()),
		CrossZone: m.GetCrossZone(),
		MTU:       int(m.GetMtu()),
	}
	out.VPC = d.ref("vpc", m.GetVpc(), resource.KindVPC, d.account)
	out.Nodes = d.subnetAddresses("nodes", m.GetNodes())
	for i, l := range m.GetListeners() {
		here := fmt.Sprintf("listeners[%d]", i)
		out.Listeners = append(out.Listeners, vpc.Listener{
			Port:        d.portNumber(here+".port", l.GetPort()),
			TargetGroup: d.ref(here+".target_group", l.GetTargetGroup(), resource.KindTargetGroup, d.account),
			IdleTimeout: d.duration(here+".idle_timeout", l.GetIdleTimeout(), vpc.DefaultIdleTimeout),
			ResetOnIdle: l.GetSendTcpResetOnIdleTimeout(),
		})
	}
	return out
}

func encodeLoadBalancer(r *resource.LoadBalancer) *apiv1.LoadBalancer {
	out := &apiv1.LoadBalancer{
		Name: Name(r.Key), Metadata: encodeMeta(r), Vpc: refName(r.VPC, resource.KindVPC, r.Account),
		Type: loadBalancerTypes.message(r.Type), CrossZone: r.CrossZone, Mtu: uint32(r.MTU),
		Nodes: encodeSubnetAddresses(r.Nodes, r.Account),
	}
	for _, l := range r.Listeners {
		out.Listeners = append(out.Listeners, &apiv1.Listener{
			Port: uint32(l.Port), TargetGroup: refName(l.TargetGroup, resource.KindTargetGroup, r.Account),
			IdleTimeout: durationpb.New(l.IdleTimeout), SendTcpResetOnIdleTimeout: l.ResetOnIdle,
		})
	}
	return out
}

func (d *messageDecoder) subnetAddresses(path string, list []*apiv1.SubnetAddress) []resource.SubnetAddress {
	var out []resource.SubnetAddress
	for i, a := range list {
		here := fmt.Sprintf("%s[%d]", path, i)
		out = append(out, resource.SubnetAddress{
			Subnet:  d.ref(here+".subnet", a.GetSubnet(), resource.KindSubnet, d.account),
			Address: d.address(here+".address", a.GetAddress()),
		})
	}
	return out
}

func encodeSubnetAddresses(list []resource.SubnetAddress, account string) []*apiv1.SubnetAddress {
	var out []*apiv1.SubnetAddress
	for _, a := range list {
		out = append(out, &apiv1.SubnetAddress{Subnet: refName(a.Subnet, resource.KindSubnet, account), Address: addressText(a.Address)})
	}
	return out
}

func (d *messageDecoder) endpointService(m *apiv1.EndpointService) *resource.EndpointService {
	out := &resource.EndpointService{
		Meta:       d.meta(resource.KindEndpointService, m.GetName(), m.GetMetadata()),
		AutoAccept: m.AcceptanceRequired != nil && !*m.AcceptanceRequired,
		Principals: slices.Clone(m.GetAllowedPrincipals()),
	}
	out.LoadBalancers = d.refs("load_balancers", m.GetLoadBalancers(), resource.KindLoadBalancer, d.account)
	if d.outputs {
		out.Name = m.GetServiceName()
		out.Type = endpointTypes.value(&d.converter, "type", m.GetType())
		out.ZoneIDs = slices.Clone(m.GetZoneIds())
	}
	return out
}

func encodeEndpointService(r *resource.EndpointService) *apiv1.EndpointService {
	return &apiv1.EndpointService{
		Name: Name(r.Key), Metadata: encodeMeta(r),
		LoadBalancers:      refNames(r.LoadBalancers, resource.KindLoadBalancer, r.Account),
		AcceptanceRequired: proto.Bool(!r.AutoAccept), AllowedPrincipals: slices.Clone(r.Principals),
		ServiceName: r.Name, Type: endpointTypes.message(r.Type), ZoneIds: slices.Clone(r.ZoneIDs),
	}
}

func (d *messageDecoder) endpoint(m *apiv1.Endpoint) *resource.Endpoint {
	out := &resource.Endpoint{
		Meta:    d.meta(resource.KindEndpoint, m.GetName(), m.GetMetadata()),
		Service: m.GetServiceName(),
		Type:    endpointTypes.value(&d.converter, "type", m.GetType()),
		// The service's, where none is said.
		TypeOpen: m.GetType() == statev1.EndpointType_ENDPOINT_TYPE_UNSPECIFIED,
		Bandwidth: vpc.Bandwidth{
			Rate: m.GetBandwidth().GetRateBitsPerSecond(), Burst: m.GetBandwidth().GetBurstBitsPerSecond(),
			BurstTime: d.duration("bandwidth.burst_time", m.GetBandwidth().GetBurstTime(), 0),
		},
	}
	out.VPC = d.ref("vpc", m.GetVpc(), resource.KindVPC, d.account)
	out.ENIs = d.subnetAddresses("enis", m.GetEnis())
	out.SecurityGroups = d.refs("security_groups", m.GetSecurityGroups(), resource.KindSecurityGroup, d.account)
	if d.outputs {
		out.State = endpointStates.value(&d.converter, "state", m.GetState())
		out.Reason = m.GetStateReason()
		out.StateSince = d.time("state_time", m.GetStateTime())
		out.Creator, out.Generation = m.GetCreator(), m.GetGeneration()
	}
	return out
}

func encodeEndpoint(r *resource.Endpoint) *apiv1.Endpoint {
	out := &apiv1.Endpoint{
		Name: Name(r.Key), Metadata: encodeMeta(r), Vpc: refName(r.VPC, resource.KindVPC, r.Account),
		ServiceName: r.Service, Type: endpointTypes.message(r.Type), Enis: encodeSubnetAddresses(r.ENIs, r.Account),
		SecurityGroups: refNames(r.SecurityGroups, resource.KindSecurityGroup, r.Account),
		State:          endpointStates.message(r.State), StateReason: r.Reason, StateTime: timestamp(r.StateSince),
		Creator: r.Creator, Generation: r.Generation,
	}
	if b := r.Bandwidth; b != (vpc.Bandwidth{}) {
		out.Bandwidth = &apiv1.Bandwidth{RateBitsPerSecond: b.Rate, BurstBitsPerSecond: b.Burst, BurstTime: durationpb.New(b.BurstTime)}
	}
	return out
}
