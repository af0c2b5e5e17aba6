// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// TestExamplesCanBeCreated makes the resources of the examples from nothing, as a daemon does that is told to.
func TestExamplesCanBeCreated(t *testing.T) {
	for _, file := range examples(t) {
		topology, err := Load(file)
		must(t, err)
		list, err := topology.Resources(Dir(topology.Name))
		must(t, err)
		set := resource.NewSet(resource.Config{})
		number := 0
		tx := set.Begin(resource.Env{
			Now: time.Unix(1, 0), Actor: resource.Actor{Operator: true},
			NewUID: func(prefix string) string { number++; return prefix + fmt.Sprintf("%017x", number) },
		})
		names := map[string]string{} // of services, by those in the list
		for _, r := range list {
			if e, ok := r.(*resource.Endpoint); ok {
				e.Service = names[e.Service]
			}
			made, err := tx.Create(r)
			if err != nil {
				t.Fatalf("%s: %s: %v", file, r.Metadata().Key, err)
			}
			if s, ok := made.(*resource.EndpointService); ok {
				names[r.(*resource.EndpointService).Name] = s.Name
			}
		}
		must(t, tx.Check())
		set.Commit(tx, 1)
		for _, r := range set.List(resource.KindEndpoint, "") {
			if state := r.(*resource.Endpoint).State; state != resource.Pending {
				t.Errorf("%s: endpoint %s is %s, want it accepted", file, r.Metadata().ID, state)
			}
		}
		if problems := set.Problems(); len(problems) > 0 {
			t.Errorf("%s: %v", file, problems)
		}
	}
}

// shared is a service with two endpoints; %s are fields of the service, of the provider and of the second consumer.
const shared = `
name: x
vpcs:
  - name: p
    cidr: 10.0.0.0/16
    %[2]ssubnets: [{name: a, zone: z1, cidr: 10.0.1.0/24}]
    instances: [{name: i, subnet: a}]
  - {name: one, cidr: 10.0.0.0/16, subnets: [{name: a, zone: z1, cidr: 10.0.1.0/24}]}
  - {name: two, cidr: 10.0.0.0/16, %[3]ssubnets: [{name: a, zone: z1, cidr: 10.0.1.0/24}]}
load_balancers: [{name: n, vpc: p, listeners: [{port: 80, target_group: t}]}]
target_groups: [{name: t, targets: [{instance: i, port: 80}]}]
services: [{name: s, %[1]sload_balancers: [n]}]
endpoints: [{name: e, service: s, vpc: one}, {name: f, service: s, vpc: two}]
`

func TestAccounts(t *testing.T) {
	for _, c := range []struct {
		name, provider, consumer string
		owner                    string
		allowed                  []string
	}{
		{"defaults", "", "", Provider, []string{Consumer}},
		{"two consumers", "", `account: "000000000007", `, Provider, []string{"000000000007", Consumer}},
		{"one party", `account: "` + Consumer + "\"\n    ", "", Consumer, nil},
	} {
		topology := parse(t, fmt.Sprintf(shared, "", c.provider, c.consumer))
		list, err := topology.Resources("/run/x")
		must(t, err)
		var accounts []string
		for _, r := range list {
			switch r := r.(type) {
			case *resource.Account:
				accounts = append(accounts, r.ID)
			case *resource.EndpointService:
				var allowed []string
				for _, account := range c.allowed {
					allowed = append(allowed, "arn:aws:iam::"+account+":root")
				}
				if r.Account != c.owner || !slices.Equal(r.Principals, allowed) || !r.AutoAccept {
					t.Errorf("%s: the service is %+v", c.name, r)
				}
			}
		}
		if len(accounts) != 1+len(c.allowed) || !slices.Contains(accounts, c.owner) {
			t.Errorf("%s: the accounts are %v", c.name, accounts)
		}
	}
}

func TestAcceptanceRequired(t *testing.T) {
	topology := parse(t, fmt.Sprintf(shared, "acceptance_required: true, ", "", ""))
	list, err := topology.Resources("/run/x")
	must(t, err)
	for _, r := range list {
		if s, ok := r.(*resource.EndpointService); ok && s.AutoAccept {
			t.Error("the service accepts endpoints by itself")
		}
	}
	state, err := topology.State("/run/x")
	must(t, err)
	if len(state.Endpoints) != 2 {
		t.Errorf("the state has %d endpoints, want both: it is that of a lab in which all are accepted", len(state.Endpoints))
	}
}

func TestManyVPCs(t *testing.T) {
	topology := parse(t, minimal)
	for i := range 8 {
		v := topology.VPCs[0]
		v.Name, v.ID, v.Instances = fmt.Sprintf("v%d", i), "", nil
		topology.VPCs = append(topology.VPCs, v)
	}
	list, err := topology.Resources("/run/x")
	must(t, err)
	if n := list[0].(*resource.Account).Quotas.VPCs; n != 9 {
		t.Errorf("the account may have %d VPCs, want as many as there are", n)
	}
}

func TestRulesAreChecked(t *testing.T) {
	const one, two = "{name: one, cidr: 10.0.0.0/16, subnets: [{name: a,", "{name: two, cidr: 10.0.0.0/16, subnets: [{name: a,"
	for _, c := range []struct {
		name    string
		changes []string // old, new, old, new
		want    string
	}{
		{"reserved address", []string{"vpc: one}", "vpc: one, enis: [{subnet: a, address: 10.0.1.3}]}"}, "endpoint e: enis[0].address: 10.0.1.3 is one of the first 4"},
		{
			"zone without the service", []string{one, "{name: one, cidr: 10.0.0.0/16, subnets: [{name: b, zone: z2, cidr: 10.0.2.0/24}, {name: a,", "vpc: one}", "vpc: one, enis: [{subnet: b}]}"},
			"endpoint e: enis[0].subnet: subnet one-b is in z2, where the service is not",
		},
		{"no account", []string{"name: p\n", "name: p\n    account: me\n"}, `account "me" is not 12 digits`},
		{"no load balancers", []string{"load_balancers: [n]", "load_balancers: []"}, "there are no load_balancers"},
		{
			"two of one name", []string{one, "{name: one, cidr: 10.0.0.0/16, subnets: [{name: a-b,", two, "{name: one-a, cidr: 10.0.0.0/16, subnets: [{name: b,"},
			"subnet one/a-b and subnet one-a/b would both be called one-a-b",
		},
		{
			"two owners", []string{
				two, `{name: two, account: "000000000007", cidr: 10.0.0.0/16, subnets: [{name: a,`, "load_balancers: [n]", "load_balancers: [n, m]",
				"load_balancers: [{", "load_balancers: [{name: m, vpc: two, listeners: []}, {",
			}, "load balancer m belongs to account 000000000007, others to 444455556666",
		},
	} {
		text := fmt.Sprintf(shared, "", "", "")
		for i := 0; i < len(c.changes); i += 2 {
			if !strings.Contains(text, c.changes[i]) {
				t.Fatalf("%s: there is no %q", c.name, c.changes[i])
			}
			text = strings.Replace(text, c.changes[i], c.changes[i+1], 1)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.want)
		}
	}
}
