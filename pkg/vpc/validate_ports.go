// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"
	"path"
	"strings"
)

// place is where a name of an interface has to be unique.
type place struct{ netns, device string }

// checkPorts checks devices and what is around them.
func (c *checker) checkPorts() {
	devices := map[place]string{}
	for i := range c.state.Ports {
		p := &c.state.Ports[i]
		at := nth("ports", i)
		id(c, c.ports, at, p.ID, anyID, "a name of letters, digits and ._:/-", p)
		if p.ID == ReservedPortID {
			c.fail(at+".id", "%q is the daemon's own port; choose another id", p.ID)
		}
		v := known(c, c.vpcs, at+".vpc_id", p.VPC, "vpcs")
		if p.Netns == "" {
			c.fail(at+".netns", "is missing; write the path of a network namespace, such as /run/netns/consumer")
		} else if !path.IsAbs(p.Netns) || path.Clean(p.Netns) != p.Netns {
			c.fail(at+".netns", "%q is not a plain absolute path; write one such as /run/netns/consumer", p.Netns)
		}
		c.device(at+".device", p.Device)
		if p.Device != "" {
			here := place{p.Netns, p.Device}
			if other, taken := devices[here]; taken {
				c.fail(at+".device", "%q is the device of port %q in the same namespace; choose another name", p.Device, other)
			}
			devices[here] = p.ID
		}
		switch p.Kind {
		case TUN:
			c.checkTUN(at, p)
		case TAP:
			c.checkTAP(at, p, v)
		default:
			c.fail(at, "has no kind; write tun: for a device in the namespace itself, tap: for one on a bridge")
		}
	}
}

// device checks the name of an interface by the kernel's rules (dev_valid_name).
func (c *checker) device(at, name string) {
	switch {
	case name == "":
		c.fail(at, "is missing; write a name of at most %d bytes", MaxDevice)
	case len(name) > MaxDevice:
		c.fail(at, "%q is longer than the %d bytes of an interface's name; shorten it", name, MaxDevice)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:%") || strings.ContainsFunc(name, unprintable):
		c.fail(at, "%q cannot name an interface; use letters, digits and -", name)
	}
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// checkTUN checks the fields of a TUN, and that those of a TAP are empty.
func (c *checker) checkTUN(at string, p *Port) {
	if p.Bridge != "" || p.Subnet.IsValid() || p.Gateway.IsValid() {
		c.fail(at+".tap", "a TUN device has no bridge, subnet or gateway; remove them, or make it a TAP")
	}
	for i, a := range p.Addresses {
		here := nth(at+".tun.addresses", i)
		if !a.IsValid() {
			c.fail(here, "is missing; write an address with its prefix length, such as 10.0.1.10/24")
		} else if c.address(here, a.Addr()) {
			c.hosts[vpcAddress{p.VPC, a.Addr()}] = here
		}
	}
	seen := map[netip.Prefix]bool{}
	for i, r := range p.Routes {
		here := nth(at+".tun.routes", i)
		check := c.network
		if c.nextHops[p.ID] {
			check = c.anyNetwork // GENEVE carries both families
		}
		if !check(here, r) {
			continue
		}
		if seen[r] {
			c.fail(here, "%s is there twice; leave one out", r)
		}
		seen[r] = true
	}
}

// checkTAP checks the fields of a TAP, and that those of a TUN are empty. v may be nil.
func (c *checker) checkTAP(at string, p *Port, v *VPC) {
	if len(p.Addresses) > 0 || len(p.Routes) > 0 {
		c.fail(at+".tun", "a TAP device has no addresses or routes of its namespace; remove them, or make it a TUN")
	}
	c.device(at+".tap.bridge", p.Bridge)
	if p.Bridge != "" && p.Bridge == p.Device {
		c.fail(at+".tap.bridge", "%q is the device itself; name the bridge that the device joins", p.Bridge)
	}
	if !c.network(at+".tap.subnet", p.Subnet) {
		return
	}
	if v != nil && !within(v, p.Subnet) {
		c.fail(at+".tap.subnet", "%s is in no prefix of %s; choose one inside, or add it to the VPC", p.Subnet, v.ID)
	}
	if !p.Gateway.IsValid() {
		return
	}
	if here := at + ".tap.gateway"; c.address(here, p.Gateway) {
		if !p.Subnet.Contains(p.Gateway) {
			c.fail(here, "%s is not in the subnet %s; a gateway is on link", p.Gateway, p.Subnet)
		} else if edge(p.Subnet, p.Gateway) {
			c.fail(here, "%s is the network's or the broadcast address of %s; write a host's", p.Gateway, p.Subnet)
		}
		c.gateways[vpcAddress{p.VPC, p.Gateway}] = here
	}
}

// within says whether one prefix of the VPC has all of subnet.
func within(v *VPC, subnet netip.Prefix) bool {
	for _, p := range v.CIDRs {
		if p.Bits() <= subnet.Bits() && p.Contains(subnet.Addr()) {
			return true
		}
	}
	return false
}

// edge says whether an address is the first or last of a subnet that has such addresses (RFC 3021: /31 has none).
func edge(subnet netip.Prefix, a netip.Addr) bool {
	if subnet.Bits() >= 31 {
		return false
	}
	return a == subnet.Masked().Addr() || !subnet.Contains(a.Next())
}

// eni checks one ENI of a VPC; v may be nil when the reference to it is broken.
func (c *checker) eni(at string, e *ENI, v *VPC) {
	c.zone(at+".zone_id", e.Zone)
	ok := c.address(at+".address", e.Address)
	if len(e.Ports) == 0 {
		c.fail(at+".port_ids", "is empty; an ENI is reached through at least one port of its VPC")
	}
	for i, name := range e.Ports {
		here := nth(at+".port_ids", i)
		c.tenants[name] = append(c.tenants[name], at)
		p := known(c, c.ports, here, name, "ports")
		if p == nil {
			continue
		}
		for _, earlier := range e.Ports[:i] {
			if earlier == name {
				c.fail(here, "%q is there twice; leave one out", name)
			}
		}
		if v != nil && p.VPC != v.ID {
			c.fail(here, "port %q belongs to %s, the ENI to %s; name a port of the ENI's VPC", name, p.VPC, v.ID)
		}
		if ok && p.Kind == TAP && p.Subnet.IsValid() {
			if !p.Subnet.Contains(e.Address) {
				c.fail(at+".address", "%s is not in the subnet %s of port %q; choose one inside", e.Address, p.Subnet, name)
			} else if edge(p.Subnet, e.Address) {
				c.fail(at+".address", "%s is the network's or the broadcast address of %s; choose a host's", e.Address, p.Subnet)
			}
		}
	}
	if ok && v != nil {
		c.eniAddress(at+".address", e.Address, v)
	}
}

// eniAddress checks that an ENI's address is its alone.
func (c *checker) eniAddress(at string, a netip.Addr, v *VPC) {
	if !v.contains(a) {
		c.fail(at, "%s is in no prefix of %s; choose one inside", a, v.ID)
	}
	key := vpcAddress{v.ID, a}
	if other, taken := c.enis[key]; taken {
		c.fail(at, "%s is taken in %s by %s; choose another", a, v.ID, other)
		return
	}
	c.enis[key] = at
	if other, taken := c.gateways[key]; taken {
		c.fail(at, "%s is the gateway of %s; choose another", a, other)
	}
	if other, taken := c.hosts[key]; taken {
		c.fail(at, "%s is the kernel's in %s; an ENI's address belongs to the dataplane alone, choose another", a, other)
	}
}
