// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// operation is what a player does, with what it draws. Who it is for is an account, or the system; empty: everybody.
type operation struct {
	name string
	by   string
	do   func(*player, *Tx) error
}

var operations = []operation{
	{"create", "", (*player).create},
	{"update", "", (*player).update},
	{"delete", "", (*player).delete},
	{"accept", provider, func(p *player, tx *Tx) error {
		s, uids := p.connection(tx)
		_, err := tx.Accept(s, uids)
		return err
	}},
	{"reject", provider, func(p *player, tx *Tx) error {
		s, uids := p.connection(tx)
		_, err := tx.Reject(s, uids)
		return err
	}},
	{"provisioned", "system", func(p *player, tx *Tx) error { return tx.Provisioned(p.anyUID(tx, Pending)) }},
	{"fail", "system", func(p *player, tx *Tx) error { return tx.Fail(p.anyUID(tx, Available), "drawn") }},
	{"removed", "system", func(p *player, tx *Tx) error { return tx.Removed(p.anyUID(tx, Deleting)) }},
	{"tick", "system", func(p *player, tx *Tx) error {
		if next := tx.Tick(); !next.IsZero() && !next.After(p.now) {
			p.Fatalf("at %s the next is due at %s", p.now, next)
		}
		return nil
	}},
	{"register", provider, func(p *player, tx *Tx) error {
		_, err := tx.RegisterTargets(Key{KindTargetGroup, p.account(), "a"}, p.targets(80))
		return err
	}},
	{"deregister", provider, func(p *player, tx *Tx) error {
		_, err := tx.DeregisterTargets(Key{KindTargetGroup, p.account(), "a"}, p.targets(80)[:1])
		return err
	}},
}

// seldom is true once in a while, to do something that is wrong.
func (p *player) seldom() bool { return rapid.IntRange(0, 15).Draw(p.T, "seldom") == 7 }

// account is the player's own, but seldom.
func (p *player) account() string {
	if a := p.actor.Account; a != "" && a != stranger && !p.seldom() {
		return a
	}
	return rapid.SampledFrom([]string{provider, consumer}).Draw(p.T, "account")
}

// vpcID is that of the VPC that is there from the beginning, but seldom.
func (p *player) vpcID() string {
	if p.seldom() {
		return p.id()
	}
	return "a"
}

// pair is one of two ids, which things have that are there from the beginning.
func (p *player) pair() string {
	if p.seldom() {
		return p.id()
	}
	return rapid.SampledFrom([]string{"a", "b"}).Draw(p.T, "pair")
}

func (p *player) id() string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(p.T, "id")
}

// ids are one or two, seldom the same.
func (p *player) ids() []string {
	if rapid.Bool().Draw(p.T, "one") {
		return []string{p.pair()}
	}
	return []string{"a", p.pair()}
}

func (p *player) enis() (list []SubnetAddress) {
	for _, id := range p.ids() {
		e := SubnetAddress{Subnet: id}
		if rapid.IntRange(0, 5).Draw(p.T, "chosen") == 0 {
			e.Address = netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(1, 2).Draw(p.T, "net")), byte(rapid.IntRange(3, 15).Draw(p.T, "host"))})
		}
		list = append(list, e)
	}
	return list
}

func (p *player) targets(port uint16) (list []vpc.Target) {
	if p.seldom() {
		port = 81
	}
	for range rapid.IntRange(1, 3).Draw(p.T, "targets") {
		list = append(list, vpc.Target{
			Address: netip.AddrFrom4([4]byte{10, 0, 1, byte(rapid.IntRange(8, 18).Draw(p.T, "target"))}),
			Port:    port,
		})
	}
	return list
}

// connection is a service, and endpoints that are most often its own.
func (p *player) connection(tx *Tx) (Key, []string) {
	s := Key{KindEndpointService, provider, p.pair()}
	r, _ := tx.Get(s)
	service, ok := r.(*EndpointService)
	if !ok || p.seldom() {
		return s, []string{p.anyUID(tx)}
	}
	var uids []string
	for e := range tx.model.connections(service) {
		if len(uids) == 0 || rapid.Bool().Draw(p.T, "more") {
			uids = append(uids, e.UID)
		}
	}
	return s, uids
}

// anyUID is that of an endpoint in one of some states, if there is one and but seldom.
func (p *player) anyUID(tx *Tx, states ...EndpointState) string {
	uids, wanted := []string{"vpce-00000000000000000"}, []string(nil)
	for _, r := range tx.List(KindEndpoint, "") {
		e := r.(*Endpoint)
		uids = append(uids, e.UID)
		if slices.Contains(states, e.State) {
			wanted = append(wanted, e.UID)
		}
	}
	if len(wanted) > 0 && !p.seldom() {
		uids = wanted
	}
	return rapid.SampledFrom(uids).Draw(p.T, "uid")
}

