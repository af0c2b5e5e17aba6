// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Numbers of the routing tables and rules of a router: the first of its route tables, the next of the next one, and so
// on. They are above those that the kernel names.
const (
	firstTable   = 1000
	rulePriority = 1000
)

// withoutPort is the metric of the route that stands in for one through a GWLB endpoint while the daemon has none: what
// should be inspected then vanishes, as if the endpoint were down, and takes no other way. Those of the daemon's have none,
// which is 1024 in IPv6.
const withoutPort = 2000

// routeTables checks the route tables.
func (c *completer) routeTables() {
	type place struct{ vpc, from string }
	names, taken := map[string]bool{}, map[place]string{}
	for i := range c.t.RouteTables {
		r := &c.t.RouteTables[i]
		c.name("route table", r.Name)
		if names[r.Name] {
			c.fail("route table %s: there are two of the name; choose another", r.Name)
		}
		names[r.Name] = true
		v := c.vpcs[r.VPC]
		if v == nil {
			c.fail("route table %s: there is no vpc %q; name one of vpcs", r.Name, r.VPC)
			continue
		}
		if r.Edge != "" && (r.Edge != Internet || v.Internet == nil) {
			c.fail("route table %s: %q is no edge of vpc %s; write internet, and give the vpc one", r.Name, r.Edge, v.Name)
		}
		if len(r.sources()) == 0 {
			c.fail("route table %s: nothing follows it; write subnets, or edge: internet", r.Name)
		}
		for _, from := range r.sources() {
			if v.Subnet(from) == nil {
				c.fail("route table %s: vpc %s has no subnet %q; name one of its subnets", r.Name, v.Name, from)
			}
			if other, ok := taken[place{v.Name, from}]; ok {
				c.fail("route table %s: %s follows %s already; a subnet has one route table", r.Name, from, other)
			}
			taken[place{v.Name, from}] = r.Name
		}
		c.routes(r, v)
	}
}

// sources are the names of the subnets, the internet among them, from where packets follow the table.
func (r *RouteTable) sources() []string {
	if r.Edge == "" {
		return r.Subnets
	}
	return append(append([]string{}, r.Subnets...), r.Edge)
}

// routes checks the entries of a route table.
func (c *completer) routes(r *RouteTable, v *VPC) {
	seen := map[netip.Prefix]bool{}
	for _, route := range r.Routes {
		d := route.Destination
		if !d.IsValid() || d != d.Masked() || !v.prefix(d.Addr().Is6()).IsValid() {
			c.fail("route table %s: destination %s is not a prefix of a family that vpc %s has, with no bits behind its length; write one such as 0.0.0.0/0",
				r.Name, d, v.Name)
		}
		if seen[d] {
			c.fail("route table %s: there are two routes to %s; leave one out", r.Name, d)
		}
		seen[d] = true
		in, isInstance := c.instances[route.Via]
		e, isEndpoint := c.endpoints[route.Via]
		switch {
		case route.Via == Local && !inside(d, v.prefix(d.Addr().Is6())):
			c.fail("route table %s: %s is not a part of vpc %s; only what is can be local", r.Name, d, v.Name)
		case route.Via == Local, route.Via == Internet && v.Internet != nil:
		case isInstance && in.vpc == v && d.Addr().Is6() && in.subnet != nil && in.subnet.IPv6CIDR == nil:
			c.fail("route table %s: instance %s has no IPv6 address; give its subnet an ipv6_cidr, or choose another next hop", r.Name, in.Name)
		case isInstance && in.vpc == v:
		case isEndpoint && e.VPC == v.Name && e.gateway():
		default:
			c.fail("route table %s: %q is no next hop in vpc %s; name an endpoint of type GatewayLoadBalancer or an instance there, or write %s or %s",
				r.Name, route.Via, v.Name, Internet, Local)
		}
	}
}

// inside says whether a prefix is a part of another, or all of it.
func inside(part, whole netip.Prefix) bool {
	return whole.Contains(part.Addr()) && whole.Bits() <= part.Bits()
}

// entries are the routes of a table for a family, and the one that every table has.
func (r *RouteTable) entries(v *VPC, v6 bool) []Route {
	list := []Route{{v.prefix(v6), Local}}
	for _, route := range r.Routes {
		switch {
		case route.Destination == list[0].Destination:
			list[0] = route
		case route.Destination.Addr().Is6() == v6:
			list = append(list, route)
		}
	}
	return list
}

// resolve says which kernel routes make the table true, in a namespace where each subnet is a link of its own.
func (t *Topology) resolve(r *RouteTable, v *VPC) (list []netns.Route) {
	for _, v6 := range v.families() {
		list = append(list, t.resolveFamily(r, v, v6)...)
	}
	return list
}

