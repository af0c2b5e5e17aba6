// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"reflect"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// TestQuotas lowers each quota to what there is, so that one more is too much, and raises it again.
func TestQuotas(t *testing.T) {
	w := connected(t)
	main := get[*VPC](w, KindVPC, consumer, "main").DefaultSecurityGroup
	w.create(asC, &SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "g"), VPC: "main"})
	for _, c := range []struct {
		name  string
		as    Actor
		limit func(*Quotas)
		do    func(*world, *Tx) error
		ec2   string
		field string
	}{
		{"vpcs", asC, func(q *Quotas) { q.VPCs = 1 }, creating(aVPC(func(*VPC) {})), "VpcLimitExceeded", ""},
		{"subnets_per_vpc", asC, func(q *Quotas) { q.SubnetsPerVPC = 4 }, creating(aSubnet(func(*Subnet) {})), "SubnetLimitExceeded", ""},
		{"endpoints_per_vpc", asC, func(q *Quotas) { q.EndpointsPerVPC = 2 }, func(w *world, tx *Tx) error {
			return creating(w.anEndpoint("x", "web", "a"))(w, tx)
		}, "VpcEndpointLimitExceeded", ""},
		{"security_groups_per_vpc", asC, func(q *Quotas) { q.SecurityGroupsPerVPC = 2 }, creating(&SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "x"), VPC: "main"}), "SecurityGroupLimitExceeded", ""},
		{"security_groups_per_eni", asC, func(q *Quotas) { q.SecurityGroupsPerENI = 1 }, updating(KindEndpoint, consumer, "web", func(e *Endpoint) { e.SecurityGroups = []string{"g", main} }), "SecurityGroupsPerInterfaceLimitExceeded", "security_groups"},
		{"rules_per_security_group", asC, func(q *Quotas) { q.RulesPerSecurityGroup = 1 }, updating(KindSecurityGroup, consumer, "g", func(g *SecurityGroup) {
			g.Ingress = []Rule{{Protocol: "tcp", Group: main}, {Protocol: "-1", Group: "g"}}
		}), "RulesPerSecurityGroupLimitExceeded", "ingress"},
		{"load_balancers", asP, func(q *Quotas) { q.LoadBalancers = 2 }, creating(aBalancer("x", vpc.Network, "web", "a")), "TooManyLoadBalancers", ""},
		{"target_groups", asP, func(q *Quotas) { q.TargetGroups = 2 }, creating(aGroup("x", vpc.Network)), "TooManyTargetGroups", ""},
		{"targets_per_group", asP, func(q *Quotas) { q.TargetsPerGroup = 1 }, func(_ *world, t *Tx) error { return register(target(9, 80))(t) }, "TooManyTargets", "targets"},
		{"listeners_per_load_balancer", asP, func(q *Quotas) { q.ListenersPerLB = 1 }, updating(KindLoadBalancer, provider, "nlb", func(lb *LoadBalancer) {
			lb.Listeners = append(lb.Listeners, vpc.Listener{Port: 81, TargetGroup: "web", IdleTimeout: vpc.DefaultIdleTimeout})
		}), "TooManyListeners", "listeners"},
		{"endpoint_services", asP, func(q *Quotas) { q.EndpointServices = 2 }, creating(aService("x", "nlb")), "VpcEndpointServiceLimitExceeded", ""},
		{"routes_per_table", asC, func(q *Quotas) { q.RoutesPerTable = 2 }, updating(KindRouteTable, consumer, "routes", func(r *RouteTable) {
			r.Routes = append(r.Routes, Route{prefix("10.9.0.0/16"), "inspect"})
		}), "RouteLimitExceeded", "routes"},
		{"tags_per_resource", asC, func(q *Quotas) { q.TagsPerResource = 1 }, creating(aVPC(func(v *VPC) { v.Tags = map[string]string{"a": "", "b": ""} })), "TagLimitExceeded", "metadata.tags"},
	} {
		limit := func(f func(*Quotas)) {
			w.must(operator, func(t *Tx) error {
				a := Clone(get[*Account](w, KindAccount, c.as.Account, c.as.Account))
				a.Quotas = Quotas{}
				f(&a.Quotas)
				_, err := t.Update(a, 0)
				return err
			})
		}
		limit(c.limit)
		for _, who := range []Actor{c.as, operator} {
			err := c.do(w, w.begin(who))
			expect(t, err, broken{ResourceExhausted, "QUOTA_EXCEEDED", c.ec2, c.field})
			if err != nil && !strings.Contains(err.Error(), "quotas."+c.name+" of account "+c.as.Account) {
				t.Errorf("%s: the message does not say what to raise: %v", c.name, err)
			}
		}
		limit(func(*Quotas) {})
		if err := c.do(w, w.begin(c.as)); err != nil {
			t.Errorf("%s: refused by the default: %v", c.name, err)
		}
	}
}

func TestEveryQuotaHasANameAndADefault(t *testing.T) {
	if n := reflect.TypeFor[Quotas]().NumField(); n != len(quotaNames) {
		t.Errorf("%d of %d quotas have a name", len(quotaNames), n)
	}
	q := AWSQuotas
	fields := map[*int]bool{}
	for _, f := range quotaNames {
		p := f.field(&q)
		if fields[p] || *p <= 0 {
			t.Errorf("%s is %d, and is another one's: %v", f.name, *p, fields[p])
		}
		fields[p] = true
	}
	w := newWorld(t, Config{DefaultQuotas: Quotas{VPCs: 7}})
	w.create(operator, &Account{Meta: meta(KindAccount, "", consumer), Quotas: Quotas{TargetGroups: 9}})
	got := w.set.Quotas(consumer)
	if got.VPCs != 7 || got.TargetGroups != 9 || got.EndpointsPerVPC != 50 {
		t.Errorf("quotas in force: %+v", got)
	}
}

// TestDataplaneHasRoom checks the limits of what one daemon runs, whoever owns it.
func TestDataplaneHasRoom(t *testing.T) {
	full := broken{ResourceExhausted, "DATAPLANE_FULL", "InsufficientCapacity", ""}
	w := connected(t)
	w.set.targets = vpc.MaxTargets
	expect(t, w.try(asP, register(target(9, 80))), full)
	w.set.targets, w.set.enis = 0, vpc.MaxENIs
	expect(t, w.try(asC, func(t *Tx) error { _, err := t.Create(w.anEndpoint("x", "web", "a")); return err }), full)
}
