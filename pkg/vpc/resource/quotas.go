// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import "github.com/isthmus-net/isthmus/pkg/vpc"

// AWSQuotas are AWS's defaults, in a region where it counts by region; those of endpoint services and of route tables
// whose routes lead to endpoints are ours, as AWS names none.
var AWSQuotas = Quotas{
	VPCs:                  5,
	SubnetsPerVPC:         200,
	EndpointsPerVPC:       50,
	SecurityGroupsPerVPC:  500,
	SecurityGroupsPerENI:  5,
	RulesPerSecurityGroup: 60,
	LoadBalancers:         50,
	TargetGroups:          3000,
	TargetsPerGroup:       1000,
	ListenersPerLB:        50,
	EndpointServices:      50,
	RoutesPerTable:        50,
	TagsPerResource:       50,
}

// quotaNames has the names of the fields in the API.
var quotaNames = []struct {
	name  string
	field func(*Quotas) *int
}{
	{"vpcs", func(q *Quotas) *int { return &q.VPCs }},
	{"subnets_per_vpc", func(q *Quotas) *int { return &q.SubnetsPerVPC }},
	{"endpoints_per_vpc", func(q *Quotas) *int { return &q.EndpointsPerVPC }},
	{"security_groups_per_vpc", func(q *Quotas) *int { return &q.SecurityGroupsPerVPC }},
	{"security_groups_per_eni", func(q *Quotas) *int { return &q.SecurityGroupsPerENI }},
	{"rules_per_security_group", func(q *Quotas) *int { return &q.RulesPerSecurityGroup }},
	{"load_balancers", func(q *Quotas) *int { return &q.LoadBalancers }},
	{"target_groups", func(q *Quotas) *int { return &q.TargetGroups }},
	{"targets_per_group", func(q *Quotas) *int { return &q.TargetsPerGroup }},
	{"listeners_per_load_balancer", func(q *Quotas) *int { return &q.ListenersPerLB }},
	{"endpoint_services", func(q *Quotas) *int { return &q.EndpointServices }},
	{"routes_per_table", func(q *Quotas) *int { return &q.RoutesPerTable }},
	{"tags_per_resource", func(q *Quotas) *int { return &q.TagsPerResource }},
}

// or is q with the fields of d where its own are zero.
func (q Quotas) or(d Quotas) Quotas {
	for _, f := range quotaNames {
		if mine := f.field(&q); *mine == 0 {
			*mine = *f.field(&d)
		}
	}
	return q
}

// quotas are those in force for an account.
func (m *model) quotas(account string) Quotas {
	if a, ok := lookup[*Account](m, KindAccount, account, account); ok {
		return a.Quotas.or(m.cfg.DefaultQuotas)
	}
	return m.cfg.DefaultQuotas
}

// quota checks that there are no more of something than the quota of that name allows. What has them is the account when
// of is empty.
func (t *Tx) quota(c *complaints, ec2, field, name, of string, n int) {
	q := t.model.quotas(c.key.Account)
	for _, f := range quotaNames {
		if most := *f.field(&q); f.name == name && n > most {
			if of == "" {
				of = "account " + c.key.Account
			}
			c.add(ResourceExhausted, "QUOTA_EXCEEDED", ec2, field,
				"%s would have %d, and the quota %s is %d; delete some, or ask an operator to raise quotas.%s of account %s",
				of, n, name, most, name, c.key.Account)
		}
	}
}

// room checks that the dataplane has slots for everything, whoever owns it.
func (t *Tx) room(c *complaints) {
	for _, f := range []struct {
		what    string
		n, most int
	}{
		{"ENIs of endpoints and load balancer nodes", t.model.enis, vpc.MaxENIs},
		{"targets", t.model.targets, vpc.MaxTargets},
		{"attachments", t.model.countAll(KindAttachment), vpc.MaxPorts},
	} {
		if f.n > f.most {
			c.add(ResourceExhausted, "DATAPLANE_FULL", "InsufficientCapacity", "",
				"one daemon has room for %d %s, and these would be %d; delete some, or use several daemons", f.most, f.what, f.n)
		}
	}
}
