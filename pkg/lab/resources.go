// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// region is that of the names of services: the one of a daemon whose configuration names none.
const region = "local-1"

// Resources are what the topology says, as accounts own it, for the lab that is built in dir. They are complete, with uids
// and addresses, every endpoint accepted, in an order in which they can be restored. Whoever has a daemon make them gets
// other uids, and names of services that end with these.
//
// A subnet with ENIs has an attachment on its bridge, a GWLB endpoint one in the namespace of its VPC's router. Interface
// endpoints are in a security group that lets everybody in. Only routes to GWLB endpoints are in route tables: their
// numbers are those of the kernel's tables in the router, where the lab itself has put all other routes.
//
// The topology is completed first. The resources are the caller's.
func (t *Topology) Resources(dir string) ([]resource.Resource, error) {
	if err := t.Complete(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	return t.resources(dir), nil
}

// resources is Resources for a topology that is complete.
func (t *Topology) resources(dir string) []resource.Resource {
	var list []resource.Resource
	for account, vpcs := range t.owners() {
		a := &resource.Account{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindAccount, Account: account, ID: account}, UID: account}}
		a.DisplayName = "lab " + t.Name
		if vpcs > resource.AWSQuotas.VPCs {
			a.Quotas.VPCs = vpcs
		}
		list = append(list, a)
	}
	for i := range t.VPCs {
		list = append(list, t.network(dir, &t.VPCs[i])...)
	}
	for i := range t.TargetGroups {
		list = append(list, t.targetGroup(&t.TargetGroups[i]))
	}
	for i := range t.LoadBalancers {
		list = append(list, t.loadBalancer(&t.LoadBalancers[i]))
	}
	for i := range t.Services {
		list = append(list, t.service(&t.Services[i]))
	}
	for i := range t.Endpoints {
		list = append(list, t.endpoint(&t.Endpoints[i]))
	}
	slices.SortStableFunc(list, func(a, b resource.Resource) int { return int(a.Metadata().Kind) - int(b.Metadata().Kind) })
	return list
}

// owners counts the VPCs of each account.
func (t *Topology) owners() map[string]int {
	count := map[string]int{}
	for _, v := range t.VPCs {
		count[v.Account]++
	}
	return count
}

// network is a VPC with what is in it for the dataplane's sake: subnets, attachments, a security group and route tables.
func (t *Topology) network(dir string, v *VPC) []resource.Resource {
	meta := t.meta(v, resource.KindVPC, v.Name)
	meta.UID = v.ID
	list := []resource.Resource{&resource.VPC{Meta: meta, CIDRs: []netip.Prefix{v.CIDR}}}
	for _, s := range v.Subnets {
		id := subnetID(v, s.Name)
		list = append(list, &resource.Subnet{
			Meta: t.meta(v, resource.KindSubnet, id), VPC: v.Name, CIDR: s.CIDR, Zone: s.Zone, ZoneID: s.Zone,
		})
		if t.hasENI(v.Name, s.Name) {
			list = append(list, &resource.Attachment{
				Meta: t.meta(v, resource.KindAttachment, id), Subnet: id, Netns: Netns(dir, v.Name),
				Device: device("tap-", s.Name), Bridge: device("br-", s.Name), Gateway: s.Gateway,
			})
		}
	}
	if t.hasInterfaces(v.Name) {
		list = append(list, &resource.SecurityGroup{
			Meta: t.meta(v, resource.KindSecurityGroup, v.Name), VPC: v.Name, Description: "lets everybody in",
			Ingress: []resource.Rule{{Protocol: "-1", CIDRs: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}},
		})
	}
	for _, e := range t.Endpoints {
		if e.gateway() && e.VPC == v.Name {
			list = append(list, &resource.Attachment{
				Meta: t.meta(v, resource.KindAttachment, nextHopID(e.Name)), Subnet: subnetID(v, e.ENIs[0].Subnet),
				Netns: Netns(dir, v.Name), Device: tunDevice(e.Name), Endpoint: e.Name,
			})
		}
	}
	return append(list, t.endpointRoutes(v)...)
}

