// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func (*RouteTable) kind() Kind { return KindRouteTable }

// Numbers of the kernel's tables that routes do not go into by number: default, main and local.
const (
	mainTable    = 254 // 0 stands for it
	firstBuiltin = 253
	lastBuiltin  = 255
)

func (r *RouteTable) prepare(t *Tx, old Resource, c *complaints) {
	resolve[*VPC](t, c, KindVPC, "vpc", &r.VPC)
	had := map[string]bool{}
	if old != nil {
		o := old.(*RouteTable)
		c.fixed("vpc", r.VPC == o.VPC)
		for _, route := range o.Routes {
			had[route.Endpoint] = true
		}
	}
	t.quota(c, "RouteLimitExceeded", "routes", "routes_per_table", "route table "+r.ID, len(r.Routes))
	for i := range r.Routes {
		route, field := &r.Routes[i], at("routes", i)+".endpoint"
		e, ok := resolve[*Endpoint](t, c, KindEndpoint, field, &route.Endpoint)
		if ok && e.State == Deleting && !had[e.ID] {
			c.add(FailedPrecondition, "ENDPOINT_DELETING", "IncorrectState", field, "endpoint %s is being deleted; name another one", e.ID)
		}
	}
}

func (r *RouteTable) form(c *complaints) {
	switch {
	case r.Table == mainTable:
		c.wrong("table", "%d is the main table; write 0", r.Table)
	case r.Table >= firstBuiltin && r.Table <= lastBuiltin:
		c.wrong("table", "%d is the kernel's own table; write another number, or 0 for the main one", r.Table)
	}
	seen := map[netip.Prefix]bool{}
	for i := range r.Routes {
		d, here := r.Routes[i].Destination, at("routes", i)+".destination"
		if c.network(here, d) && seen[d] {
			c.add(AlreadyExists, "ROUTE_EXISTS", "RouteAlreadyExists", here, "%s is there twice; leave one out", d)
		}
		seen[d] = true
	}
}

func (r *RouteTable) check(m *model, c *complaints) {
	if _, ok := lookup[*VPC](m, KindVPC, r.Account, r.VPC); !ok {
		c.absent(KindVPC, "vpc", r.VPC)
	}
	for i := range r.Routes {
		route, here := &r.Routes[i], at("routes", i)
		e, ok := lookup[*Endpoint](m, KindEndpoint, r.Account, route.Endpoint)
		switch {
		case !ok:
			c.absent(KindEndpoint, here+".endpoint", route.Endpoint)
		case e.Type != vpc.GatewayLoadBalancer:
			c.conflict("ENDPOINT_TYPE", here+".endpoint", "endpoint %s is of type %s; routes lead to GatewayLoadBalancer endpoints", e.ID, e.Type)
		case e.VPC != r.VPC:
			c.conflict("ENDPOINT_OF_OTHER_VPC", here+".endpoint", "endpoint %s is in VPC %s, the route table in %s; name one of that", e.ID, e.VPC, r.VPC)
		}
	}
	if len(c.errs) == 0 {
		m.checkRoutes(c, "routes", r)
	}
}

// kernelRoute is a route where the kernel has only one: in a table of a namespace.
type kernelRoute struct {
	netns       string
	table       uint32
	destination netip.Prefix
}

// checkRoutes checks that no two routes of a VPC become the same one of a kernel, as far as a changed resource has a part
// in it: a route table, or the attachment of an endpoint.
func (m *model) checkRoutes(c *complaints, field string, changed Resource) {
	vpcID := ""
	switch r := changed.(type) {
	case *RouteTable:
		vpcID = r.VPC
	case *Attachment:
		if e, ok := lookup[*Endpoint](m, KindEndpoint, r.Account, r.Endpoint); ok && r.Bridge == "" {
			vpcID = e.VPC
		}
	}
	if vpcID == "" {
		return
	}
	seen := map[kernelRoute]string{}
	for u := range m.users(Key{KindVPC, c.key.Account, vpcID}, KindRouteTable) {
		table := u.(*RouteTable)
		for _, route := range table.Routes {
			d := m.nextHop(table.Account, route.Endpoint)
			if d == nil {
				continue
			}
			k := kernelRoute{d.Netns, table.Table, route.Destination}
			if other, taken := seen[k]; taken {
				c.add(AlreadyExists, "ROUTE_EXISTS", "RouteAlreadyExists", field, "%s of table %d in %s leads to endpoint %s and endpoint %s; leave one out",
					route.Destination, table.Table, d.Netns, other, route.Endpoint)
				return
			}
			seen[k] = route.Endpoint
		}
	}
}

// nextHop is the device in a namespace that routes to a GWLB endpoint go through; nil if it has none.
func (m *model) nextHop(account, endpoint string) *Attachment {
	for u := range m.users(Key{KindEndpoint, account, endpoint}, KindAttachment) {
		if a := u.(*Attachment); a.Bridge == "" {
			return a
		}
	}
	return nil
}

func (*RouteTable) release(*Tx, *complaints) {}
