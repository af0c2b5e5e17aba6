// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// told is the endpoint that the dataplane is told, nil if it is not.
func told(w *world, id string) *vpc.Endpoint {
	w.t.Helper()
	s := w.compile()
	uid := w.endpoint(id).UID
	for i := range s.Endpoints {
		if s.Endpoints[i].ID == uid {
			return &s.Endpoints[i]
		}
	}
	return nil
}

func toldPort(w *world, account, id string) *vpc.Port {
	w.t.Helper()
	s := w.compile()
	uid := get[*Attachment](w, KindAttachment, account, id).UID
	for i := range s.Ports {
		if s.Ports[i].ID == uid {
			return &s.Ports[i]
		}
	}
	w.t.Fatalf("no port %s", id)
	return nil
}

func TestCompiledEndpoints(t *testing.T) {
	w := connected(t)
	uid := func(kind Kind, account, id string) string { return get[Resource](w, kind, account, id).Metadata().UID }
	main := get[*VPC](w, KindVPC, consumer, "main")
	want := &vpc.Endpoint{
		ID: w.endpoint("web").UID, Generation: 1, Service: uid(KindEndpointService, provider, "web"), VPC: main.UID,
		ENIs: []vpc.ENI{
			{Address: addr("10.0.1.4"), Zone: "use1-az1", Ports: []string{uid(KindAttachment, consumer, "clients")}},
			{Address: addr("10.0.2.4"), Zone: "use1-az2", Ports: []string{uid(KindAttachment, consumer, "clients-b")}},
		},
		SecurityGroups: []string{uid(KindSecurityGroup, consumer, main.DefaultSecurityGroup)}, Filtered: true,
		Bandwidth: vpc.Bandwidth{Rate: 10e9, Burst: 40e9, BurstTime: time.Second},
	}
	if got := told(w, "web"); !reflect.DeepEqual(got, want) {
		t.Errorf("interface endpoint %+v\nwant               %+v", got, want)
	}
	want = &vpc.Endpoint{
		ID: w.endpoint("inspect").UID, Type: vpc.GatewayLoadBalancer, Generation: 1,
		Service: uid(KindEndpointService, provider, "firewall"), VPC: main.UID,
		ENIs:      []vpc.ENI{{Address: addr("10.0.1.5"), Zone: "use1-az1", Ports: []string{uid(KindAttachment, consumer, "router")}}},
		Bandwidth: vpc.Bandwidth{Rate: 40e9, Burst: 40e9, BurstTime: time.Second},
	}
	if got := told(w, "inspect"); !reflect.DeepEqual(got, want) {
		t.Errorf("GWLB endpoint %+v\nwant          %+v", got, want)
	}
	if s := w.compile(); s.Revision != w.set.Revision() || len(s.LoadBalancers) != 2 || len(s.Services) != 2 || len(s.TargetGroups) != 2 {
		t.Errorf("state %+v", s)
	}
}

// TestStatesThatRun are Pending and Available alone.
func TestStatesThatRun(t *testing.T) {
	for state := range ways {
		w, _ := in(t, state)
		w.create(asC, tun(consumer, "clients", "a", ""))
		if got := told(w, "web") != nil; got != (state == Pending || state == Available) {
			t.Errorf("%s: runs: %v", state, got)
		}
		// Who still sends to its address reaches the dataplane in every state.
		if got := toldPort(w, consumer, "clients").Routes; !slices.Equal(got, []netip.Prefix{prefix("10.0.1.4/32")}) {
			t.Errorf("%s: routes %v", state, got)
		}
	}
}

func TestCompiledPorts(t *testing.T) {
	w := connected(t)
	w.create(asC, tap(consumer, "bridge", "a2", ""))
	w.create(asP, tun(provider, "server", "b", ""))
	if p := toldPort(w, consumer, "router"); len(p.Routes) != 0 ||
		!slices.Equal(p.TableRoutes, []vpc.TableRoute{{Destination: prefix("0.0.0.0/0"), Table: 100}, {Destination: prefix("::/0"), Table: 100}}) {
		t.Errorf("router %+v", p)
	}
	if p := toldPort(w, consumer, "bridge"); p.Kind != vpc.TAP || p.Subnet != prefix("10.0.4.0/24") || p.Bridge != "br-bridge" {
		t.Errorf("port without ENIs %+v", p)
	}
	if p := toldPort(w, provider, "server"); !slices.Equal(p.Routes, []netip.Prefix{prefix("10.0.2.4/32"), prefix("10.0.2.5/32")}) {
		t.Errorf("server %+v", p)
	}
	// A rejected next hop stops what is routed to it.
	w.must(asP, func(t *Tx) error {
		_, err := t.Reject(Key{KindEndpointService, provider, "firewall"}, []string{w.endpoint("inspect").UID})
		return err
	})
	if p := toldPort(w, consumer, "router"); len(p.TableRoutes) != 2 || told(w, "inspect") != nil {
		t.Errorf("router after the rejection %+v", p)
	}
}

