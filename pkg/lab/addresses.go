// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
)

// firstFree is the lowest host number that is given out: those below are kept for the network, the router, a resolver
// and the future, as in AWS.
const firstFree = 4

// holder is something that has an address in a subnet.
type holder struct {
	what    string
	vpc     *VPC
	subnet  *Subnet
	address *netip.Addr
}

// holders lists all that have addresses, in the order in which they choose.
func (c *completer) holders() []holder {
	var list []holder
	for i := range c.t.VPCs {
		v := &c.t.VPCs[i]
		for _, s := range v.places() {
			list = append(list, holder{"the gateway of subnet " + s.Name, v, s, &s.Gateway})
		}
		for j := range v.Instances {
			in := &v.Instances[j]
			list = append(list, holder{"instance " + in.Name, v, v.Subnet(in.Subnet), &in.Address})
		}
	}
	add := func(what string, vpc string, enis []ENI) {
		v := c.vpcs[vpc]
		for i := range enis {
			list = append(list, holder{what + " in subnet " + enis[i].Subnet, v, v.Subnet(enis[i].Subnet), &enis[i].Address})
		}
	}
	for _, lb := range c.t.LoadBalancers {
		add("load balancer "+lb.Name, lb.VPC, lb.Nodes)
	}
	for _, e := range c.t.Endpoints {
		add("endpoint "+e.Name, e.VPC, e.ENIs)
	}
	return list
}

// assign checks the addresses that were written and chooses the others. All references must be sound.
func (c *completer) assign() {
	type place struct {
		vpc     *VPC
		address netip.Addr
	}
	taken := map[place]string{}
	holders := c.holders()
	for _, h := range holders {
		a := *h.address
		if !a.IsValid() {
			continue
		}
		if !h.subnet.CIDR.Contains(a) || a == h.subnet.CIDR.Addr() || !h.subnet.CIDR.Contains(a.Next()) {
			c.fail("%s: address %s is not a host's in %s; choose another", h.what, a, h.subnet.CIDR)
		}
		if other, ok := taken[place{h.vpc, a}]; ok {
			c.fail("%s: address %s is taken by %s; choose another", h.what, a, other)
		}
		taken[place{h.vpc, a}] = h.what
	}
	for _, h := range holders {
		if h.address.IsValid() {
			continue
		}
		a := h.subnet.CIDR.Addr()
		for range firstFree {
			a = a.Next()
		}
		for taken[place{h.vpc, a}] != "" {
			a = a.Next()
		}
		if !h.subnet.CIDR.Contains(a.Next()) {
			c.fail("%s: no address is free in %s; make the subnet larger", h.what, h.subnet.CIDR)
			continue
		}
		*h.address = a
		taken[place{h.vpc, a}] = h.what
	}
}
