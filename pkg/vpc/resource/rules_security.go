// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

func (*SecurityGroup) kind() Kind { return KindSecurityGroup }

func (r *SecurityGroup) prepare(t *Tx, old Resource, c *complaints) {
	v, ok := resolve[*VPC](t, c, KindVPC, "vpc", &r.VPC)
	r.Default = false
	if old != nil {
		o := old.(*SecurityGroup)
		c.fixed("vpc", r.VPC == o.VPC)
		r.Default = o.Default
	} else if ok {
		t.quota(c, kinds[KindSecurityGroup].limit, "", "security_groups_per_vpc", "VPC "+v.ID, t.model.countUsers(v.Key, KindSecurityGroup)+1)
	}
	sources := 0
	for i := range r.Ingress {
		rule := &r.Ingress[i]
		sources += max(len(rule.CIDRs), 1)
		// A group may refer to itself before it is there.
		if rule.Group != "" && rule.Group != r.ID && rule.Group != r.UID {
			resolve[*SecurityGroup](t, c, KindSecurityGroup, at("ingress", i)+".group", &rule.Group)
		} else if rule.Group != "" {
			rule.Group = r.ID
		}
	}
	t.quota(c, "RulesPerSecurityGroupLimitExceeded", "ingress", "rules_per_security_group", "security group "+r.ID, sources)
}

func (r *SecurityGroup) form(c *complaints) {
	c.text("description", r.Description, maxText)
	for i := range r.Ingress {
		r.Ingress[i].form(at("ingress", i), c)
	}
	for i, p := range r.Members {
		c.network4(at("members", i), p)
	}
}

func (r *SecurityGroup) check(m *model, c *complaints) {
	v, ok := lookup[*VPC](m, KindVPC, r.Account, r.VPC)
	if !ok {
		c.absent(KindVPC, "vpc", r.VPC)
		return
	}
	for i, p := range r.Members {
		if !v.holds(p) {
			c.wrong(at("members", i), "%s is in no prefix of VPC %s; members are interfaces of the VPC", p, v.ID)
		}
	}
	for i := range r.Ingress {
		rule, here := &r.Ingress[i], at("ingress", i)
		if rule.Group == "" {
			continue
		}
		switch g, ok := lookup[*SecurityGroup](m, KindSecurityGroup, r.Account, rule.Group); {
		case !ok:
			c.absent(KindSecurityGroup, here+".group", rule.Group)
		case g.VPC != r.VPC:
			c.add(InvalidArgument, "GROUP_OF_OTHER_VPC", "InvalidParameterValue", here+".group",
				"security group %s is in VPC %s, not in %s; name one of that", g.ID, g.VPC, r.VPC)
		}
	}
}

// form judges a rule by itself.
func (r *Rule) form(here string, c *complaints) {
	c.text(here+".description", r.Description, maxText)
	switch r.Protocol {
	case "tcp":
	case "-1":
		if r.FromPort != 0 || r.ToPort != 0 {
			c.conflict("PORTS_OF_ALL_PROTOCOLS", here+".from_port", "is for tcp; leave both ports out, or write tcp")
		}
	default:
		c.add(InvalidArgument, "INVALID_PROTOCOL", "InvalidPermission.Malformed", here+".protocol",
			"%q is no protocol of endpoints; write tcp, or -1 for all", r.Protocol)
	}
	if r.FromPort > r.ToPort {
		c.add(InvalidArgument, "INVALID_PORTS", "InvalidParameterValue", here+".to_port",
			"%d is less than from_port (%d); write the range from low to high", r.ToPort, r.FromPort)
	}
	switch {
	case len(r.CIDRs) == 0 && r.Group == "":
		c.missing(here+".cidrs", "write whom the rule lets in, by cidrs or a group")
	case len(r.CIDRs) > 0 && r.Group != "":
		c.conflict("CIDRS_AND_GROUP", here+".group", "stands beside cidrs; make a rule of each")
	}
	for i, p := range r.CIDRs {
		c.network(at(here+".cidrs", i), p)
	}
}

func (r *SecurityGroup) release(t *Tx, c *complaints) {
	if r.Default {
		c.add(FailedPrecondition, "DEFAULT_GROUP", "CannotDelete", "", "the default security group of VPC %s goes with that; delete its rules instead", r.VPC)
	}
	c.dependents("SECURITY_GROUP_IN_USE", "DependencyViolation", t.dependentsOf(r.Key))
}