// anyOf is a resource that there is, or nil.
func (p *player) anyOf(tx *Tx) Resource {
	kind := rapid.SampledFrom(Kinds()).Draw(p.T, "kind")
	all := tx.List(kind, p.account())
	if len(all) == 0 {
		return nil
	}
	return rapid.SampledFrom(all).Draw(p.T, "resource")
}

func (p *player) delete(tx *Tx) error {
	k := Key{KindEndpoint, "", p.anyUID(tx, Pending, Available)}
	if r := p.anyOf(tx); r != nil && rapid.Bool().Draw(p.T, "another") {
		k = r.Metadata().Key
	}
	return tx.Delete(k, 0)
}

func (p *player) create(tx *Tx) error {
	_, err := tx.Create(p.draw(tx, rapid.SampledFrom(append(Kinds(), KindEndpoint, KindEndpoint, KindEndpoint)).Draw(p.T, "kind")))
	return err
}

// update makes a resource another one that was drawn, or leaves it and changes its tags.
func (p *player) update(tx *Tx) error {
	r := p.anyOf(tx)
	if r == nil {
		return notFound(Key{KindVPC, provider, "x"})
	}
	n := r.clone()
	if rapid.Bool().Draw(p.T, "tags") {
		n.Metadata().Tags = map[string]string{p.id(): p.id()}
	} else {
		n = p.draw(tx, r.kind())
		n.Metadata().Key = r.Metadata().Key
		if a, ok := n.(*Endpoint); ok {
			a.VPC, a.Service, a.TypeOpen = r.(*Endpoint).VPC, r.(*Endpoint).Service, true
		}
	}
	_, err := tx.Update(n, 0)
	return err
}

// draw draws a resource; many are wrong in one way or another.
func (p *player) draw(tx *Tx, kind Kind) Resource {
	m := meta(kind, p.account(), p.id())
	switch kind {
	case KindAccount:
		return &Account{Meta: meta(kind, stranger, stranger), DisplayName: p.id()}
	case KindVPC:
		return &VPC{Meta: m, CIDRs: []netip.Prefix{rapid.SampledFrom([]netip.Prefix{prefix("10.0.0.0/16"), prefix("10.0.0.0/22")}).Draw(p.T, "cidr")}}
	case KindSubnet:
		return &Subnet{Meta: m, VPC: p.vpcID(), CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(1, 5).Draw(p.T, "net")), 0}), 28),
			Zone: rapid.SampledFrom([]string{"z1", "z2", "z3"}).Draw(p.T, "zone")}
	case KindSecurityGroup:
		g := &SecurityGroup{Meta: m, VPC: p.vpcID(), Members: []netip.Prefix{prefix("10.0.1.5/32")}}
		if rapid.Bool().Draw(p.T, "rule") {
			g.Ingress = []Rule{{Protocol: "tcp", Group: p.id()}}
		}
		return g
	case KindTargetGroup:
		t := vpc.LoadBalancerType(rapid.IntRange(0, 1).Draw(p.T, "type"))
		g := aGroup("", t)
		g.Meta, g.Group.VPC, g.Group.Targets = m, p.vpcID(), p.targets(80*uint16(1-t))
		g.Group.DeregistrationDelay = time.Duration(rapid.IntRange(0, 2).Draw(p.T, "delay")) * time.Minute
		return g
	case KindLoadBalancer:
		lb := aBalancer("", vpc.LoadBalancerType(rapid.IntRange(0, 1).Draw(p.T, "type")), p.pair())
		lb.Meta, lb.VPC, lb.Nodes = m, p.vpcID(), p.enis()
		return lb
	case KindEndpointService:
		return &EndpointService{Meta: m, LoadBalancers: p.ids(), AutoAccept: rapid.Bool().Draw(p.T, "auto"), Principals: []string{"*"}}
	case KindEndpoint:
		e := &Endpoint{Meta: m, VPC: p.vpcID(), TypeOpen: true, ENIs: p.enis(), Service: "none"}
		if services := tx.List(KindEndpointService, ""); len(services) > 0 {
			e.Service = rapid.SampledFrom(services).Draw(p.T, "service").(*EndpointService).Name
		}
		return e
	case KindAttachment:
		a := tun(m.Account, m.ID, p.pair(), "")
		if rapid.Bool().Draw(p.T, "tap") {
			a.Bridge = "br"
		} else {
			a.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(rapid.IntRange(4, 14).Draw(p.T, "host"))}), 24)}
		}
		if rapid.IntRange(0, 2).Draw(p.T, "own") == 0 {
			a.Endpoint = p.id()
		}
		return a
	default:
		return &RouteTable{Meta: m, VPC: p.vpcID(), Table: uint32(rapid.IntRange(0, 2).Draw(p.T, "table")), Routes: []Route{{prefix("0.0.0.0/0"), p.id()}}}
	}
}
