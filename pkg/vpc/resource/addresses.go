// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"
)

// Addresses at the ends of a subnet that no ENI gets, as in AWS: the network's, the router's, the resolver's and one more,
// and the broadcast address.
const (
	reservedFirst = 4
	reservedLast  = 1
)

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// span are the first and last address of a subnet that ENIs may have. The CIDR must be an IPv4 network.
func (r *Subnet) span() (first, last uint32) {
	base := number(r.CIDR.Addr())
	return base + reservedFirst, base + uint32(1)<<(32-r.CIDR.Bits()) - 1 - reservedLast
}

// allocate finds the lowest address of a subnet that nobody has. It counts the taken ones by halves, as far as the first
// gap is.
func (m *model) allocate(s *Subnet) (netip.Addr, bool) {
	first, last := s.span()
	rank := func(n uint32) int { return m.places.rank(place{s.Account, s.VPC, address(n)}) }
	before := rank(first)
	i := sort.Search(int(last-first)+1, func(i int) bool { return rank(first+uint32(i)+1)-before <= i })
	if i > int(last-first) {
		return netip.Addr{}, false
	}
	return address(first + uint32(i)), true
}

// placeENIs gives the ENIs of a new or changed resource their addresses: those in subnets that it had before keep theirs.
// It returns the subnets, nil where a reference is broken.
func (t *Tx) placeENIs(c *complaints, field, vpcID string, enis, before []SubnetAddress) []*Subnet {
	subnets := make([]*Subnet, len(enis))
	zones := make(map[string]string, len(enis))
	for i := range enis {
		e, here := &enis[i], at(field, i)
		s, ok := resolve[*Subnet](t, c, KindSubnet, here+".subnet", &e.Subnet)
		if !ok {
			continue
		}
		if s.VPC != vpcID {
			c.add(InvalidArgument, "SUBNET_OF_OTHER_VPC", "InvalidParameterValue", here+".subnet", "subnet %s is in VPC %s, not in %s; name one of that", s.ID, s.VPC, vpcID)
			continue
		}
		if other, taken := zones[s.ZoneID]; taken {
			c.add(InvalidArgument, "DUPLICATE_ZONE", "DuplicateSubnetsInSameZone", here+".subnet",
				"subnet %s is in %s as %s is; name one subnet a zone", s.ID, s.ZoneID, other)
			continue
		}
		zones[s.ZoneID], subnets[i] = s.ID, s
		t.placeENI(c, here+".address", s, e, before)
	}
	return subnets
}

// placeENI gives one ENI its address.
func (t *Tx) placeENI(c *complaints, field string, s *Subnet, e *SubnetAddress, before []SubnetAddress) {
	for _, b := range before {
		if b.Subnet != s.ID {
			continue
		}
		if e.Address.IsValid() && e.Address != b.Address {
			c.add(InvalidArgument, "ADDRESS_IMMUTABLE", "InvalidParameterCombination", field,
				"is %s for as long as the %s has an ENI in subnet %s; leave it out", b.Address, c.key.Kind, s.ID)
		}
		e.Address = b.Address
		return
	}
	if e.Address.IsValid() {
		return
	}
	a, ok := t.model.allocate(s)
	if !ok {
		c.add(ResourceExhausted, "NO_FREE_ADDRESS", "InsufficientFreeAddressesInSubnet", field,
			"subnet %s has no free address in %s; delete something there, or use another subnet", s.ID, s.CIDR)
	}
	e.Address = a
}

// checkENIs checks the ENIs of a resource that is in the model, and returns their zone ids.
func (m *model) checkENIs(c *complaints, field, vpcID string, enis []SubnetAddress) []string {
	zones := make([]string, 0, len(enis))
	for i, e := range enis {
		here := at(field, i)
		s, ok := lookup[*Subnet](m, KindSubnet, c.key.Account, e.Subnet)
		if !ok {
			c.absent(KindSubnet, here+".subnet", e.Subnet)
			continue
		}
		if s.VPC != vpcID {
			c.wrong(here+".subnet", "subnet %s is in VPC %s, not in %s", s.ID, s.VPC, vpcID)
			continue
		}
		if slices.Contains(zones, s.ZoneID) {
			c.wrong(here+".subnet", "subnet %s is in %s as an earlier one is; name one subnet a zone", s.ID, s.ZoneID)
		}
		zones = append(zones, s.ZoneID)
		m.checkENI(c, here+".address", s, e.Address)
	}
	return zones
}

// checkENI checks that an address of a subnet is an ENI's and nobody else's.
func (m *model) checkENI(c *complaints, field string, s *Subnet, a netip.Addr) {
	if !a.Is4() || !s.CIDR.Contains(a) {
		c.add(InvalidArgument, "ADDRESS_OUTSIDE_SUBNET", "InvalidParameterValue", field, "%s is not in %s of subnet %s; choose one inside", a, s.CIDR, s.ID)
		return
	}
	if first, last := s.span(); number(a) < first || number(a) > last {
		c.add(InvalidArgument, "ADDRESS_RESERVED", "InvalidParameterValue", field,
			"%s is one of the first %d addresses of %s or its last; write one from %s to %s", a, reservedFirst, s.CIDR, address(first), address(last))
		return
	}
	tenants, _ := m.places.get(place{s.Account, s.VPC, a})
	for _, t := range tenants {
		if t.role != roleMember && (t.role != roleENI || t.key != c.key) {
			c.taken(field, a, t, "choose another, or leave it out")
			return
		}
	}
}

// taken complains about an address that somebody has.
func (c *complaints) taken(field string, a netip.Addr, by tenant, remedy string) {
	as := [...]string{roleENI: "an ENI of", roleHost: "an address of", roleGateway: "the gateway of", roleTarget: "a target of"}[by.role]
	c.add(AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", field, "%s is %s %s %s; %s", a, as, by.key.Kind, by.key.ID, remedy)
}

// checkHost checks that an address of a kernel or an appliance is no ENI's.
func (m *model) checkHost(c *complaints, field, vpcID string, a netip.Addr) {
	tenants, _ := m.places.get(place{c.key.Account, vpcID, a})
	for _, t := range tenants {
		if t.role == roleENI {
			c.taken(field, a, t, "ENIs belong to the dataplane alone, choose another")
			return
		}
	}
}
