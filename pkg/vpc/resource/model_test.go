// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// player does random things to a Set, as one account or another.
type player struct {
	*rapid.T
	set     *Set
	actor   Actor // of the transaction
	now     time.Time
	n       uint64
	done    map[string]int // operations that were well, by name
	refused map[string]int
}

func (p *player) uid(prefix string) string {
	p.n++
	return fmt.Sprintf("%s%017x", prefix, p.n)
}

// TestModel does random operations by several accounts and checks after each transaction what must always be.
func TestModel(t *testing.T) {
	done, refused := map[string]int{}, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{AcceptanceTimeout: time.Hour, DefaultQuotas: Quotas{EndpointsPerVPC: 6, VPCs: 2, TagsPerResource: 1}}
		p := &player{T: t, set: NewSet(cfg), now: start, done: done, refused: refused}
		p.begin()
		for range rapid.IntRange(10, 60).Draw(t, "transactions") {
			p.transaction()
		}
		p.restored()
	})
	for name, n := range done {
		t.Logf("%-16s %5d done %5d refused", name, n, refused[name])
	}
	for _, o := range operations {
		if done[o.name] == 0 {
			t.Errorf("%s was never done: the test has lost its grip", o.name)
		}
	}
}

// begin gives the accounts what most things need, so that more than errors happens.
func (p *player) begin() {
	tx := p.set.Begin(Env{Now: p.now, NewUID: p.uid, Actor: operator})
	for i, account := range []string{provider, consumer} {
		all := []Resource{
			&Account{Meta: meta(KindAccount, account, account)},
			&VPC{Meta: meta(KindVPC, account, "a"), CIDRs: []netip.Prefix{prefix("10.0.0.0/16")}},
			&Subnet{Meta: meta(KindSubnet, account, "a"), VPC: "a", CIDR: prefix("10.0.1.0/28"), Zone: "z1"},
			&Subnet{Meta: meta(KindSubnet, account, "b"), VPC: "a", CIDR: prefix("10.0.2.0/28"), Zone: "z2"},
			tap(account, "a", "a", ""), tun(account, "b", "b", ""),
		}
		if i == 0 {
			web, fw := aGroup("a", vpc.Network), aGroup("b", vpc.Gateway)
			web.Group.VPC, fw.Group.VPC = "a", "a"
			nlb, gwlb := aBalancer("a", vpc.Network, "a", "a", "b"), aBalancer("b", vpc.Gateway, "b", "a")
			nlb.VPC, gwlb.VPC = "a", "a"
			all = append(all, web, fw, nlb, gwlb, aService("a", "a"), aService("b", "b"))
		}
		for _, r := range all {
			if _, err := tx.Create(r); err != nil {
				p.Fatal(err)
			}
		}
	}
	for i, id := range []string{"a", "b", "c"} {
		s, _ := tx.Get(Key{KindEndpointService, provider, []string{"a", "b", "a"}[i]})
		e := &Endpoint{Meta: meta(KindEndpoint, consumer, id), VPC: "a", TypeOpen: true, ENIs: []SubnetAddress{{Subnet: "a"}}, Service: s.(*EndpointService).Name}
		r, err := tx.Create(e)
		if err == nil {
			_, err = tx.Accept(s.Metadata().Key, []string{r.Metadata().UID})
		}
		if err != nil {
			p.Fatal(err)
		}
	}
	p.set.Commit(tx, 1)
}

// transaction does a few operations and commits them, or not.
func (p *player) transaction() {
	p.now = p.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 120, 1800}).Draw(p.T, "seconds")) * time.Second)
	p.actor = rapid.SampledFrom([]Actor{asP, asC, asC, operator, operator, asS}).Draw(p.T, "actor")
	before, unchanged := p.set.Snapshot(), everything(p.set)
	tx := p.set.Begin(Env{Now: p.now, NewUID: p.uid, Actor: p.actor})
	for range rapid.IntRange(1, 4).Draw(p.T, "operations") {
		p.operation(tx)
	}
	if err := tx.Check(); err != nil {
		p.Fatalf("operations that were well are not together: %v", err)
	}
	sameSets(p, before, p.set)
	if !slices.Equal(everything(p.set), unchanged) {
		p.Fatalf("a Tx has changed the Set before it was committed")
	}
	if rapid.IntRange(0, 4).Draw(p.T, "drop") == 0 {
		return
	}
	changes := tx.Changes()
	p.set.Commit(tx, p.set.Revision()+1)
	p.replayed(before, changes)
	p.invariants()
}

// may are the operations that the actor may do, and seldom the others.
func (p *player) may() []operation {
	return slices.DeleteFunc(slices.Clone(operations), func(o operation) bool {
		return o.by != "" && !p.actor.Operator && o.by != p.actor.Account && !p.seldom()
	})
}

// operation does one operation; one that fails must leave the Tx as it was.
func (p *player) operation(tx *Tx) {
	o := rapid.SampledFrom(p.may()).Draw(p.T, "operation")
	before, changed := tx.model, tx.changed
	if err := o.do(p, tx); err == nil {
		p.done[o.name]++
		return
	} else if len(errorsOf(err)) == 0 {
		p.Fatalf("%s: %v is no Error", o.name, err)
	}
	p.refused[o.name]++
	if tx.changed != changed || tx.model != before {
		p.Fatalf("%s failed and has changed something", o.name)
	}
}

