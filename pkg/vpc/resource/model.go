// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// model is all resources and the indexes over them. It is made of trees that never change, so that a copy of it is a
// snapshot: a Set has one, a Tx another one that began as a copy.
type model struct {
	cfg       *Config
	resources tree[Key, Resource]
	claims    tree[claim, Key]
	edges     tree[edge, struct{}]
	places    tree[place, []tenant]
	deadlines tree[deadline, struct{}]

	enis, targets int // of all, for the limits of the dataplane
}

// claim is something that one resource has and no other may: a UID, a device.
type claim string

func (c claim) compare(d claim) int { return strings.Compare(string(c), string(d)) }

// edge says that a resource refers to another one. Services are referred to by UID, across accounts; see serviceKey.
type edge struct{ to, from Key }

func (e edge) compare(f edge) int {
	if c := e.to.compare(f.to); c != 0 {
		return c
	}
	return e.from.compare(f.from)
}

// place is an address of a VPC.
type place struct {
	account, vpc string
	address      netip.Addr
}

func (p place) compare(q place) int {
	if c := strings.Compare(p.account, q.account); c != 0 {
		return c
	}
	if c := strings.Compare(p.vpc, q.vpc); c != 0 {
		return c
	}
	return p.address.Compare(q.address)
}

// role is what an address is to a resource.
type role uint8

const (
	roleENI     role = iota + 1 // the dataplane's: of an endpoint or a node
	roleHost                    // the kernel's in an attachment's namespace
	roleGateway                 // next hop of a bridge
	roleTarget
	roleMember // of a security group
)

// tenant is who has an address, and as what.
type tenant struct {
	key  Key
	role role
}

// tenancy is a tenant and its place.
type tenancy struct {
	place
	tenant
}

func (t tenancy) compare(u tenancy) int {
	if c := t.place.compare(u.place); c != 0 {
		return c
	}
	if c := t.key.compare(u.key); c != 0 {
		return c
	}
	return int(t.role) - int(u.role)
}

// deadline is when the passing of time changes a resource.
type deadline struct {
	at  time.Time
	key Key
}

func (d deadline) compare(e deadline) int {
	if c := d.at.Compare(e.at); c != 0 {
		return c
	}
	return d.key.compare(e.key)
}

// entries are what the indexes say of one resource. Lists may name things twice and are in no order.
type entries struct {
	claims    []claim
	edges     []edge
	tenancies []tenancy
	deadlines []deadline

	enis, targets int
}

// refer adds an edge to a resource of the same account, if id names one.
func (x *entries) refer(from Key, kind Kind, id string) {
	if id != "" {
		x.edges = append(x.edges, edge{to: Key{kind, from.Account, id}, from: from})
	}
}

// occupy adds an address of a VPC of the same account, if there is one.
func (x *entries) occupy(by Key, as role, vpc string, a netip.Addr) {
	if a.IsValid() {
		x.tenancies = append(x.tenancies, tenancy{place{by.Account, vpc, a}, tenant{by, as}})
	}
}

// entriesOf are the entries of a resource, none for nil.
func (m *model) entriesOf(r Resource) *entries {
	x := &entries{}
	if r == nil {
		return x
	}
	if meta := r.Metadata(); meta.UID != "" {
		x.claims = append(x.claims, claim("uid "+meta.UID))
	}
	r.index(m, x)
	return x
}

// replace puts a resource in the place of an earlier one; either may be nil. It says what the new one claims that another
// one has, and then has changed nothing. What an attachment is indexed by needs its subnet, which must be there.
func (m *model) replace(old, r Resource) (taken claim, by Key, ok bool) {
	was, is := m.entriesOf(old), m.entriesOf(r)
	var key Key
	if r != nil {
		key = r.Metadata().Key
	} else {
		key = old.Metadata().Key
	}
	for _, c := range is.claims {
		if by, found := m.claims.get(c); found && by != key {
			return c, by, false
		}
	}
	differences(was.claims, is.claims,
		func(c claim) { m.claims = m.claims.remove(c) }, func(c claim) { m.claims = m.claims.put(c, key) })
	differences(was.edges, is.edges,
		func(e edge) { m.edges = m.edges.remove(e) }, func(e edge) { m.edges = m.edges.put(e, struct{}{}) })
	differences(was.deadlines, is.deadlines,
		func(d deadline) { m.deadlines = m.deadlines.remove(d) }, func(d deadline) { m.deadlines = m.deadlines.put(d, struct{}{}) })
	differences(was.tenancies, is.tenancies, m.vacate, m.occupy)
	m.enis += is.enis - was.enis
	m.targets += is.targets - was.targets
	if r != nil {
		m.resources = m.resources.put(key, r)
	} else {
		m.resources = m.resources.remove(key)
	}
	return "", Key{}, true
}

