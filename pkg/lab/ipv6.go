// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// ipv6Subnet is the prefix length of every IPv6 subnet.
const ipv6Subnet = 64

// ipv6Node is what a node of a VPC with IPv6 differs in from others. Addresses are as they are written down: nobody
// advertises any, and nobody waits to see whether they are taken.
var ipv6Node = []netns.Sysctl{
	{Name: "net/ipv6/conf/all/disable_ipv6", Value: "0"},
	{Name: "net/ipv6/conf/default/disable_ipv6", Value: "0"},
	{Name: "net/ipv6/conf/default/accept_ra", Value: "0"},
	{Name: "net/ipv6/conf/default/accept_dad", Value: "0"},
	{Name: "net/ipv6/conf/default/router_solicitations", Value: "0"},
}

// Settings of a router: it forwards, and the ends of cables in its bridges, which are made after the bridges, have no IPv6 of
// their own.
var (
	ipv6Router = []netns.Sysctl{{Name: "net/ipv6/conf/all/forwarding", Value: "1"}}
	ipv6Cables = []netns.Sysctl{{Name: "net/ipv6/conf/default/disable_ipv6", Value: "1"}}
)

// isIPv6 says whether a prefix is one of IPv6, with no bits behind its length.
func isIPv6(p netip.Prefix) bool { return p.Addr().Is6() && !p.Addr().Is4In6() && p == p.Masked() }

// IPv6 is the IPv6 address of whoever has an IPv4 address in the subnet; not valid where the subnet has none.
func (s *Subnet) IPv6(a netip.Addr) netip.Addr {
	if s.IPv6CIDR == nil {
		return netip.Addr{}
	}
	base, host := s.CIDR.Addr().As4(), a.As4()
	out := s.IPv6CIDR.Addr().As16()
	binary.BigEndian.PutUint32(out[12:], binary.BigEndian.Uint32(host[:])-binary.BigEndian.Uint32(base[:]))
	return netip.AddrFrom16(out)
}

// prefix is the subnet's of a family; not valid where it has none.
func (s *Subnet) prefix(v6 bool) netip.Prefix { return ofFamily(s.CIDR, s.IPv6CIDR, v6) }

// prefix is the VPC's of a family; not valid where it has none.
func (v *VPC) prefix(v6 bool) netip.Prefix { return ofFamily(v.CIDR, v.IPv6CIDR, v6) }

func ofFamily(v4 netip.Prefix, v6 *netip.Prefix, want6 bool) netip.Prefix {
	switch {
	case !want6:
		return v4
	case v6 == nil:
		return netip.Prefix{}
	}
	return *v6
}

// families lists those of a VPC, as what is asked for in prefix.
func (v *VPC) families() []bool {
	if v.IPv6CIDR == nil {
		return []bool{false}
	}
	return []bool{false, true}
}
