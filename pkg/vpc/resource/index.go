// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

// This file says by what resources of each kind are found.

// GENEVE names a GWLB endpoint by the last 16 digits of its UID.
const geneveDigits = 16

func (r *Account) index(*model, *entries) {}

func (r *VPC) index(*model, *entries) {}

func (r *Subnet) index(_ *model, x *entries) { x.refer(r.Key, KindVPC, r.VPC) }

func (r *SecurityGroup) index(_ *model, x *entries) {
	x.refer(r.Key, KindVPC, r.VPC)
	for i := range r.Ingress {
		if g := r.Ingress[i].Group; g != r.ID {
			x.refer(r.Key, KindSecurityGroup, g)
		}
	}
	for _, p := range r.Members {
		if p.IsSingleIP() {
			x.occupy(r.Key, roleMember, r.VPC, p.Addr())
		}
	}
}

func (r *TargetGroup) index(_ *model, x *entries) {
	x.refer(r.Key, KindVPC, r.Group.VPC)
	x.targets = len(r.Group.Targets) + len(r.Draining)
	x.tenancies = make([]tenancy, 0, x.targets)
	for i := range r.Group.Targets {
		x.occupy(r.Key, roleTarget, r.Group.VPC, r.Group.Targets[i].Address)
	}
	for i := range r.Draining {
		x.occupy(r.Key, roleTarget, r.Group.VPC, r.Draining[i].Address)
		x.deadlines = append(x.deadlines, deadline{r.drained(i), r.Key})
	}
}

func (r *LoadBalancer) index(_ *model, x *entries) {
	x.refer(r.Key, KindVPC, r.VPC)
	for _, n := range r.Nodes {
		x.refer(r.Key, KindSubnet, n.Subnet)
		x.occupy(r.Key, roleENI, r.VPC, n.Address)
	}
	for i := range r.Listeners {
		x.refer(r.Key, KindTargetGroup, r.Listeners[i].TargetGroup)
	}
	x.enis = len(r.Nodes)
}

func (r *EndpointService) index(_ *model, x *entries) {
	for _, id := range r.LoadBalancers {
		x.refer(r.Key, KindLoadBalancer, id)
	}
}

func (r *Endpoint) index(m *model, x *entries) {
	x.refer(r.Key, KindVPC, r.VPC)
	for _, e := range r.ENIs {
		x.refer(r.Key, KindSubnet, e.Subnet)
		x.occupy(r.Key, roleENI, r.VPC, e.Address)
	}
	for _, id := range r.SecurityGroups {
		x.refer(r.Key, KindSecurityGroup, id)
	}
	x.edges = append(x.edges, edge{to: serviceKey(r.ServiceUID), from: r.Key})
	if n := len(r.UID); n > geneveDigits {
		x.claims = append(x.claims, claim("geneve "+r.UID[n-geneveDigits:]))
	}
	if r.State == PendingAcceptance {
		x.deadlines = append(x.deadlines, deadline{r.StateSince.Add(m.cfg.AcceptanceTimeout), r.Key})
	}
	x.enis = len(r.ENIs)
}

func (r *Attachment) index(m *model, x *entries) {
	x.refer(r.Key, KindSubnet, r.Subnet)
	x.refer(r.Key, KindEndpoint, r.Endpoint)
	x.claims = append(x.claims, deviceClaim(r.Netns, r.Device))
	s, ok := lookup[*Subnet](m, KindSubnet, r.Account, r.Subnet)
	if !ok {
		return
	}
	x.occupy(r.Key, roleGateway, s.VPC, r.Gateway)
	for _, a := range r.Addresses {
		if a.IsValid() {
			x.occupy(r.Key, roleHost, s.VPC, a.Addr())
		}
	}
}

// deviceClaim claims the name of an interface in a namespace.
func deviceClaim(netns, device string) claim { return claim("device " + netns + "\x00" + device) }

func (r *RouteTable) index(_ *model, x *entries) {
	x.refer(r.Key, KindVPC, r.VPC)
	for i := range r.Routes {
		x.refer(r.Key, KindEndpoint, r.Routes[i].Endpoint)
	}
}
