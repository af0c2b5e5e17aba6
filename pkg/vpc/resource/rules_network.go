// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
)

const (
	// maxCIDRs is the most that AWS lets a VPC have after all increases.
	maxCIDRs = 50
	// longestSubnet is the longest prefix of a subnet, as in AWS: eleven addresses are left for ENIs.
	longestSubnet = 28
)

var zoneForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (*Account) kind() Kind { return KindAccount }
func (*VPC) kind() Kind     { return KindVPC }
func (*Subnet) kind() Kind  { return KindSubnet }

// zoneID is the id of a zone by the account's name for it.
func (r *Account) zoneID(name string) string {
	if id, ok := r.Zones[name]; ok {
		return id
	}
	return name
}

func (r *Account) form(c *complaints) {
	c.text("display_name", r.DisplayName, maxText)
	ids := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Zones)) {
		id, field := r.Zones[name], "zones["+name+"]"
		switch {
		case !zoneForm.MatchString(name):
			c.wrong(field, "%q is no name of a zone; write lower case letters, digits and hyphens, such as us-east-1a", name)
		case !zoneForm.MatchString(id):
			c.wrong(field, "%q is no zone id; write lower case letters, digits and hyphens, such as use1-az1", id)
		case ids[id] != "":
			c.wrong(field, "%s is %s already; a zone has one name", id, ids[id])
		}
		ids[id] = name
	}
	for _, f := range quotaNames {
		if *f.field(&r.Quotas) < 0 {
			c.wrong("quotas."+f.name, "%d is negative; write how many there may be, or leave it out", *f.field(&r.Quotas))
		}
	}
}

func (r *Account) prepare(t *Tx, old Resource, c *complaints) {
	if old == nil {
		return
	}
	for s := range t.model.list(KindSubnet, r.ID) {
		if s := s.(*Subnet); r.zoneID(s.Zone) != s.ZoneID {
			c.add(FailedPrecondition, "ZONE_IN_USE", "DependencyViolation", "zones["+s.Zone+"]",
				"subnet %s is in %s, which is %s; delete it first", s.ID, s.Zone, s.ZoneID)
		}
	}
}

func (*Account) check(*model, *complaints) {}

func (r *Account) release(t *Tx, c *complaints) {
	var owned []Key
	for kind := KindVPC; kind <= KindRouteTable; kind++ {
		for o := range t.model.list(kind, r.ID) {
			if owned = append(owned, o.Metadata().Key); len(owned) > 3 {
				break
			}
		}
	}
	c.dependents("ACCOUNT_NOT_EMPTY", "DependencyViolation", owned)
}

// dependents complains that something else has to be deleted first.
func (c *complaints) dependents(reason, ec2 string, keys []Key) {
	if len(keys) > 0 {
		c.add(FailedPrecondition, reason, ec2, "", "the %s is in use by %s; delete them first, or have them use another one", c.key.Kind, names(keys))
	}
}

// dependentsOf are some of the resources that refer to one.
func (t *Tx) dependentsOf(k Key) []Key {
	var keys []Key
	for e := range t.model.edges.from(edge{to: k}) {
		if e.to != k || len(keys) > 3 {
			break
		}
		keys = append(keys, e.from)
	}
	return keys
}

func (r *VPC) form(c *complaints) {
	switch n := len(r.CIDRs); {
	case n == 0:
		c.missing("cidrs", "a VPC has at least one prefix, such as 10.0.0.0/16")
	case n > maxCIDRs:
		c.add(ResourceExhausted, "TOO_MANY_CIDRS", "VpcCidrLimitExceeded", "cidrs", "are %d; a VPC has at most %d, use larger ones", n, maxCIDRs)
		return
	}
	for i, p := range r.CIDRs {
		if !c.network4(at("cidrs", i), p) {
			continue
		}
		for _, q := range r.CIDRs[:i] {
			if q.IsValid() && q.Overlaps(p) {
				c.add(InvalidArgument, "CIDR_OVERLAP", "InvalidVpc.Range", at("cidrs", i), "%s overlaps %s of the same VPC; leave one out", p, q)
			}
		}
	}
}

func (r *VPC) prepare(t *Tx, old Resource, c *complaints) {
	if old == nil {
		t.quota(c, kinds[KindVPC].limit, "", "vpcs", "", t.model.count(KindVPC, r.Account)+1)
		r.DefaultSecurityGroup = ""
		return
	}
	r.DefaultSecurityGroup = old.(*VPC).DefaultSecurityGroup
	for s := range t.model.users(r.Key, KindSubnet) {
		if p := s.(*Subnet).CIDR; !r.holds(p) {
			c.add(FailedPrecondition, "CIDR_IN_USE", "DependencyViolation", "cidrs", "no prefix has %s of subnet %s; keep it, or delete the subnet first", p, s.Metadata().ID)
		}
	}
	for g := range t.model.users(r.Key, KindSecurityGroup) {
		for _, p := range g.(*SecurityGroup).Members {
			if !r.holds(p) {
				c.add(FailedPrecondition, "CIDR_IN_USE", "DependencyViolation", "cidrs", "no prefix has %s, a member of security group %s; keep it, or remove the member first", p, g.Metadata().ID)
			}
		}
	}
}