// TestNextHopsOnBridges are reached through TAPs, if they have no attachment of their own.
func TestNextHopsOnBridges(t *testing.T) {
	w := connected(t)
	w.create(asC, w.anEndpoint("second", "firewall", "b"))
	w.accept("firewall", "second")
	ports := func() []string { return told(w, "second").ENIs[0].Ports }
	uid := func(id string) string { return get[*Attachment](w, KindAttachment, consumer, id).UID }
	if got := ports(); !slices.Equal(got, []string{uid("clients-b")}) {
		t.Errorf("on the subnet's TAP: %v", got)
	}
	w.create(asC, tun(consumer, "more", "b", ""), tap(consumer, "own", "b", "second"), tap(consumer, "own-2", "b", "second"))
	if got := ports(); !slices.Equal(got, []string{uid("own"), uid("own-2")}) {
		t.Errorf("on its own TAPs: %v", got)
	}
	if got := told(w, "web").ENIs[1].Ports; !slices.Equal(got, []string{uid("clients-b"), uid("more")}) {
		t.Errorf("the interface endpoint beside it: %v", got)
	}
}

func TestCompiledSecurityGroups(t *testing.T) {
	w := connected(t)
	w.create(asC,
		&SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "clients"), VPC: "main", Members: []netip.Prefix{prefix("10.0.1.77/32"), prefix("10.0.7.0/24")}},
		&SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "web"), VPC: "main", Ingress: []Rule{
			{Protocol: "tcp", FromPort: 80, ToPort: 81, CIDRs: []netip.Prefix{prefix("192.168.0.0/16")}},
			{Protocol: "-1", Group: "clients"},
			{Protocol: "tcp", FromPort: 22, ToPort: 22, Group: "web"},
		}})
	w.must(asC, func(t *Tx) error {
		e := Clone(w.endpoint("web"))
		e.SecurityGroups = []string{"web"}
		_, err := t.Update(e, 0)
		return err
	})
	want := []vpc.SecurityGroup{{ID: get[*SecurityGroup](w, KindSecurityGroup, consumer, "web").UID, Ingress: []vpc.SecurityRule{
		{FromPort: 80, ToPort: 81, Sources: []netip.Prefix{prefix("192.168.0.0/16")}},
		{ToPort: 65535, Sources: []netip.Prefix{prefix("10.0.1.77/32"), prefix("10.0.7.0/24")}},
		{FromPort: 22, ToPort: 22},
	}}}
	if got := w.compile().SecurityGroups; !reflect.DeepEqual(got, want) {
		t.Errorf("groups %+v\nwant   %+v", got, want)
	}
}

func TestBandwidths(t *testing.T) {
	w := connected(t)
	own := vpc.Bandwidth{Rate: 1e6, Burst: 2e6, BurstTime: time.Second / 2}
	w.must(asC, func(t *Tx) error {
		e := Clone(w.endpoint("web"))
		e.Bandwidth = own
		_, err := t.Update(e, 0)
		return err
	})
	if got := told(w, "web").Bandwidth; got != own {
		t.Errorf("own limit %v", got)
	}
	w.set.cfg.NoLimits = true
	if got := told(w, "web").Bandwidth; got != (vpc.Bandwidth{}) {
		t.Errorf("without limits %v", got)
	}
}

// TestProblems removes attachments: what cannot be reached is left out, and its owner is told.
func TestProblems(t *testing.T) {
	w := connected(t)
	problem := func(kind Kind, account, id, want string) {
		t.Helper()
		if got := w.set.Problems()[Key{kind, account, id}]; want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s %s: problem %q, want %q", kind, id, got, want)
		}
	}
	if p := w.set.Problems(); len(p) != 0 {
		t.Errorf("problems %v", p)
	}
	remove := func(a Actor, kind Kind, id string) {
		w.must(a, func(t *Tx) error { return t.Delete(Key{kind, a.Account, id}, 0) })
	}
	remove(asC, KindAttachment, "clients-b")
	if e := told(w, "web"); len(e.ENIs) != 1 || w.endpoint("web").State != Available {
		t.Errorf("in one of two subnets: %+v", e)
	}
	problem(KindEndpoint, consumer, "web", "no attachment reaches its address 10.0.2.4 in subnet b")
	remove(asC, KindAttachment, "clients")
	if e := told(w, "web"); e != nil {
		t.Errorf("in none of its subnets: %+v", e)
	}
	w.create(asC, tun(consumer, "clients", "a", ""), tun(consumer, "clients-b", "b", ""))
	problem(KindEndpoint, consumer, "web", "")

	remove(asP, KindAttachment, "b")
	if e := told(w, "web"); len(e.ENIs) != 1 {
		t.Errorf("with a node in one of two zones: %+v", e)
	}
	problem(KindEndpoint, consumer, "web", "the service has no load balancer in use1-az2 that is attached")
	problem(KindEndpointService, provider, "web", "no load balancer node in use1-az2")
	problem(KindLoadBalancer, provider, "nlb", "no attachment reaches its address 10.0.2.4 in subnet b")
	remove(asP, KindAttachment, "a")
	if s := w.compile(); len(s.Endpoints)+len(s.Services)+len(s.LoadBalancers)+len(s.TargetGroups) != 0 {
		t.Errorf("without attachments of the provider: %+v", s)
	}

	w.create(asP, tap(provider, "a", "a", ""), tap(provider, "b", "b", ""))
	remove(asC, KindAttachment, "router")
	problem(KindEndpoint, consumer, "inspect", "names it as its endpoint")
	problem(KindRouteTable, consumer, "routes", "endpoint inspect has no attachment in a namespace")
}

