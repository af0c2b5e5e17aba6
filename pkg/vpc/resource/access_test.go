// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"testing"
)

func TestPrincipals(t *testing.T) {
	w := shop(t)
	const arn = "arn:aws:iam::" + consumer
	for _, c := range []struct {
		name, allowed, account, principal string
		want                              bool
	}{
		{"anybody", "*", stranger, "", true},
		{"nobody named", "*", "", "", false},
		{"the account", arn + ":root", consumer, "", true},
		{"a user of the account", arn + ":root", consumer, arn + ":user/ann", true},
		{"another account", arn + ":root", stranger, "arn:aws:iam::" + stranger + ":root", false},
		{"another partition", "arn:aws-cn:iam::" + consumer + ":root", consumer, "", false},
		{"the user", arn + ":user/ann", consumer, arn + ":user/ann", true},
		{"another user", arn + ":user/ann", consumer, arn + ":user/bob", false},
		{"user in a path", arn + ":user/eng/ann", consumer, arn + ":user/ann", false},
		{"the account's root is no user", arn + ":user/ann", consumer, "", false},
		{"the root by its ARN is no user", arn + ":user/ann", consumer, arn + ":root", false},
		{"the role", arn + ":role/deploy", consumer, arn + ":role/deploy", true},
		{"session of the role", arn + ":role/deploy", consumer, "arn:aws:sts::" + consumer + ":assumed-role/deploy/run-7", true},
		{"session of the role in a path", arn + ":role/ci/deploy", consumer, "arn:aws:sts::" + consumer + ":assumed-role/deploy/run-7", true},
		{"session of another role", arn + ":role/deploy", consumer, "arn:aws:sts::" + consumer + ":assumed-role/deployer/run-7", false},
		{"session of another account", arn + ":role/deploy", stranger, "arn:aws:sts::" + stranger + ":assumed-role/deploy/run-7", false},
		{"session without a name", arn + ":role/deploy", consumer, "arn:aws:sts::" + consumer + ":assumed-role/deploy", false},
		{"session of a user", arn + ":user/deploy", consumer, "arn:aws:sts::" + consumer + ":assumed-role/deploy/run-7", false},
		{"the owner", arn + ":user/ann", provider, "arn:aws:iam::" + provider + ":user/eve", true},
	} {
		s := aService("x", "nlb")
		s.Principals = []string{c.allowed}
		if got := w.set.admits(s, c.account, c.principal); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestCreators are the principals that providers see, by whom they decide.
func TestCreators(t *testing.T) {
	w := shop(t)
	w.must(asP, func(t *Tx) error {
		s := Clone(get[*EndpointService](w, KindEndpointService, provider, "web"))
		s.Principals = []string{"arn:aws:iam::" + consumer + ":user/ann"}
		_, err := t.Update(s, 0)
		return err
	})
	ann := Actor{Account: consumer, Principal: "arn:aws:iam::" + consumer + ":user/ann"}
	bob := Actor{Account: consumer, Principal: "arn:aws:iam::" + consumer + ":user/bob"}
	none := broken{NotFound, "SERVICE_NOT_FOUND", "InvalidServiceName", "service_name"}
	create := func(w *world, t *Tx) error { _, err := t.Create(w.anEndpoint("x", "web", "a")); return err }
	judge(t, w, []rule{
		{"ann", ann, create, broken{}},
		{"bob", bob, create, none},
		{"the account itself", asC, create, none},
		{"an operator for the account", operator, create, none},
		{"ann as an operator", Actor{Account: consumer, Principal: ann.Principal, Operator: true}, create, broken{}},
	})
	w.create(ann, w.anEndpoint("x", "web", "a"))
	if c := w.endpoint("x").Creator; c != ann.Principal {
		t.Errorf("created by %q", c)
	}
	w.create(asC, w.anEndpoint("y", "firewall", "a"))
	if c := w.endpoint("y").Creator; c != "arn:aws:iam::"+consumer+":root" {
		t.Errorf("created by %q", c)
	}
}

func TestVisibility(t *testing.T) {
	w := connected(t)
	web, _ := w.set.Get(Key{KindEndpoint, consumer, "web"})
	service, _ := w.set.Get(Key{KindEndpointService, provider, "web"})
	lb, _ := w.set.Get(Key{KindLoadBalancer, provider, "nlb"})
	for _, c := range []struct {
		name string
		r    Resource
		who  Actor
		want bool
	}{
		{"own endpoint", web, asC, true},
		{"endpoint of an own service", web, asP, true},
		{"endpoint of others", web, asS, false},
		{"endpoint, to nobody", web, Actor{}, false},
		{"endpoint, to an operator", web, operator, true},
		{"own service", service, asP, true},
		{"service that allows it", service, asC, true},
		{"service that does not", service, asS, false},
		{"load balancer of a service that allows it", lb, asC, false},
	} {
		if got := w.set.Visible(c.who, c.r); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestOffers(t *testing.T) {
	w := connected(t)
	for account, want := range map[string]int{provider: 2, consumer: 2, stranger: 0, "": 0} {
		if got := w.set.Offers(account, ""); len(got) != want {
			t.Errorf("%s is offered %d services, want %d", account, len(got), want)
		}
	}
	s := get[*EndpointService](w, KindEndpointService, provider, "web")
	if found, ok := w.set.ServiceByName(s.Name); !ok || found != s || s.Name != "com.amazonaws.vpce.local-1."+s.UID {
		t.Errorf("%q leads to %v", s.Name, found)
	}
	if _, ok := w.set.ServiceByName("com.example." + s.UID); ok {
		t.Error("another name leads to the service")
	}
	if got := w.set.Connections(Key{KindEndpointService, provider, "web"}); len(got) != 1 || got[0].ID != "web" {
		t.Errorf("connections %v", got)
	}
	if got := w.set.CommonZones(s, consumer); len(got) != 2 {
		t.Errorf("common zones %v", got)
	}
	if got := w.set.CommonZones(s, "444444444444"); got != nil {
		t.Errorf("common zones without subnets %v", got)
	}
}

// TestZoneNames checks that zones are matched by id, whatever the accounts call them.
func TestZoneNames(t *testing.T) {
	w := shop(t)
	w.create(operator, &Account{Meta: meta(KindAccount, "", "444444444444"), Zones: map[string]string{"us-east-1a": "use1-az2", "us-east-1b": "use1-az9"}})
	as := Actor{Account: "444444444444"}
	subnet := func(id, zone, cidr string) *Subnet {
		return aSubnet(func(s *Subnet) { s.Account, s.ID, s.Zone, s.CIDR = as.Account, id, zone, prefix(cidr) })
	}
	w.create(as, network(as.Account, "10.0.0.0/16")[0], subnet("d", "us-east-1a", "10.0.1.0/24"), subnet("e", "us-east-1b", "10.0.2.0/24"))
	w.create(asP, with(aService("all", "nlb"), func(s *EndpointService) { s.Principals = []string{"*"} }))
	if got := get[*Subnet](w, KindSubnet, as.Account, "d").ZoneID; got != "use1-az2" {
		t.Errorf("us-east-1a is %s", got)
	}
	in := func(subnet string) func(*world, *Tx) error {
		return func(w *world, t *Tx) error {
			_, err := t.Create(with(w.anEndpoint("x", "all", subnet), func(e *Endpoint) { e.Account = as.Account }))
			return err
		}
	}
	judge(t, w, []rule{
		{"common zone", as, in("d"), broken{}},
		{"zone of the consumer alone", as, in("e"), broken{InvalidArgument, "ZONE_NOT_SERVED", "InvalidParameter", "enis[0].subnet"}},
	})
}

// TestNamespacesOfAccounts lets accounts attach where they may; operators may everywhere, also in the name of an account.
func TestNamespacesOfAccounts(t *testing.T) {
	w := newWorld(t, Config{MayAttach: func(account, netns string) bool {
		return account == consumer && netns == "/run/netns/mine"
	}})
	w.create(operator, &Account{Meta: meta(KindAccount, consumer, consumer)})
	w.create(asC, network(consumer, "10.0.0.0/16")...)
	attach := func(netns string) func(*world, *Tx) error {
		return func(_ *world, t *Tx) error {
			_, err := t.Create(&Attachment{Meta: meta(KindAttachment, consumer, "x"), Subnet: "a", Netns: netns})
			return err
		}
	}
	host := asC
	host.Host = true
	refused := broken{PermissionDenied, "NETNS_NOT_ALLOWED", "UnauthorizedOperation", "netns"}
	judge(t, w, []rule{
		{"one's own", asC, attach("/run/netns/mine"), broken{}},
		{"another's", asC, attach("/run/netns/other"), refused},
		{"the host's", asC, attach("/proc/1/ns/net"), refused},
		{"another's by an operator", operator, attach("/run/netns/other"), broken{}},
		{"another's by an operator as the account", host, attach("/run/netns/other"), broken{}},
	})
	w.create(asC, &Attachment{Meta: meta(KindAttachment, consumer, "x"), Subnet: "a", Netns: "/run/netns/mine"})
	judge(t, w, []rule{
		{"moved", asC, func(_ *world, t *Tx) error {
			a := Clone(get[*Attachment](w, KindAttachment, consumer, "x"))
			a.Netns = "/run/netns/other"
			_, err := t.Update(a, 0)
			return err
		}, refused},
	})
}