// resolveFamily is resolve for one family. A local route that contains subnets becomes a route to each of them; the rest of
// it leads nowhere, and so does what the table says nothing of.
func (t *Topology) resolveFamily(r *RouteTable, v *VPC, v6 bool) (list []netns.Route) {
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if v6 {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	entries := r.entries(v, v6)
	out := map[netip.Prefix]netns.Route{everything: {Destination: everything}}
	for _, s := range v.Subnets {
		if p := s.prefix(v6); p.IsValid() && longest(entries, p).Via == Local {
			out[p] = netns.Route{Destination: p, Link: device("br-", s.Name)}
		}
	}
	for _, entry := range entries {
		d := entry.Destination
		if _, done := out[d]; !done || entry.Via != Local {
			out[d] = t.hop(v, entry)
		}
	}
	for _, route := range out {
		list = append(list, route)
	}
	return list
}

// longest is the entry that counts for a prefix as a whole; shorter ones do not, longer ones concern parts of it.
func longest(entries []Route, p netip.Prefix) (best Route) {
	for _, e := range entries {
		if inside(p, e.Destination) &&
			(best.Via == "" || e.Destination.Bits() > best.Destination.Bits()) {
			best = e
		}
	}
	return best
}

// hop is the kernel's route for one entry.
func (t *Topology) hop(v *VPC, entry Route) netns.Route {
	route := netns.Route{Destination: entry.Destination}
	switch entry.Via {
	case Internet:
		route.Link = device("br-", Internet)
	case Local:
		for _, s := range v.Subnets {
			if p := s.prefix(route.Destination.Addr().Is6()); p.IsValid() && inside(route.Destination, p) {
				route.Link = device("br-", s.Name)
			}
		}
	default:
		if in := v.instance(entry.Via); in != nil {
			route.Link, route.Gateway = device("br-", in.Subnet), in.Address
			if route.Destination.Addr().Is6() {
				route.Gateway = v.Subnet(in.Subnet).IPv6(in.Address)
			}
		} else {
			route.Link = tunDevice(entry.Via)
		}
	}
	return route
}

func (v *VPC) instance(name string) *Instance {
	for i := range v.Instances {
		if v.Instances[i].Name == name {
			return &v.Instances[i]
		}
	}
	return nil
}

// tables are the route tables of a VPC by the numbers that they have in its router.
func (t *Topology) tables(v *VPC) iter.Seq2[int, *RouteTable] {
	return func(yield func(int, *RouteTable) bool) {
		table := firstTable
		for i := range t.RouteTables {
			if r := &t.RouteTables[i]; r.VPC == v.Name {
				if !yield(table, r) {
					return
				}
				table++
			}
		}
	}
}

// setTables makes the routing tables of a router, and the rules that tell by where a packet enters which one it follows.
// A route through the device of a GWLB endpoint leads nowhere; the daemon, whenever it opens the device, adds one that
// counts before that.
func (t *Topology) setTables(router *netns.NS, v *VPC) error {
	for table, r := range t.tables(v) {
		for _, route := range t.resolve(r, v) {
			route.Table = table
			if t.isTUN(v, route.Link) {
				route.Link, route.Metric = "", withoutPort
			}
			if err := netns.SetRoute(router, route); err != nil {
				return fmt.Errorf("route table %s: %w", r.Name, err)
			}
		}
		if err := addRules(router, v, t.entrances(r), table); err != nil {
			return fmt.Errorf("route table %s: %w", r.Name, err)
		}
	}
	return nil
}

// addRules has packets that arrive on links follow a table. A rule that is there already stays.
func addRules(router *netns.NS, v *VPC, links []string, table int) error {
	for _, link := range links {
		for _, v6 := range v.families() {
			err := netns.AddRule(router, netns.Rule{InInterface: link, Table: table, Priority: rulePriority, IPv6: v6})
			if err != nil && !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
	}
	return nil
}

// endpointRoutes are the routes to GWLB endpoints of a VPC, which are the daemon's to make.
func (t *Topology) endpointRoutes(v *VPC) (list []resource.Resource) {
	for table, r := range t.tables(v) {
		out := &resource.RouteTable{Meta: t.meta(v, resource.KindRouteTable, r.Name), VPC: v.Name, Table: uint32(table)}
		for _, route := range r.Routes {
			if t.isTUN(v, tunDevice(route.Via)) {
				out.Routes = append(out.Routes, resource.Route{Destination: route.Destination, Endpoint: route.Via})
			}
		}
		if len(out.Routes) > 0 {
			list = append(list, out)
		}
	}
	return list
}

// entrances are the links whose packets follow a table: the bridges of its subnets and the GWLB endpoints in them.
func (t *Topology) entrances(r *RouteTable) []string {
	var list []string
	for _, from := range r.sources() {
		list = append(list, device("br-", from))
		for _, e := range t.Endpoints {
			if e.gateway() && e.VPC == r.VPC && e.ENIs[0].Subnet == from {
				list = append(list, tunDevice(e.Name))
			}
		}
	}
	return list
}

// isTUN says whether a link of a router is the device of a GWLB endpoint.
func (t *Topology) isTUN(v *VPC, link string) bool {
	for _, e := range t.Endpoints {
		if e.gateway() && e.VPC == v.Name && tunDevice(e.Name) == link {
			return true
		}
	}
	return false
}
