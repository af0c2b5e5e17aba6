// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"maps"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func (d *messageDecoder) decodeAccount(m *apiv1.Account) *resource.Account {
	q := m.GetQuotas()
	return &resource.Account{
		Meta:        d.meta(resource.KindAccount, m.GetName(), m.GetMetadata()),
		DisplayName: m.GetDisplayName(),
		Zones:       maps.Clone(m.GetZones()),
		Quotas: resource.Quotas{
			VPCs:                  int(q.GetVpcs()),
			SubnetsPerVPC:         int(q.GetSubnetsPerVpc()),
			EndpointsPerVPC:       int(q.GetEndpointsPerVpc()),
			SecurityGroupsPerVPC:  int(q.GetSecurityGroupsPerVpc()),
			SecurityGroupsPerENI:  int(q.GetSecurityGroupsPerEni()),
			RulesPerSecurityGroup: int(q.GetRulesPerSecurityGroup()),
			LoadBalancers:         int(q.GetLoadBalancers()),
			TargetGroups:          int(q.GetTargetGroups()),
			TargetsPerGroup:       int(q.GetTargetsPerGroup()),
			ListenersPerLB:        int(q.GetListenersPerLoadBalancer()),
			EndpointServices:      int(q.GetEndpointServices()),
			RoutesPerTable:        int(q.GetRoutesPerTable()),
			TagsPerResource:       int(q.GetTagsPerResource()),
		},
	}
}

func encodeAccount(r *resource.Account) *apiv1.Account {
	out := &apiv1.Account{Name: Name(r.Key), Metadata: encodeMeta(r), DisplayName: r.DisplayName, Zones: maps.Clone(r.Zones)}
	if q := &r.Quotas; *q != (resource.Quotas{}) {
		out.Quotas = &apiv1.Quotas{
			Vpcs:                     uint32(q.VPCs),
			SubnetsPerVpc:            uint32(q.SubnetsPerVPC),
			EndpointsPerVpc:          uint32(q.EndpointsPerVPC),
			SecurityGroupsPerVpc:     uint32(q.SecurityGroupsPerVPC),
			SecurityGroupsPerEni:     uint32(q.SecurityGroupsPerENI),
			RulesPerSecurityGroup:    uint32(q.RulesPerSecurityGroup),
			LoadBalancers:            uint32(q.LoadBalancers),
			TargetGroups:             uint32(q.TargetGroups),
			TargetsPerGroup:          uint32(q.TargetsPerGroup),
			ListenersPerLoadBalancer: uint32(q.ListenersPerLB),
			EndpointServices:         uint32(q.EndpointServices),
			RoutesPerTable:           uint32(q.RoutesPerTable),
			TagsPerResource:          uint32(q.TagsPerResource),
		}
	}
	return out
}

func (d *messageDecoder) decodeVPC(m *apiv1.VPC) *resource.VPC {
	out := &resource.VPC{Meta: d.meta(resource.KindVPC, m.GetName(), m.GetMetadata()), CIDRs: d.prefixes("cidrs", m.GetCidrs())}
	if d.outputs {
		out.DefaultSecurityGroup = d.ref("default_security_group", m.GetDefaultSecurityGroup(), resource.KindSecurityGroup, d.account)
	}
	return out
}

func encodeVPC(r *resource.VPC) *apiv1.VPC {
	return &apiv1.VPC{
		Name: Name(r.Key), Metadata: encodeMeta(r), Cidrs: texts(r.CIDRs),
		DefaultSecurityGroup: refName(r.DefaultSecurityGroup, resource.KindSecurityGroup, r.Account),
	}
}

func (d *messageDecoder) decodeSubnet(m *apiv1.Subnet) *resource.Subnet {
	out := &resource.Subnet{
		Meta: d.meta(resource.KindSubnet, m.GetName(), m.GetMetadata()),
		CIDR: d.prefix("cidr", m.GetCidr()),
		Zone: m.GetZone(),
	}
	out.VPC = d.ref("vpc", m.GetVpc(), resource.KindVPC, d.account)
	if d.outputs {
		out.ZoneID = m.GetZoneId()
	}
	return out
}

func encodeSubnet(r *resource.Subnet) *apiv1.Subnet {
	return &apiv1.Subnet{
		Name: Name(r.Key), Metadata: encodeMeta(r), Vpc: refName(r.VPC, resource.KindVPC, r.Account),
		Cidr: prefixText(r.CIDR), Zone: r.Zone, ZoneId: r.ZoneID,
	}
}

