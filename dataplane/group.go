// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// fewSources is how many prefixes are looked through one by one; more are kept in a table. A prefix costs about 4 ns, the
// table 9 ns with a handful of IPv4 prefixes and 13 ns with a thousand (10 and 16 ns with IPv6), so that it is the faster one
// from three prefixes on. It is only asked for packets of no connection.
const fewSources = 2

// group is a security group as it is asked: who may connect to which ports. It is immutable. Tables belong to groups, not
// to endpoints, since a thousand endpoints may name the same few groups: a changed group is one table to build, and one
// that did not change is the table of the previous view. An endpoint asks its groups in turn.
type group struct {
	rules []vpc.SecurityRule // what it was made of; the state's, to which nobody writes
	open  []openPorts
}

// openPorts are ports, both ends included, and who may connect to them.
type openPorts struct {
	from, to uint16
	few      []netip.Prefix
	many     *bart.Lite // instead of few, or nil
}

// newGroup compiles the rules of a group. Rules of the same ports become one.
func newGroup(rules []vpc.SecurityRule) *group {
	g := &group{rules: rules}
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b vpc.SecurityRule) int {
		return cmp.Or(cmp.Compare(a.FromPort, b.FromPort), cmp.Compare(a.ToPort, b.ToPort))
	})
	for i := 0; i < len(sorted); {
		first := &sorted[i]
		var sources []netip.Prefix
		for ; i < len(sorted) && sorted[i].FromPort == first.FromPort && sorted[i].ToPort == first.ToPort; i++ {
			sources = append(sources, sorted[i].Sources...)
		}
		if len(sources) > 0 {
			g.open = append(g.open, newOpenPorts(first.FromPort, first.ToPort, sources))
		}
	}
	return g
}

func newOpenPorts(from, to uint16, sources []netip.Prefix) openPorts {
	slices.SortFunc(sources, netip.Prefix.Compare)
	o := openPorts{from: from, to: to, few: slices.Compact(sources)}
	if len(o.few) <= fewSources {
		return o
	}
	o.many = &bart.Lite{}
	for _, p := range o.few {
		o.many.Insert(p)
	}
	o.few = nil
	return o
}

// same says whether the group is what newGroup would make of these rules.
func (g *group) same(rules []vpc.SecurityRule) bool {
	return slices.EqualFunc(g.rules, rules, func(a, b vpc.SecurityRule) bool {
		return a.FromPort == b.FromPort && a.ToPort == b.ToPort && slices.Equal(a.Sources, b.Sources)
	})
}

// letsIn says whether a client may connect to a port. IPv4 addresses are as such, not mapped.
func (g *group) letsIn(client netip.Addr, port uint16) bool {
	for i := range g.open {
		if o := &g.open[i]; o.from <= port && port <= o.to && o.has(client) {
			return true
		}
	}
	return false
}

func (o *openPorts) has(client netip.Addr) bool {
	if o.many != nil {
		return o.many.Contains(client)
	}
	for _, p := range o.few {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

// letsIn says whether the endpoint lets a client, in the form of keys, connect to a port: everybody where it is not
// filtered, else whom one of its groups lets in.
func (n *viewENI) letsIn(client [16]byte, port uint16) bool {
	if !n.filtered {
		return true
	}
	a := netip.AddrFrom16(client).Unmap()
	for _, g := range n.groups {
		if g.letsIn(a, port) {
			return true
		}
	}
	return false
}

// compileGroups makes the groups of the state, or takes them from the previous view.
func (c *compiler) compileGroups() error {
	list := c.in.state.SecurityGroups
	c.v.groups = make(map[string]*group, len(list))
	for i := range list {
		s := &list[i]
		g := c.in.prev.groups[s.ID]
		if g == nil || !g.same(s.Ingress) {
			g = newGroup(s.Ingress)
		}
		c.v.groups[s.ID] = g
	}
	return nil
}

// groupsOf are the groups that an endpoint names.
func (c *compiler) groupsOf(ep *vpc.Endpoint) (out []*group) {
	for _, id := range ep.SecurityGroups {
		if g := c.v.groups[id]; g != nil { // an unknown one has not passed Validate, and lets nobody in
			out = append(out, g)
		}
	}
	return out
}