// hasENI says whether the dataplane answers to an address in a subnet, and so needs an attachment there.
func (t *Topology) hasENI(vpc, subnet string) bool {
	in := func(e ENI) bool { return e.Subnet == subnet }
	return slices.ContainsFunc(t.LoadBalancers, func(lb LoadBalancer) bool { return lb.VPC == vpc && slices.ContainsFunc(lb.Nodes, in) }) ||
		slices.ContainsFunc(t.Endpoints, func(e Endpoint) bool { return e.VPC == vpc && !e.gateway() && slices.ContainsFunc(e.ENIs, in) })
}

func (t *Topology) hasInterfaces(vpc string) bool {
	return slices.ContainsFunc(t.Endpoints, func(e Endpoint) bool { return e.VPC == vpc && !e.gateway() })
}

// enis are ENIs of a VPC as resources have them.
func (v *VPC) enis(list []ENI) []resource.SubnetAddress {
	var out []resource.SubnetAddress
	for _, e := range list {
		out = append(out, resource.SubnetAddress{Subnet: subnetID(v, e.Subnet), Address: e.Address})
	}
	return out
}

// service is an endpoint service, with what follows from its load balancers.
func (t *Topology) service(s *Service) *resource.EndpointService {
	zones, allowed := map[string]bool{}, map[string]bool{}
	v := t.serviceVPC(s)
	out := &resource.EndpointService{Meta: t.meta(v, resource.KindEndpointService, s.Name), LoadBalancers: s.LoadBalancers, AutoAccept: !s.AcceptanceRequired}
	out.UID = s.ID
	out.Name = serviceName(s)
	for _, lb := range t.LoadBalancers {
		if !slices.Contains(s.LoadBalancers, lb.Name) {
			continue
		}
		if lb.Type == vpc.Gateway.String() {
			out.Type = vpc.GatewayLoadBalancer
		}
		for _, n := range lb.Nodes {
			zones[t.vpc(lb.VPC).Subnet(n.Subnet).Zone] = true
		}
	}
	for _, principal := range s.AllowedPrincipals {
		allowed[principal] = true
	}
	for _, e := range t.Endpoints {
		if account := t.vpc(e.VPC).Account; e.Service == s.Name && account != out.Account {
			allowed["arn:aws:iam::"+account+":root"] = true
		}
	}
	out.ZoneIDs, out.Principals = slices.Sorted(maps.Keys(zones)), slices.Sorted(maps.Keys(allowed))
	return out
}

// serviceVPC is the VPC of a service's first load balancer, whose account owns the service.
func (t *Topology) serviceVPC(s *Service) *VPC {
	for _, lb := range t.LoadBalancers {
		if lb.Name == s.LoadBalancers[0] {
			return t.vpc(lb.VPC)
		}
	}
	return nil
}

func serviceName(s *Service) string { return "com.amazonaws.vpce." + region + "." + s.ID }

// endpoint is an endpoint that has been accepted.
func (t *Topology) endpoint(e *Endpoint) *resource.Endpoint {
	v := t.vpc(e.VPC)
	out := &resource.Endpoint{
		Meta: t.meta(v, resource.KindEndpoint, e.Name), VPC: v.Name, ENIs: v.enis(e.ENIs), State: resource.Available, Generation: 1,
	}
	out.UID = e.ID
	if e.gateway() {
		out.Type = vpc.GatewayLoadBalancer
	} else {
		out.SecurityGroups = []string{v.Name}
	}
	for i := range t.Services {
		if s := &t.Services[i]; s.Name == e.Service {
			out.Service, out.ServiceUID = serviceName(s), s.ID
		}
	}
	return out
}

func (t *Topology) vpc(name string) *VPC {
	for i := range t.VPCs {
		if t.VPCs[i].Name == name {
			return &t.VPCs[i]
		}
	}
	return nil
}
