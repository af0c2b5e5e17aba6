// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// TestDefaultGroup comes with its VPC, and lets in whoever is in it.
func TestDefaultGroup(t *testing.T) {
	w := connected(t)
	v := get[*VPC](w, KindVPC, consumer, "main")
	g := get[*SecurityGroup](w, KindSecurityGroup, consumer, v.DefaultSecurityGroup)
	if !g.Default || g.VPC != "main" || g.ID != g.UID || !reflect.DeepEqual(g.Ingress, []Rule{{Protocol: "-1", Group: g.ID}}) {
		t.Errorf("default group %+v", g)
	}
	if got := w.endpoint("web").SecurityGroups; !reflect.DeepEqual(got, []string{g.ID}) {
		t.Errorf("an endpoint without groups is in %v", got)
	}
	w.create(asC, aVPC(func(*VPC) {}))
	other := get[*VPC](w, KindVPC, consumer, "other").DefaultSecurityGroup
	w.must(asC, func(t *Tx) error { return t.Delete(Key{KindVPC, consumer, "other"}, 0) })
	if _, ok := w.set.Get(Key{KindSecurityGroup, consumer, other}); ok {
		t.Error("the default group outlives its VPC")
	}
}

// TestReferencesByUID are replaced by the ids.
func TestReferencesByUID(t *testing.T) {
	w := connected(t)
	uid := func(kind Kind, account, id string) string { return get[Resource](w, kind, account, id).Metadata().UID }
	v := get[*VPC](w, KindVPC, consumer, "main")
	e := w.anEndpoint("x", "web", uid(KindSubnet, consumer, "a"))
	e.VPC, e.SecurityGroups = v.UID, []string{v.DefaultSecurityGroup}
	w.create(asC, e)
	if got := w.endpoint("x"); got.VPC != "main" || got.ENIs[0].Subnet != "a" {
		t.Errorf("got %+v", got)
	}
	lb := aBalancer("x", vpc.Network, uid(KindTargetGroup, provider, "web"), "a")
	w.create(asP, lb, aService("x", uid(KindLoadBalancer, provider, "nlb")))
	if got := get[*LoadBalancer](w, KindLoadBalancer, provider, "x"); got.Listeners[0].TargetGroup != "web" {
		t.Errorf("got %+v", got)
	}
	if got := get[*EndpointService](w, KindEndpointService, provider, "x"); got.LoadBalancers[0] != "nlb" {
		t.Errorf("got %+v", got)
	}
	for _, k := range []Key{{KindEndpoint, consumer, "x"}, {KindEndpoint, consumer, w.endpoint("x").UID}, {KindEndpoint, "", w.endpoint("x").UID}} {
		if r, ok := w.set.Get(k); !ok || r != Resource(w.endpoint("x")) {
			t.Errorf("%v is not found", k)
		}
	}
	for _, k := range []Key{{KindEndpoint, provider, w.endpoint("x").UID}, {KindVPC, "", w.endpoint("x").UID}, {KindEndpoint, "", "x"}, {}} {
		if _, ok := w.set.Get(k); ok {
			t.Errorf("%v is found", k)
		}
	}
}

func TestCallersKeepWhatIsTheirs(t *testing.T) {
	w := connected(t)
	mine := aVPC(func(v *VPC) { v.Tags = map[string]string{"a": "b"} })
	w.create(asC, mine)
	mine.Tags["a"], mine.CIDRs[0] = "c", prefix("10.7.0.0/16")
	kept := get[*VPC](w, KindVPC, consumer, "other")
	if kept.Tags["a"] != "b" || kept.CIDRs[0] != prefix("10.1.0.0/16") || mine.UID != "" {
		t.Errorf("kept %+v of %+v", kept, mine)
	}
}

func TestEtags(t *testing.T) {
	w := connected(t)
	e := w.endpoint("web")
	w.must(asC, func(t *Tx) error {
		n := Clone(e)
		n.Tags = map[string]string{"a": "b"}
		_, err := t.Update(n, e.Revision)
		return err
	})
	stale := broken{Aborted, "ETAG_MISMATCH", "IncorrectState", "etag"}
	expect(t, w.try(asC, func(t *Tx) error { _, err := t.Update(Clone(e), e.Revision); return err }), stale)
	expect(t, w.try(asC, func(t *Tx) error { return t.Delete(e.Key, e.Revision) }), stale)
	w.must(asC, func(t *Tx) error { return t.Delete(e.Key, w.endpoint("web").Revision) })
}