func (m *model) occupy(t tenancy) {
	tenants, _ := m.places.get(t.place)
	m.places = m.places.put(t.place, append(slices.Clone(tenants), t.tenant))
}

func (m *model) vacate(t tenancy) {
	tenants, _ := m.places.get(t.place)
	if len(tenants) == 1 {
		m.places = m.places.remove(t.place)
		return
	}
	rest := slices.DeleteFunc(slices.Clone(tenants), func(u tenant) bool { return u == t.tenant })
	m.places = m.places.put(t.place, rest)
}

// differences calls remove for what is in was alone and add for what is in is alone. It sorts its arguments.
func differences[K ordered[K]](was, is []K, remove, add func(K)) {
	order := func(a, b K) int { return a.compare(b) }
	equal := func(a, b K) bool { return a.compare(b) == 0 }
	slices.SortFunc(was, order)
	slices.SortFunc(is, order)
	was, is = slices.CompactFunc(was, equal), slices.CompactFunc(is, equal)
	for len(was) > 0 || len(is) > 0 {
		c := 0
		switch {
		case len(is) == 0:
			c = -1
		case len(was) == 0:
			c = 1
		default:
			c = was[0].compare(is[0])
		}
		switch {
		case c < 0:
			remove(was[0])
			was = was[1:]
		case c > 0:
			add(is[0])
			is = is[1:]
		default:
			was, is = was[1:], is[1:]
		}
	}
}

// get finds a resource by its key, which may have the UID for an ID and, then, no account.
func (m *model) get(k Key) (Resource, bool) {
	if r, ok := m.resources.get(k); ok {
		return r, true
	}
	if !k.Kind.isUID(k.ID) {
		return nil, false
	}
	found, ok := m.claims.get(claim("uid " + k.ID))
	if !ok || found.Kind != k.Kind || k.Account != "" && found.Account != k.Account {
		return nil, false
	}
	return m.resources.get(found)
}

// lookup is get of a certain type.
func lookup[R Resource](m *model, kind Kind, account, id string) (R, bool) {
	r, _ := m.get(Key{kind, account, id})
	typed, ok := r.(R)
	return typed, ok
}

// list goes through the resources of a kind, of one account or, without one, of all.
func (m *model) list(kind Kind, account string) iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for k, r := range m.resources.from(Key{Kind: kind, Account: account}) {
			if k.Kind != kind || account != "" && k.Account != account || !yield(r) {
				return
			}
		}
	}
}

// count is how many resources of a kind an account has.
func (m *model) count(kind Kind, account string) int {
	return m.resources.rank(Key{Kind: kind, Account: account + "\x00"}) - m.resources.rank(Key{Kind: kind, Account: account})
}

// countAll is how many resources of a kind there are.
func (m *model) countAll(kind Kind) int {
	return m.resources.rank(Key{Kind: kind + 1}) - m.resources.rank(Key{Kind: kind})
}

// users goes through the resources of a kind that refer to one.
func (m *model) users(to Key, kind Kind) iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for e := range m.edges.from(edge{to, Key{Kind: kind}}) {
			if e.to != to || e.from.Kind != kind {
				return
			}
			if r, ok := m.resources.get(e.from); ok && !yield(r) {
				return
			}
		}
	}
}

// countUsers is how many resources of a kind refer to one.
func (m *model) countUsers(to Key, kind Kind) int {
	return m.edges.rank(edge{to, Key{Kind: kind + 1}}) - m.edges.rank(edge{to, Key{Kind: kind}})
}

// serviceKey is how edges name an endpoint service.
func serviceKey(uid string) Key { return Key{Kind: KindEndpointService, ID: uid} }

// service finds an endpoint service by its UID.
func (m *model) service(uid string) (*EndpointService, bool) {
	return lookup[*EndpointService](m, KindEndpointService, "", uid)
}

// serviceByName finds an endpoint service by the name that consumers know: its UID is the last part.
func (m *model) serviceByName(name string) (*EndpointService, bool) {
	s, ok := m.service(name[strings.LastIndexByte(name, '.')+1:])
	return s, ok && s.Name == name
}

// connections are the endpoints of a service.
func (m *model) connections(s *EndpointService) iter.Seq[*Endpoint] {
	return func(yield func(*Endpoint) bool) {
		for r := range m.users(serviceKey(s.UID), KindEndpoint) {
			if !yield(r.(*Endpoint)) {
				return
			}
		}
	}
}
