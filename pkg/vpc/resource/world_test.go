// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

const (
	provider = "111111111111"
	consumer = "222222222222"
	stranger = "333333333333"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var (
	operator = Actor{Operator: true}
	asP      = Actor{Account: provider}
	asC      = Actor{Account: consumer}
	asS      = Actor{Account: stranger}
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// world is a Set with a clock, and identifiers that count.
type world struct {
	t   testing.TB
	set *Set
	now time.Time
	n   uint64
}

func newWorld(t testing.TB, cfg Config) *world {
	return &world{t: t, set: NewSet(cfg), now: start}
}

func (w *world) uid(prefix string) string {
	w.n++
	return fmt.Sprintf("%s%017x", prefix, w.n)
}

func (w *world) begin(a Actor) *Tx {
	return w.set.Begin(Env{Now: w.now, NewUID: w.uid, Actor: a})
}

// try does something and commits it if it is well.
func (w *world) try(a Actor, f func(*Tx) error) error {
	t := w.begin(a)
	if err := f(t); err != nil {
		return err
	}
	if err := t.Check(); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	w.set.Commit(t, w.set.Revision()+1)
	return nil
}

func (w *world) must(a Actor, f func(*Tx) error) {
	w.t.Helper()
	if err := w.try(a, f); err != nil {
		w.t.Fatal(err)
	}
}

// create makes resources, each in a transaction of its own.
func (w *world) create(a Actor, all ...Resource) {
	w.t.Helper()
	for _, r := range all {
		w.must(a, func(t *Tx) error { _, err := t.Create(r); return err })
	}
}

// get finds a resource that must be there.
func get[R Resource](w *world, kind Kind, account, id string) R {
	w.t.Helper()
	r, ok := w.set.Get(Key{kind, account, id})
	if !ok {
		w.t.Fatalf("there is no %s", Key{kind, account, id})
	}
	return r.(R)
}

func (w *world) endpoint(id string) *Endpoint {
	w.t.Helper()
	return get[*Endpoint](w, KindEndpoint, consumer, id)
}

func (w *world) compile() *vpc.State {
	w.t.Helper()
	s, err := w.set.Compile()
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func meta(kind Kind, account, id string) Meta {
	return Meta{Key: Key{Kind: kind, Account: account, ID: id}}
}

// check is a health check that is allowed.
var check = vpc.HealthCheck{
	Protocol: vpc.CheckTCP, Port: 80, Interval: 10 * time.Second, Timeout: 5 * time.Second, HealthyThreshold: 5, UnhealthyThreshold: 2,
}

func network(account, cidr string) []Resource {
	base := netip.MustParsePrefix(cidr)
	b := base.Addr().As4()
	sub := func(i byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{b[0], b[1], i, 0}), 24)
	}
	return []Resource{
		&VPC{Meta: meta(KindVPC, account, "main"), CIDRs: []netip.Prefix{base}},
		&Subnet{Meta: meta(KindSubnet, account, "a"), VPC: "main", CIDR: sub(1), Zone: "use1-az1"},
		&Subnet{Meta: meta(KindSubnet, account, "b"), VPC: "main", CIDR: sub(2), Zone: "use1-az2"},
		&Subnet{Meta: meta(KindSubnet, account, "c"), VPC: "main", CIDR: sub(3), Zone: "use1-az3"},
		&Subnet{Meta: meta(KindSubnet, account, "a2"), VPC: "main", CIDR: sub(4), Zone: "use1-az1"},
	}
}

// aGroup and the like are valid resources of the provider or the consumer.
func aGroup(id string, t vpc.LoadBalancerType) *TargetGroup {
	g := &TargetGroup{Meta: meta(KindTargetGroup, provider, id), Type: t, Group: vpc.TargetGroup{
		VPC: "main", HealthCheck: check, DeregistrationDelay: 300 * time.Second, TerminateOnUnhealthy: t == vpc.Network,
		Targets: []vpc.Target{{Address: addr("10.0.1.100"), Port: 8080, Zone: "use1-az1"}},
	}}
	if t == vpc.Gateway {
		g.Group.Targets[0].Port = 0
	}
	return g
}

func aBalancer(id string, t vpc.LoadBalancerType, group string, subnets ...string) *LoadBalancer {
	lb := &LoadBalancer{Meta: meta(KindLoadBalancer, provider, id), VPC: "main", Type: t,
		Listeners: []vpc.Listener{{Port: 80, TargetGroup: group, IdleTimeout: vpc.DefaultIdleTimeout}}}
	if t == vpc.Gateway {
		lb.Listeners[0].Port = 0
	}
	for _, s := range subnets {
		lb.Nodes = append(lb.Nodes, SubnetAddress{Subnet: s})
	}
	return lb
}

func aService(id string, balancers ...string) *EndpointService {
	return &EndpointService{Meta: meta(KindEndpointService, provider, id), LoadBalancers: balancers,
		Principals: []string{"arn:aws:iam::" + consumer + ":root"}}
}

func (w *world) anEndpoint(id, service string, subnets ...string) *Endpoint {
	e := &Endpoint{Meta: meta(KindEndpoint, consumer, id), VPC: "main", TypeOpen: true,
		Service: get[*EndpointService](w, KindEndpointService, provider, service).Name}
	for _, s := range subnets {
		e.ENIs = append(e.ENIs, SubnetAddress{Subnet: s})
	}
	return e
}

func tun(account, id, subnet, endpoint string) *Attachment {
	return &Attachment{Meta: meta(KindAttachment, account, id), Subnet: subnet, Netns: "/run/netns/" + account + id, Endpoint: endpoint}
}

func tap(account, id, subnet, endpoint string) *Attachment {
	a := tun(account, id, subnet, endpoint)
	a.Bridge = "br-" + id
	return a
}

// shop is a world with a provider of two services, web and firewall, in zones 1 and 2, and a consumer without endpoints.
func shop(t testing.TB) *world {
	w := newWorld(t, Config{})
	for _, account := range []string{provider, consumer, stranger} {
		w.create(operator, &Account{Meta: meta(KindAccount, account, account)})
	}
	w.create(asP, network(provider, "10.0.0.0/16")...)
	w.create(asC, network(consumer, "10.0.0.0/16")...)
	w.create(asS, network(stranger, "10.0.0.0/16")...)
	w.create(asP,
		aGroup("web", vpc.Network), aGroup("firewalls", vpc.Gateway),
		aBalancer("nlb", vpc.Network, "web", "a", "b"), aBalancer("gwlb", vpc.Gateway, "firewalls", "a", "b"),
		aService("web", "nlb"), aService("firewall", "gwlb"),
		tap(provider, "a", "a", ""), tap(provider, "b", "b", ""))
	return w
}

// accept lets an endpoint in, and has the dataplane run it.
func (w *world) accept(service, id string) {
	w.t.Helper()
	uid := w.endpoint(id).UID
	w.must(asP, func(t *Tx) error {
		_, err := t.Accept(Key{KindEndpointService, provider, service}, []string{uid})
		return err
	})
	w.must(operator, func(t *Tx) error { return t.Provisioned(uid) })
}

// connected is a shop whose consumer has the endpoints web, in zones 1 and 2, and inspect, which is the next hop of a route.
func connected(t testing.TB) *world {
	w := shop(t)
	w.create(asC, w.anEndpoint("web", "web", "a", "b"), w.anEndpoint("inspect", "firewall", "a"),
		tun(consumer, "clients", "a", ""), tap(consumer, "clients-b", "b", ""), tun(consumer, "router", "a", "inspect"),
		&RouteTable{Meta: meta(KindRouteTable, consumer, "routes"), VPC: "main", Table: 100,
			Routes: []Route{{prefix("0.0.0.0/0"), "inspect"}, {prefix("::/0"), "inspect"}}})
	w.accept("web", "web")
	w.accept("firewall", "inspect")
	return w
}

// broken is one rule that was broken.
type broken struct {
	code   Code
	reason string
	ec2    string
	field  string
}

// errorsOf takes an error of a Tx apart.
func errorsOf(err error) []*Error {
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		var all []*Error
		for _, e := range joined.Unwrap() {
			all = append(all, errorsOf(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return []*Error{e}
	}
	return nil
}

// expect checks that an error has one broken rule, and no other reasons.
func expect(t *testing.T, err error, want broken) {
	t.Helper()
	all := errorsOf(err)
	if len(all) == 0 {
		t.Errorf("got %v, want %+v", err, want)
	}
	found := false
	for _, e := range all {
		got := broken{e.Code, e.Reason, e.EC2, e.Field}
		found = found || got == want
		if e.Problem == "" || strings.Contains(e.Problem, "%!") {
			t.Errorf("%+v: problem %q", got, e.Problem)
		}
	}
	if !found || len(all) > 2 {
		t.Errorf("got %v:", want)
		for _, e := range all {
			t.Errorf("  %+v: %s", broken{e.Code, e.Reason, e.EC2, e.Field}, e.Problem)
		}
	}
}

// everything is all resources of a Set, to compare it.
func everything(s *Set) []Resource { return slices.Collect(s.All()) }

// sameSets compares sets with all that their indexes have.
func sameSets(t interface {
	Helper()
	Errorf(string, ...any)
}, a, b *Set) {
	t.Helper()
	if !reflect.DeepEqual(everything(a), everything(b)) {
		t.Errorf("resources differ")
	}
	same := func(what string, x, y any) {
		if !reflect.DeepEqual(x, y) {
			t.Errorf("%s differ:\n%v\n%v", what, x, y)
		}
	}
	same("claims", dump(a.claims), dump(b.claims))
	same("edges", dump(a.edges), dump(b.edges))
	same("deadlines", dump(a.deadlines), dump(b.deadlines))
	same("counters", [2]int{a.enis, a.targets}, [2]int{b.enis, b.targets})
	unordered := func(s *Set) map[place]map[tenant]bool {
		out := map[place]map[tenant]bool{}
		for p, tenants := range s.places.all() {
			out[p] = map[tenant]bool{}
			for _, t := range tenants {
				out[p][t] = true
			}
		}
		return out
	}
	same("places", unordered(a), unordered(b))
}

func dump[K interface {
	comparable
	ordered[K]
}, V any](t tree[K, V]) map[K]any {
	out := map[K]any{}
	for k, v := range t.all() {
		out[k] = v
	}
	return out
}