// TestCompileOfABrokenStore leaves out what leads nowhere. A store that was changed by hand may be like that.
func TestCompileOfABrokenStore(t *testing.T) {
	w := connected(t)
	all := everything(w.set)
	for skip := range all {
		to := newWorld(t, Config{})
		tx := to.begin(operator)
		for i, r := range all {
			if i != skip {
				if err := tx.Restore(r); err != nil && r.Metadata().Kind != KindAttachment {
					t.Fatal(err)
				}
			}
		}
		to.set.Commit(tx, 0)
		to.set.Problems()
		to.set.Compile() // may be refused, but comes back
	}
}

// TestCompileIsSteady compiles a Set twice, and once more after it was built in another order.
func TestCompileIsSteady(t *testing.T) {
	w := connected(t)
	if !reflect.DeepEqual(w.compile(), w.compile()) {
		t.Error("compiled twice, it differs")
	}
	to := newWorld(t, Config{})
	byKind := map[Kind][]Resource{}
	for r := range w.set.All() {
		byKind[r.Metadata().Kind] = append(byKind[r.Metadata().Kind], r)
	}
	to.must(operator, func(t *Tx) error {
		for _, k := range Kinds() {
			slices.Reverse(byKind[k])
			for _, r := range byKind[k] {
				if err := t.Restore(r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	got, want := to.compile(), w.compile()
	got.Revision = want.Revision
	if !reflect.DeepEqual(got, want) {
		t.Errorf("built in another order, it is\n%v\nwant\n%v", got, want)
	}
}

// large is a world of 200 services with 10,000 targets, and as many endpoints as is said.
func large(t testing.TB, endpoints int) *world {
	w := newWorld(t, Config{DefaultQuotas: Quotas{EndpointsPerVPC: 10000, LoadBalancers: 1000, EndpointServices: 1000}})
	for _, account := range []string{provider, consumer} {
		w.create(operator, &Account{Meta: meta(KindAccount, account, account)})
		w.create(Actor{Account: account}, &VPC{Meta: meta(KindVPC, account, "main"), CIDRs: []netip.Prefix{prefix("10.0.0.0/8")}},
			&Subnet{Meta: meta(KindSubnet, account, "a"), VPC: "main", CIDR: prefix("10.0.0.0/16"), Zone: "use1-az1"})
		w.create(Actor{Account: account}, tun(account, "all", "a", ""))
	}
	w.must(asP, func(t *Tx) error {
		for i := range 200 {
			id := fmt.Sprintf("s%03d", i)
			g := aGroup(id, vpc.Network)
			g.Group.Targets = nil
			for j := range 50 {
				g.Group.Targets = append(g.Group.Targets, vpc.Target{Address: netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j)}), Port: 80, Zone: "use1-az1"})
			}
			for _, r := range []Resource{g, aBalancer(id, vpc.Network, id, "a"), with(aService(id, id), func(s *EndpointService) { s.AutoAccept = true })} {
				if _, err := t.Create(r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	w.must(asC, func(t *Tx) error {
		for i := range endpoints {
			if _, err := t.Create(w.anEndpoint(fmt.Sprintf("e%04d", i), fmt.Sprintf("s%03d", i%200), "a")); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

func BenchmarkCompile(b *testing.B) {
	w := large(b, 1000)
	for b.Loop() {
		if s, err := w.set.Compile(); err != nil || len(s.Endpoints) != 1000 {
			b.Fatal(err)
		}
	}
}

// BenchmarkBuild builds all in transactions.
func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		large(b, 1000)
	}
}

// BenchmarkCreate is the 1,001st endpoint, with all that a transaction has.
func BenchmarkCreate(b *testing.B) {
	w := large(b, 1000)
	e := w.anEndpoint("new", "s007", "a")
	for b.Loop() {
		tx := w.begin(asC)
		if _, err := tx.Create(e); err != nil {
			b.Fatal(err)
		}
		if err := tx.Check(); err != nil {
			b.Fatal(err)
		}
		tx.Changes()
	}
}

// BenchmarkRegister is one target more for a group of 50.
func BenchmarkRegister(b *testing.B) {
	w := large(b, 1000)
	for b.Loop() {
		tx := w.begin(asP)
		if _, err := tx.RegisterTargets(Key{KindTargetGroup, provider, "s007"}, []vpc.Target{{Address: addr("10.9.9.9"), Port: 80, Zone: "use1-az1"}}); err != nil {
			b.Fatal(err)
		}
		if err := tx.Check(); err != nil {
			b.Fatal(err)
		}
	}
}