// holds says whether one of the VPC's prefixes has all of p.
func (r *VPC) holds(p netip.Prefix) bool {
	return slices.ContainsFunc(r.CIDRs, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}

func (r *VPC) check(m *model, c *complaints) {
	g, ok := lookup[*SecurityGroup](m, KindSecurityGroup, r.Account, r.DefaultSecurityGroup)
	if r.DefaultSecurityGroup != "" && (!ok || g.VPC != r.ID || !g.Default) {
		c.wrong("default_security_group", "%q is not the default security group of this VPC", r.DefaultSecurityGroup)
	}
}

// addDefaultGroup makes the security group that a new VPC comes with: it lets in whoever is in it.
func (r *VPC) addDefaultGroup(t *Tx, c *complaints) {
	g := &SecurityGroup{
		Meta:        Meta{Key: Key{Kind: KindSecurityGroup, Account: r.Account}},
		VPC:         r.ID,
		Description: "default VPC security group",
		Default:     true,
	}
	gc := &complaints{}
	t.newMeta(g, gc)
	g.Ingress = []Rule{{Protocol: "-1", Group: g.ID}}
	t.put(nil, g, gc)
	n := Clone(r)
	n.DefaultSecurityGroup = g.ID
	t.put(r, n, c)
	c.errs = append(c.errs, gc.errs...)
}

func (r *VPC) release(t *Tx, c *complaints) {
	own := Key{KindSecurityGroup, r.Account, r.DefaultSecurityGroup}
	keys := slices.DeleteFunc(t.dependentsOf(r.Key), func(k Key) bool { return k == own })
	c.dependents("VPC_IN_USE", "DependencyViolation", keys)
	if g, ok := t.model.resources.get(own); ok && len(keys) == 0 {
		t.put(g, nil, &complaints{key: own})
	}
}

// resolve replaces the UID in a reference by the ID, and finds what it leads to.
func resolve[R Resource](t *Tx, c *complaints, kind Kind, field string, id *string) (r R, ok bool) {
	if *id == "" {
		c.missing(field, "name a %s", kind)
		return r, false
	}
	r, ok = lookup[R](&t.model, kind, c.key.Account, *id)
	if !ok {
		c.absent(kind, field, *id)
		return r, false
	}
	*id = r.Metadata().ID
	return r, true
}

func (r *Subnet) prepare(t *Tx, old Resource, c *complaints) {
	v, ok := resolve[*VPC](t, c, KindVPC, "vpc", &r.VPC)
	if old != nil {
		o := old.(*Subnet)
		c.fixed("vpc", r.VPC == o.VPC)
		c.fixed("cidr", r.CIDR == o.CIDR)
		c.fixed("zone", r.Zone == o.Zone)
		r.ZoneID = o.ZoneID
		return
	}
	if a, there := lookup[*Account](&t.model, KindAccount, r.Account, r.Account); there {
		r.ZoneID = a.zoneID(r.Zone)
	}
	if ok {
		t.quota(c, kinds[KindSubnet].limit, "", "subnets_per_vpc", "VPC "+v.ID, t.model.countUsers(v.Key, KindSubnet)+1)
	}
}

func (r *Subnet) form(c *complaints) {
	switch {
	case r.Zone == "":
		c.missing("zone", "write the name or the id of a zone, such as use1-az1")
	case !zoneForm.MatchString(r.Zone) || r.ZoneID != "" && !zoneForm.MatchString(r.ZoneID):
		c.wrong("zone", "%q is no zone; write lower case letters, digits and hyphens, such as use1-az1", r.Zone)
	}
	if c.network4("cidr", r.CIDR) && r.CIDR.Bits() > longestSubnet {
		c.add(InvalidArgument, "SUBNET_TOO_SMALL", "InvalidSubnet.Range", "cidr", "%s is too small; write a prefix of at most /%d", r.CIDR, longestSubnet)
	}
}

func (r *Subnet) check(m *model, c *complaints) {
	v, ok := lookup[*VPC](m, KindVPC, r.Account, r.VPC)
	if !ok {
		c.absent(KindVPC, "vpc", r.VPC)
		return
	}
	if !v.holds(r.CIDR) {
		c.add(InvalidArgument, "SUBNET_OUTSIDE_VPC", "InvalidSubnet.Range", "cidr", "%s is in no prefix of VPC %s; choose one inside, or add it to the VPC", r.CIDR, v.ID)
	}
	if a, there := lookup[*Account](m, KindAccount, r.Account, r.Account); there && a.zoneID(r.Zone) != r.ZoneID {
		c.wrong("zone", "is %s, and not %q", a.zoneID(r.Zone), r.ZoneID)
	}
	for s := range m.users(v.Key, KindSubnet) {
		if s := s.(*Subnet); s.Key != r.Key && s.CIDR.Overlaps(r.CIDR) {
			c.add(InvalidArgument, "SUBNET_OVERLAP", "InvalidSubnet.Conflict", "cidr", "%s overlaps %s of subnet %s; choose another", r.CIDR, s.CIDR, s.ID)
		}
	}
}

func (r *Subnet) release(t *Tx, c *complaints) {
	c.dependents("SUBNET_IN_USE", "DependencyViolation", t.dependentsOf(r.Key))
}
