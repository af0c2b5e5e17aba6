// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"net/netip"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// The two parties, and the port on which services listen.
const (
	Provider = "444455556666"
	Consumer = "111122223333"
	Port     = 80

	zone = "use1-az1"
)

// Addresses in the namespaces. Both parties have the same address plan. Client and Host are those of the namespaces' own;
// Silent is one that packets can come from and that no kernel answers for; Nodes and endpoints get theirs from the subnet.
var (
	Client  = netip.MustParsePrefix("10.0.255.1/16")
	Silent  = netip.MustParseAddr("10.0.255.2")
	cidr    = netip.MustParsePrefix("10.0.0.0/8")
	subnet  = netip.MustParsePrefix("10.0.0.0/16")
	targets = netip.MustParseAddr("10.1.0.0")
	own     = netip.MustParseAddr("10.2.0.0")
)

// Devices in the namespaces of the two.
const (
	ConsumerDevice = "consumer"
	ProviderDevice = "provider"
)

// Fleet says how much there is. Every service has a load balancer and a target group of its own, in the provider's one
// subnet, and the same share of the targets and of the endpoints, which are in the consumer's one subnet but for some.
type Fleet struct {
	Services, Endpoints, Targets int
	// Alone is how many of the endpoints, the last of them, have a subnet and a device of their own.
	Alone int
	// Waiting is how many of the services, the last of them, want to be asked before an endpoint becomes available.
	Waiting int
	// Checked has targets checked as they are by default; otherwise they are not.
	Checked bool
	// ProviderNetns and ConsumerNetns are paths of namespaces. With an empty one there is no device.
	ProviderNetns, ConsumerNetns string
}

// Names of the n-th of each, for requests of their owners.
func ServiceID(n int) string  { return fmt.Sprintf("service-%04d", n) }
func EndpointID(n int) string { return fmt.Sprintf("endpoint-%04d", n) }
func GroupID(n int) string    { return fmt.Sprintf("group-%04d", n) }

// ServiceOf is the number of the service that an endpoint is of.
func (f *Fleet) ServiceOf(endpoint int) int { return endpoint % f.Services }

// Target is the n-th target. Those of a fleet have the numbers from 0 up to Targets; more may be added, up to 65,536.
func Target(n int) *apiv1.Target {
	return &apiv1.Target{Address: offset(targets, n).String(), Port: 8080, ZoneId: zone}
}

// Manifest is a manifest that operators apply.
func (f *Fleet) Manifest() *apiv1.Manifest {
	m := &apiv1.Manifest{Name: "fleet"}
	f.provider(m)
	f.consumer(m)
	return m
}

// party adds an account whose quotas have room, a VPC, a subnet and what everybody may enter by.
func party(m *apiv1.Manifest, account, netns, device string) {
	const room = 20_000
	m.Accounts = append(m.Accounts, &apiv1.Account{Name: "accounts/" + account, Quotas: &apiv1.Quotas{
		EndpointsPerVpc: room, SubnetsPerVpc: room, LoadBalancers: room, TargetGroups: room, TargetsPerGroup: room, EndpointServices: room,
	}})
	m.Vpcs = append(m.Vpcs, &apiv1.VPC{Name: name(account, "vpcs", "vpc"), Cidrs: []string{cidr.String()}})
	m.Subnets = append(m.Subnets, &apiv1.Subnet{Name: name(account, "subnets", "all"), Vpc: "vpc", Cidr: subnet.String(), Zone: zone})
	if netns != "" {
		m.Attachments = append(m.Attachments, attachment(account, "all", netns, device, Client.String()))
	}
}

func attachment(account, subnet, netns, device string, addresses ...string) *apiv1.Attachment {
	return &apiv1.Attachment{
		Name: name(account, "attachments", subnet), Subnet: subnet, Netns: netns, Device: device,
		Kind: &apiv1.Attachment_Namespace{Namespace: &apiv1.NamespaceAttachment{Addresses: addresses}},
	}
}

func (f *Fleet) provider(m *apiv1.Manifest) {
	party(m, Provider, f.ProviderNetns, ProviderDevice)
	each := max(f.Targets/f.Services, 1)
	for n := range f.Services {
		id := ServiceID(n)
		group := &apiv1.TargetGroup{Name: name(Provider, "targetGroups", GroupID(n)), Vpc: "vpc"}
		if !f.Checked {
			group.HealthCheck = &statev1.HealthCheck{Protocol: statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_NONE}
		}
		for i := range each {
			group.Targets = append(group.Targets, Target(n*each+i))
		}
		m.TargetGroups = append(m.TargetGroups, group)
		m.LoadBalancers = append(m.LoadBalancers, &apiv1.LoadBalancer{
			Name: name(Provider, "loadBalancers", id), Vpc: "vpc", Nodes: []*apiv1.SubnetAddress{{Subnet: "all"}},
			Listeners: []*apiv1.Listener{{Port: Port, TargetGroup: GroupID(n)}},
		})
		waits := n >= f.Services-f.Waiting
		m.EndpointServices = append(m.EndpointServices, &apiv1.EndpointService{
			Name: name(Provider, "endpointServices", id), LoadBalancers: []string{id}, AcceptanceRequired: &waits,
			AllowedPrincipals: []string{"*"},
		})
	}
}

func (f *Fleet) consumer(m *apiv1.Manifest) {
	party(m, Consumer, f.ConsumerNetns, ConsumerDevice)
	m.SecurityGroups = append(m.SecurityGroups, &apiv1.SecurityGroup{
		Name: name(Consumer, "securityGroups", "open"), Vpc: "vpc",
		Ingress: []*apiv1.SecurityGroupRule{{Protocol: "-1", Cidrs: []string{"0.0.0.0/0"}}},
	})
	for n := range f.Endpoints {
		e := NewEndpoint()
		e.Name = name(Consumer, "endpoints", EndpointID(n))
		e.ServiceName = name(Provider, "endpointServices", ServiceID(f.ServiceOf(n)))
		if alone := n - (f.Endpoints - f.Alone); alone >= 0 {
			id := fmt.Sprintf("alone-%04d", alone)
			network := netip.PrefixFrom(offset(own, 16*alone), 28)
			m.Subnets = append(m.Subnets, &apiv1.Subnet{Name: name(Consumer, "subnets", id), Vpc: "vpc", Cidr: network.String(), Zone: zone})
			e.Enis = []*apiv1.SubnetAddress{{Subnet: id}}
			if f.ConsumerNetns != "" {
				m.Attachments = append(m.Attachments, attachment(Consumer, id, f.ConsumerNetns, id))
			}
		}
		m.Endpoints = append(m.Endpoints, e)
	}
}

// NewEndpoint is an endpoint in the consumer's one subnet, without its name and that of its service.
func NewEndpoint() *apiv1.Endpoint {
	return &apiv1.Endpoint{Vpc: "vpc", Enis: []*apiv1.SubnetAddress{{Subnet: "all"}}, SecurityGroups: []string{"open"}}
}

func name(account, collection, id string) string {
	return "accounts/" + account + "/" + collection + "/" + id
}

// offset is the n-th address after a.
func offset(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], b[2] + byte(n>>8), b[3] + byte(n)})
}