// TestNothingChanges where an update says what there is.
func TestNothingChanges(t *testing.T) {
	w := connected(t)
	w.now = w.now.Add(time.Hour)
	tx := w.begin(operator)
	for _, r := range everything(w.set) {
		n := r.clone()
		if e, ok := n.(*Endpoint); ok { // what is left out is what there is
			for i := range e.ENIs {
				e.ENIs[i].Address = netip.Addr{}
			}
		}
		if got, err := tx.Update(n, 0); err != nil || got != r {
			t.Errorf("%s: %v", r.Metadata().Key, err)
		}
	}
	if changes := tx.Changes(); len(changes) != 0 {
		t.Errorf("changed %v", changes[0].Key)
	}
}

func TestChanges(t *testing.T) {
	w := connected(t)
	tx := w.begin(asC)
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := tx.Create(aVPC(func(*VPC) {}))
	do(err)
	do(tx.Delete(Key{KindVPC, consumer, "other"}, 0))
	if n := len(tx.Changes()); n != 0 {
		t.Errorf("%d changes after one was undone", n)
	}
	do(tx.Delete(Key{KindEndpoint, consumer, "web"}, 0))
	do(tx.Delete(Key{KindRouteTable, consumer, "routes"}, 0))
	_, err = tx.Create(aSubnet(func(*Subnet) {}))
	do(err)
	changes := tx.Changes()
	if len(changes) != 3 || changes[0].Old != nil || changes[1].New.(*Endpoint).State != Deleting || changes[2].New != nil {
		t.Errorf("changes %+v", changes)
	}
	if w.endpoint("web").State != Available {
		t.Error("the Set has changed before the commit")
	}
	before := w.set.Snapshot()
	w.set.Commit(tx, 99)
	if got := get[*Subnet](w, KindSubnet, consumer, "d"); got.Revision != 99 || w.set.Revision() != 99 {
		t.Errorf("revision %d of %d", got.Revision, w.set.Revision())
	}
	if _, ok := before.Get(Key{KindSubnet, consumer, "d"}); ok || before.Revision() == 99 {
		t.Error("a snapshot has changed")
	}
}

func TestStaleTx(t *testing.T) {
	w := connected(t)
	one, two := w.begin(asC), w.begin(asC)
	w.set.Commit(one, 0)
	defer func() {
		if recover() == nil {
			t.Error("a stale Tx was committed")
		}
	}()
	w.set.Commit(two, 0)
}