// replayed applies changes to a copy of what there was, as a store does.
func (p *player) replayed(before *Set, changes []Change) {
	twin := map[Key]Resource{}
	for r := range before.All() {
		twin[r.Metadata().Key] = r
	}
	for i, c := range changes {
		if i > 0 && changes[i-1].Key.compare(c.Key) >= 0 {
			p.Fatalf("changes are not sorted")
		}
		if twin[c.Key] != c.Old {
			p.Fatalf("%s was not %v", c.Key, c.Old)
		}
		if c.New == nil {
			delete(twin, c.Key)
			continue
		}
		twin[c.Key] = c.New
		if m := c.New.Metadata(); m.Revision != p.set.Revision() || !m.Updated.Equal(p.now) {
			p.Fatalf("%s changed at %s in revision %d", c.Key, m.Updated, m.Revision)
		}
	}
	after := map[Key]Resource{}
	for r := range p.set.All() {
		after[r.Metadata().Key] = r
	}
	if !maps.Equal(twin, after) {
		p.Fatalf("the changes do not lead from the Set before to that after")
	}
}

// invariants checks what must be after every commit, without the indexes.
func (p *player) invariants() {
	if _, err := p.set.Compile(); err != nil {
		p.Fatal(err)
	}
	state := compile(&p.set.model).state
	if err := state.Validate(); err != nil {
		p.Fatal(err)
	}
	all := map[Key]Resource{}
	for r := range p.set.All() {
		all[r.Metadata().Key] = r
	}
	taken := map[place]Key{}
	running := 0
	for k, r := range all {
		for _, to := range references(r) {
			if all[to] == nil {
				p.Fatalf("%s refers to %s, which is not there", k, to)
			}
		}
		vpcID, enis := enisOf(r)
		for _, e := range enis {
			at := place{k.Account, vpcID, e.Address}
			if other, twice := taken[at]; twice {
				p.Fatalf("%s has the address %s of %s", k, e.Address, other)
			}
			taken[at] = k
			subnet := all[Key{KindSubnet, k.Account, e.Subnet}].(*Subnet)
			if subnet.VPC != vpcID || !subnet.CIDR.Contains(e.Address) {
				p.Fatalf("%s has %s in %s", k, e.Address, subnet.CIDR)
			}
		}
		if e, ok := r.(*Endpoint); ok && e.running() {
			running++
			if s, there := p.set.service(e.ServiceUID); !there || s.Type != e.Type {
				p.Fatalf("%s runs without its service", k)
			}
		}
	}
	if len(state.Endpoints) > running {
		p.Fatalf("%d endpoints are run, and only %d should be", len(state.Endpoints), running)
	}
}

// references are the keys of the same account that a resource names, written down once more.
func references(r Resource) []Key {
	account := r.Metadata().Account
	var keys []Key
	add := func(kind Kind, ids ...string) {
		for _, id := range ids {
			keys = append(keys, Key{kind, account, id})
		}
	}
	switch r := r.(type) {
	case *VPC:
		add(KindSecurityGroup, r.DefaultSecurityGroup)
	case *Subnet:
		add(KindVPC, r.VPC)
	case *SecurityGroup:
		add(KindVPC, r.VPC)
		for _, rule := range r.Ingress {
			if rule.Group != "" {
				add(KindSecurityGroup, rule.Group)
			}
		}
	case *TargetGroup:
		add(KindVPC, r.Group.VPC)
	case *LoadBalancer:
		add(KindVPC, r.VPC)
		for _, l := range r.Listeners {
			add(KindTargetGroup, l.TargetGroup)
		}
	case *EndpointService:
		add(KindLoadBalancer, r.LoadBalancers...)
	case *Endpoint:
		add(KindVPC, r.VPC)
		add(KindSecurityGroup, r.SecurityGroups...)
	case *Attachment:
		add(KindSubnet, r.Subnet)
		if r.Endpoint != "" {
			add(KindEndpoint, r.Endpoint)
		}
	case *RouteTable:
		add(KindVPC, r.VPC)
		for _, route := range r.Routes {
			add(KindEndpoint, route.Endpoint)
		}
	}
	_, enis := enisOf(r)
	for _, e := range enis {
		add(KindSubnet, e.Subnet)
	}
	return keys
}

func enisOf(r Resource) (vpcID string, enis []SubnetAddress) {
	switch r := r.(type) {
	case *LoadBalancer:
		return r.VPC, r.Nodes
	case *Endpoint:
		return r.VPC, r.ENIs
	}
	return "", nil
}

// restored builds another Set of all there is: it must be the same, with all indexes.
func (p *player) restored() {
	cfg := p.set.Config()
	to := NewSet(cfg)
	tx := to.Begin(Env{Now: p.now, Actor: operator})
	for r := range p.set.All() {
		if err := tx.Restore(r); err != nil {
			p.Fatal(err)
		}
	}
	if err := tx.Check(); err != nil {
		p.Fatal(err)
	}
	to.Commit(tx, 0)
	sameSets(p, p.set, to)
	if !reflect.DeepEqual(p.set.Problems(), to.Problems()) {
		p.Fatalf("problems differ")
	}
}