func (d *messageDecoder) securityGroup(m *apiv1.SecurityGroup) *resource.SecurityGroup {
	out := &resource.SecurityGroup{
		Meta:        d.meta(resource.KindSecurityGroup, m.GetName(), m.GetMetadata()),
		Description: m.GetDescription(),
		Members:     d.members("members", m.GetMembers()),
	}
	out.VPC = d.ref("vpc", m.GetVpc(), resource.KindVPC, d.account)
	for i, rule := range m.GetIngress() {
		here := fmt.Sprintf("ingress[%d]", i)
		out.Ingress = append(out.Ingress, resource.Rule{
			Protocol:    rule.GetProtocol(),
			FromPort:    d.portNumber(here+".from_port", rule.GetFromPort()),
			ToPort:      d.portNumber(here+".to_port", rule.GetToPort()),
			CIDRs:       d.prefixes(here+".cidrs", rule.GetCidrs()),
			Group:       d.ref(here+".group", rule.GetGroup(), resource.KindSecurityGroup, d.account),
			Description: rule.GetDescription(),
		})
	}
	if d.outputs {
		out.Default = m.GetDefault()
	}
	return out
}

func encodeSecurityGroup(r *resource.SecurityGroup) *apiv1.SecurityGroup {
	out := &apiv1.SecurityGroup{
		Name: Name(r.Key), Metadata: encodeMeta(r), Vpc: refName(r.VPC, resource.KindVPC, r.Account),
		Description: r.Description, Members: memberTexts(r.Members), Default: r.Default,
	}
	for i := range r.Ingress {
		rule := &r.Ingress[i]
		out.Ingress = append(out.Ingress, &apiv1.SecurityGroupRule{
			Protocol: rule.Protocol, FromPort: uint32(rule.FromPort), ToPort: uint32(rule.ToPort), Cidrs: texts(rule.CIDRs),
			Group: refName(rule.Group, resource.KindSecurityGroup, r.Account), Description: rule.Description,
		})
	}
	return out
}

func (d *messageDecoder) attachment(m *apiv1.Attachment) *resource.Attachment {
	out := &resource.Attachment{
		Meta:   d.meta(resource.KindAttachment, m.GetName(), m.GetMetadata()),
		Netns:  m.GetNetns(),
		Device: m.GetDevice(),
	}
	out.Subnet = d.ref("subnet", m.GetSubnet(), resource.KindSubnet, d.account)
	out.Endpoint = d.ref("endpoint", m.GetEndpoint(), resource.KindEndpoint, d.account)
	switch kind := m.GetKind().(type) {
	case *apiv1.Attachment_Bridge:
		if out.Bridge = kind.Bridge.GetName(); out.Bridge == "" {
			d.fail("bridge.name", "is missing; write the name of the bridge, or namespace: in the place of bridge:")
		}
		out.Gateway = d.address("bridge.gateway", kind.Bridge.GetGateway())
	case *apiv1.Attachment_Namespace:
		out.Addresses = d.prefixes("namespace.addresses", kind.Namespace.GetAddresses())
	}
	return out
}

func encodeAttachment(r *resource.Attachment) *apiv1.Attachment {
	out := &apiv1.Attachment{
		Name: Name(r.Key), Metadata: encodeMeta(r), Subnet: refName(r.Subnet, resource.KindSubnet, r.Account),
		Netns: r.Netns, Device: r.Device, Endpoint: refName(r.Endpoint, resource.KindEndpoint, r.Account),
	}
	if r.Bridge != "" {
		out.Kind = &apiv1.Attachment_Bridge{Bridge: &apiv1.BridgeAttachment{Name: r.Bridge, Gateway: addressText(r.Gateway)}}
	} else {
		out.Kind = &apiv1.Attachment_Namespace{Namespace: &apiv1.NamespaceAttachment{Addresses: texts(r.Addresses)}}
	}
	return out
}

func (d *messageDecoder) routeTable(m *apiv1.RouteTable) *resource.RouteTable {
	out := &resource.RouteTable{Meta: d.meta(resource.KindRouteTable, m.GetName(), m.GetMetadata()), Table: m.GetTable()}
	out.VPC = d.ref("vpc", m.GetVpc(), resource.KindVPC, d.account)
	for i, route := range m.GetRoutes() {
		here := fmt.Sprintf("routes[%d]", i)
		out.Routes = append(out.Routes, resource.Route{
			Destination: d.prefix(here+".destination", route.GetDestination()),
			Endpoint:    d.ref(here+".endpoint", route.GetEndpoint(), resource.KindEndpoint, d.account),
		})
	}
	return out
}

func encodeRouteTable(r *resource.RouteTable) *apiv1.RouteTable {
	out := &apiv1.RouteTable{
		Name: Name(r.Key), Metadata: encodeMeta(r), Vpc: refName(r.VPC, resource.KindVPC, r.Account), Table: r.Table,
	}
	for _, route := range r.Routes {
		out.Routes = append(out.Routes, &apiv1.Route{
			Destination: prefixText(route.Destination), Endpoint: refName(route.Endpoint, resource.KindEndpoint, r.Account),
		})
	}
	return out
}