// TestRestore puts all that there is into another Set, which is then the same.
func TestRestore(t *testing.T) {
	w := connected(t)
	w.must(asP, register(target(101, 80)))
	w.must(asP, deregister(target(101, 80)))
	w.create(asC, w.anEndpoint("waits", "web", "a"))
	to := newWorld(t, Config{})
	tx := to.begin(operator)
	for r := range w.set.All() {
		if err := tx.Restore(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Check(); err != nil {
		t.Fatal(err)
	}
	to.set.Commit(tx, 0)
	sameSets(t, w.set, to.set)
	if to.set.Revision() != w.set.Revision() || !reflect.DeepEqual(w.compile(), to.compile()) {
		t.Error("the restored Set compiles to something else")
	}
}

func TestRestoreErrors(t *testing.T) {
	w := connected(t)
	restore := func(r Resource) func(*world, *Tx) error {
		return func(_ *world, t *Tx) error { return errors.Join(t.Restore(r), t.Check()) }
	}
	const uid = "vpc-fffffffffffffffff"
	v := func(change func(*VPC)) Resource { return aVPC(func(v *VPC) { v.UID = uid; change(v) }) }
	judge(t, w, []rule{
		{"by its owner", asC, restore(v(func(*VPC) {})), broken{PermissionDenied, "NOT_OPERATOR", "UnauthorizedOperation", ""}},
		{"no uid", operator, restore(v(func(v *VPC) { v.UID = "" })), invalid("metadata.uid")},
		{"uid of another kind", operator, restore(v(func(v *VPC) { v.UID = "sg-fffffffffffffffff" })), invalid("metadata.uid")},
		{"uid taken", operator, restore(v(func(v *VPC) { v.UID = get[*VPC](w, KindVPC, provider, "main").UID })), broken{AlreadyExists, "UID_TAKEN", "InvalidParameterValue", "metadata.uid"}},
		{"another one's uid for an id", operator, restore(v(func(v *VPC) { v.ID = "vpc-eeeeeeeeeeeeeeeee" })), invalid("name")},
		{"there already", operator, restore(v(func(v *VPC) { v.ID = "main" })), broken{AlreadyExists, "RESOURCE_EXISTS", "InvalidParameterValue", "name"}},
		{"what no rule allows", operator, restore(v(func(v *VPC) { v.CIDRs = nil })), missing("cidrs")},
		{"attachment without subnet", operator, restore(with(tun(consumer, "x", "x", ""), func(a *Attachment) {
			a.UID, a.Device = "eni-attach-fffffffffffffffff", "x"
		})), gone(KindSubnet, "subnet")},
	})
	for name, c := range map[string]struct {
		r    Resource
		want broken
	}{
		"no account":         {v(func(v *VPC) { v.Account = "999999999999" }), gone(KindAccount, "name")},
		"dangling reference": {aSubnet(func(s *Subnet) { s.UID, s.VPC, s.ZoneID = "subnet-fffffffffffffffff", "x", "use1-az1" }), gone(KindVPC, "vpc")},
		"zone of another id": {aSubnet(func(s *Subnet) { s.UID, s.ZoneID = "subnet-fffffffffffffffff", "use1-az9" }), invalid("zone")},
		"endpoint of no service": {with(Clone(w.endpoint("web")), func(e *Endpoint) {
			e.ID, e.UID, e.ServiceUID, e.ENIs = "x", "vpce-fffffffffffffffff", "vpce-svc-fffffffffffffffff", []SubnetAddress{{"a", addr("10.0.1.77")}}
		}), broken{NotFound, "SERVICE_NOT_FOUND", "InvalidServiceName", "service_name"}},
		"address taken": {with(Clone(w.endpoint("web")), func(e *Endpoint) {
			e.ID, e.UID, e.ENIs = "x", "vpce-fffffffffffffffff", e.ENIs[:1]
		}), broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "enis[0].address"}},
		"service of other zones": {with(Clone(get[*EndpointService](w, KindEndpointService, provider, "web")), func(s *EndpointService) {
			s.ID, s.UID, s.Name, s.ZoneIDs = "x", "vpce-svc-fffffffffffffffff", "x.vpce-svc-fffffffffffffffff", []string{"use1-az1"}
		}), invalid("zone_ids")},
	} {
		tx := w.begin(operator)
		if err := tx.Restore(c.r); err != nil {
			t.Errorf("%s: not restored: %v", name, err)
		}
		t.Run(name, func(t *testing.T) { expect(t, tx.Check(), c.want) })
	}
}

// TestRestoreOfAnExport fills in what the API's messages do not have.
func TestRestoreOfAnExport(t *testing.T) {
	w := connected(t)
	e := Clone(w.endpoint("web"))
	want := w.endpoint("web")
	e.ServiceUID, e.Creator, e.Generation = "", "", 0
	w.must(asC, func(t *Tx) error { return t.Delete(e.Key, 0) })
	w.must(operator, func(t *Tx) error { return t.Removed(e.UID) })
	w.must(operator, func(t *Tx) error { return t.Restore(e) })
	got := Clone(w.endpoint("web"))
	got.Revision = want.Revision
	if !reflect.DeepEqual(got, want) {
		t.Errorf("restored %+v\nwant     %+v", got, want)
	}
}

func TestKinds(t *testing.T) {
	for _, k := range Kinds() {
		if got, ok := KindOf(k.Collection()); !ok || got != k {
			t.Errorf("%s: KindOf(%q) is %v", k, k.Collection(), got)
		}
		if k != KindAccount && (!k.isUID(k.UIDPrefix()+"0123456789abcdef0") || !uidForm.MatchString(k.UIDPrefix()+"0123456789abcdef0")) {
			t.Errorf("%s: no uid of its own", k)
		}
	}
	if _, ok := KindOf(""); ok {
		t.Error("the empty collection is one")
	}
	if KindVPC.isUID("vpce-0123456789abcdef0") || KindEndpoint.isUID("vpce-svc-0123456789abcdef0") || KindVPC.isUID("vpc-0123456789abcdef") {
		t.Error("UIDs of other kinds are taken")
	}
	if got := (Key{KindEndpointService, provider, "x"}).String(); got != "accounts/111111111111/endpointServices/x" {
		t.Errorf("name %q", got)
	}
	if got := (Key{KindAccount, provider, provider}).String(); got != "accounts/111111111111" {
		t.Errorf("name %q", got)
	}
}
