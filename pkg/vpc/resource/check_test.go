// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"slices"
	"strings"
	"testing"
)

// TestCheckFindsWhatIsMissing restores all but one resource, one after the other: Check must complain if and only if
// another one needs that.
func TestCheckFindsWhatIsMissing(t *testing.T) {
	w := connected(t)
	all := everything(w.set)
	for _, left := range all {
		k := left.Metadata().Key
		needed := func(r Resource) bool {
			if e, ok := r.(*Endpoint); ok {
				if s, is := left.(*EndpointService); is && e.ServiceUID == s.UID {
					return true
				}
			}
			return k.Kind == KindAccount && r.Metadata().Account == k.Account || slices.Contains(references(r), k)
		}
		to := newWorld(t, Config{})
		tx := to.begin(operator)
		refused := false
		for _, r := range all {
			if r != left {
				refused = tx.Restore(r) != nil || refused
			}
		}
		err := tx.Check()
		if got, want := err != nil || refused, slices.ContainsFunc(all, func(r Resource) bool { return r != left && needed(r) }); got != want {
			t.Errorf("without %s: complains: %v, want %v: %v", k, got, want, err)
		}
		for _, e := range errorsOf(err) {
			if e.Resource == (Key{}) || e.Field == "" {
				t.Errorf("without %s: %v does not say where", k, e)
			}
		}
	}
}

// TestNothingNewOfADeletingEndpoint refuses routes and attachments that would keep it from going.
func TestNothingNewOfADeletingEndpoint(t *testing.T) {
	w := shop(t)
	w.create(asC, w.anEndpoint("inspect", "firewall", "a"))
	w.accept("firewall", "inspect")
	w.must(asC, func(t *Tx) error { return t.Delete(Key{KindEndpoint, consumer, "inspect"}, 0) })
	judge(t, w, []rule{
		{"route", asC, creating(&RouteTable{Meta: meta(KindRouteTable, consumer, "r"), VPC: "main", Routes: []Route{{prefix("0.0.0.0/0"), "inspect"}}}),
			broken{FailedPrecondition, "ENDPOINT_DELETING", "IncorrectState", "routes[0].endpoint"}},
		{"attachment", asC, creating(tun(consumer, "r", "a", "inspect")), broken{FailedPrecondition, "ENDPOINT_DELETING", "IncorrectState", "endpoint"}},
		{"its subnet", asC, deleting(KindSubnet, consumer, "a"), inUse("SUBNET_IN_USE")},
	})
	w.must(operator, func(t *Tx) error { return t.Removed(get[*Endpoint](w, KindEndpoint, consumer, "inspect").UID) })
	w.must(asC, func(t *Tx) error { return t.Delete(Key{KindSubnet, consumer, "a"}, 0) })
}

// TestOthersAreNotNamed in what an account is told.
func TestOthersAreNotNamed(t *testing.T) {
	w := connected(t)
	a := get[*Attachment](w, KindAttachment, consumer, "clients")
	copied := with(tun(provider, "x", "a", ""), func(n *Attachment) { n.Netns, n.Device = a.Netns, a.Device })
	for who, names := range map[*Actor]bool{&asP: false, &operator: true} {
		err := creating(copied)(w, w.begin(*who))
		if err == nil || strings.Contains(err.Error(), consumer+"/attachments") != names {
			t.Errorf("%+v is told: %v", *who, err)
		}
	}
	for name, f := range map[string]func(*Tx) error{
		"create": func(t *Tx) error {
			_, err := t.Create(&VPC{Meta: meta(KindVPC, consumer, "x"), CIDRs: get[*VPC](w, KindVPC, consumer, "main").CIDRs})
			return err
		},
		"update":            func(t *Tx) error { _, err := t.Update(get[*VPC](w, KindVPC, consumer, "main"), 0); return err },
		"update by uid":     func(t *Tx) error { return t.Delete(Key{KindVPC, "", get[*VPC](w, KindVPC, consumer, "main").UID}, 0) },
		"delete":            func(t *Tx) error { return t.Delete(Key{KindVPC, consumer, "main"}, 0) },
		"delete a ghost":    func(t *Tx) error { return t.Delete(Key{KindVPC, consumer, "ghost"}, 0) },
		"delete a kind":     func(t *Tx) error { return t.Delete(Key{99, consumer, "ghost"}, 0) },
		"register":          func(t *Tx) error { _, err := t.RegisterTargets(Key{KindTargetGroup, consumer, "x"}, nil); return err },
		"with no account":   func(t *Tx) error { _, err := t.Create(&VPC{}); return err },
		"account of others": func(t *Tx) error { return t.Delete(Key{KindAccount, consumer, consumer}, 0) },
	} {
		all := errorsOf(f(w.begin(asS)))
		if len(all) != 1 || all[0].Code != NotFound || all[0].Reason != "RESOURCE_NOT_FOUND" {
			t.Errorf("%s: %v", name, all)
		}
	}
	if err := creating(&VPC{Meta: meta(KindVPC, "999999999999", "x")})(w, w.begin(operator)); err == nil || !strings.Contains(err.Error(), "have an operator create it") {
		t.Errorf("resource of no account: %v", err)
	}
}

// TestUIDsAreNotUsedTwice although their source repeats itself.
func TestUIDsAreNotUsedTwice(t *testing.T) {
	w := connected(t)
	taken := []string{w.endpoint("web").UID, "vpce-f" + w.endpoint("web").UID[len("vpce-")+1:], "no uid", "vpce-fffffffffffffffff"}
	give := func(string) string { uid := taken[0]; taken = taken[min(1, len(taken)-1):]; return uid }
	tx := w.set.Begin(Env{Now: w.now, NewUID: give, Actor: asC})
	r, err := tx.Create(w.anEndpoint("x", "web", "a"))
	if err != nil || r.Metadata().UID != "vpce-fffffffffffffffff" {
		t.Fatalf("got %v, %v", r, err)
	}
	_, err = tx.Create(w.anEndpoint("y", "web", "a"))
	expect(t, err, broken{AlreadyExists, "UID_TAKEN", "InternalError", "metadata.uid"})
}

func TestLists(t *testing.T) {
	w := connected(t)
	ids := func(list []Resource) (out []string) {
		for _, r := range list {
			out = append(out, r.Metadata().Account[:1]+r.Metadata().ID)
		}
		return out
	}
	if got := ids(w.set.List(KindAttachment, "")); !slices.Equal(got, []string{"1a", "1b", "2clients", "2clients-b", "2router"}) {
		t.Errorf("all attachments: %v", got)
	}
	if got := ids(w.begin(asC).List(KindAttachment, provider)); !slices.Equal(got, []string{"1a", "1b"}) {
		t.Errorf("attachments of the provider: %v", got)
	}
	if w.set.Len() != len(everything(w.set)) || w.set.model.countAll(KindAttachment) != 5 {
		t.Errorf("%d resources", w.set.Len())
	}
	for r := range w.set.All() {
		if r.Metadata().Kind != KindAccount {
			t.Errorf("the first is %s", r.Metadata().Key)
		}
		break
	}
}

// TestMistakesAreNotToldForEver bounds what a hostile request costs.
func TestMistakesAreNotToldForEver(t *testing.T) {
	w := connected(t)
	s := aService("x")
	for range 10000 {
		s.LoadBalancers = append(s.LoadBalancers, "x")
	}
	if err := creating(s)(w, w.begin(asP)); len(errorsOf(err)) != maxComplaints {
		t.Errorf("%d errors", len(errorsOf(err)))
	}
}
