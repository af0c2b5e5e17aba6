// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// model drives a keeper and its twin, which is a Set that is never written anywhere, and a map of requests.
type model struct {
	*rapid.T
	store    store.Store
	path     string // of the store's file; empty in memory
	keeper   *Keeper
	twin     *resource.Set
	requests map[string]remembered
	revision uint64
	now      time.Time
	ops      int
	made     int // UIDs in this operation
}

// remembered is a request that has had its effect.
type remembered struct {
	fingerprint [32]byte
	at          time.Time
	revision    uint64
	keys        []resource.Key
}

func newModel(t *rapid.T, dir string) *model {
	m := &model{T: t, now: time.Unix(1e9, 0), twin: resource.NewSet(resource.Config{}), requests: map[string]remembered{}}
	if rapid.IntRange(0, 9).Draw(t, "store") == 0 {
		d, err := os.MkdirTemp(dir, "")
		m.must(err)
		m.path = filepath.Join(d, "isthmus.db")
	}
	m.open()
	m.do(operator, "world", 0, creates(world()...))
	return m
}

func (m *model) must(err error) {
	if err != nil {
		m.Fatal(err)
	}
}

// open opens the keeper, again if it is open already.
func (m *model) open() {
	var err error
	switch {
	case m.path != "":
		if m.store != nil {
			m.must(m.store.Close())
		}
		m.store, err = store.Open(m.path, store.Options{})
		m.must(err)
	case m.store == nil:
		m.store = store.NewMemory(store.Options{})
	}
	m.keeper, err = Open(m.Context(), m.store, Options{Clock: func() time.Time { return m.now }, NewUID: m.uid})
	m.must(err)
}

// uid gives the keeper and the twin the same UIDs, whatever becomes of an operation.
func (m *model) uid(prefix string) string {
	m.made++
	return fmt.Sprintf("%s%08x%09x", prefix, m.ops, m.made)
}

// do makes a change to both, under an ID if it is not empty.
func (m *model) do(a resource.Actor, id string, fingerprint byte, f func(*resource.Tx) ([]resource.Key, error)) {
	m.ops++
	m.made = 0
	r := Request{Actor: a, ID: id, Fingerprint: [32]byte{fingerprint}, DryRun: id == "" && rapid.IntRange(0, 9).Draw(m.T, "dry run") == 0}
	got, gotErr := m.keeper.Do(m.Context(), r, f)
	m.made = 0
	want, wantErr := m.mirror(r, f)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
		m.Fatalf("the keeper says %v, the twin %v", gotErr, wantErr)
	}
	if diff := cmp.Diff(want.Changes, got.Changes, sameResources, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" ||
		got.Revision != want.Revision || got.Replayed != want.Replayed || !slices.Equal(got.Keys, want.Keys) {
		m.Fatalf("the keeper did %+v, the twin %+v; changes want -, got +:\n%s", got, want, diff)
	}
}

// mirror is Do for the twin.
func (m *model) mirror(r Request, f func(*resource.Tx) ([]resource.Key, error)) (Outcome, error) {
	name := r.Actor.Principal + "/" + r.ID
	if was, ok := m.requests[name]; ok && r.ID != "" && m.now.Sub(was.at) < 24*time.Hour {
		if was.fingerprint != r.Fingerprint {
			return Outcome{}, mismatch()
		}
		return Outcome{Revision: was.revision, Keys: was.keys, Replayed: true}, nil
	}
	tx := m.twin.Begin(resource.Env{Now: m.now, NewUID: m.uid, Actor: r.Actor})
	keys, err := f(tx)
	if err == nil {
		err = tx.Check()
	}
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Revision: m.revision, Keys: keys, Changes: tx.Changes()}
	if r.DryRun || len(out.Changes) == 0 && r.ID == "" {
		return out, nil
	}
	m.revision++
	m.twin.Commit(tx, m.revision)
	out.Revision = m.revision
	if r.ID != "" {
		m.requests[name] = remembered{r.Fingerprint, m.now, m.revision, keys}
	}
	return out, nil
}

// actor is mostly somebody who may change what an account owns.
func (m *model) actor(account string) resource.Actor {
	owner := bob
	if account == provider {
		owner = peggy
	}
	return rapid.SampledFrom([]resource.Actor{owner, owner, owner, operator, eve, peggy, {Account: "000000000000"}}).Draw(m.T, "actor")
}

func (m *model) id() string {
	return rapid.SampledFrom([]string{"a", "b", "c", "main", "web"}).Draw(m.T, "id")
}

// any is one of the resources that there are.
func (m *model) any() resource.Resource {
	return rapid.SampledFrom(slices.Collect(m.twin.All())).Draw(m.T, "resource")
}

func (m *model) create(*rapid.T) {
	services := m.twin.List(resource.KindEndpointService, "")
	name := "com.amazonaws.vpce.local-1.vpce-svc-00000000000000000"
	if len(services) > 0 {
		name = rapid.SampledFrom(services).Draw(m.T, "service").(*resource.EndpointService).Name
	}
	list := []resource.Resource{
		newVPC(consumer), newSubnet(consumer, m.id(), "10.0.64.0/24"), newAttachment(provider, m.id(), "a"), newTargetGroup(m.id(), 3),
		newLoadBalancer(m.id(), m.id()), newService(m.id(), m.id()), newEndpoint(m.id(), name), newEndpoint("", name),
	}
	wanted := []resource.Resource{rapid.SampledFrom(list).Draw(m.T, "new")}
	if rapid.Bool().Draw(m.T, "two") {
		wanted = append(wanted, rapid.SampledFrom(list).Draw(m.T, "another"))
	}
	m.do(m.actor(wanted[0].Metadata().Account), "", 0, creates(wanted...))
}

func (m *model) update(*rapid.T) {
	r := resource.Clone(m.any())
	revision := rapid.SampledFrom([]uint64{0, r.Metadata().Revision, r.Metadata().Revision + 1}).Draw(m.T, "etag")
	r.Metadata().Tags = map[string]string{"a": m.id()}
	m.do(m.actor(r.Metadata().Account), "", 0, func(tx *resource.Tx) ([]resource.Key, error) {
		_, err := tx.Update(r, revision)
		return []resource.Key{r.Metadata().Key}, err
	})
}

func (m *model) delete(*rapid.T) {
	k := m.any().Metadata().Key
	m.do(m.actor(k.Account), "", 0, func(tx *resource.Tx) ([]resource.Key, error) { return []resource.Key{k}, tx.Delete(k, 0) })
}

func (m *model) decide(*rapid.T) {
	endpoints := m.twin.List(resource.KindEndpoint, "")
	if len(endpoints) == 0 {
		return
	}
	e := rapid.SampledFrom(endpoints).Draw(m.T, "endpoint").(*resource.Endpoint)
	service := resource.Key{Kind: resource.KindEndpointService, ID: e.ServiceUID}
	what := rapid.IntRange(0, 4).Draw(m.T, "decision")
	actor := peggy
	if what > 1 {
		actor = operator
	}
	m.do(actor, "", 0, func(tx *resource.Tx) ([]resource.Key, error) {
		var err error
		switch what {
		case 0:
			_, err = tx.Accept(service, []string{e.UID})
		case 1:
			_, err = tx.Reject(service, []string{e.UID})
		case 2:
			err = tx.Provisioned(e.UID)
		case 3:
			err = tx.Fail(e.UID, "no")
		case 4:
			err = tx.Removed(e.UID)
		}
		return []resource.Key{e.Key}, err
	})
}

func (m *model) targets(*rapid.T) {
	k := key(resource.KindTargetGroup, provider, m.id())
	targets := newTargetGroup("", 6).Group.Targets[rapid.IntRange(0, 3).Draw(m.T, "first"):]
	register := rapid.Bool().Draw(m.T, "register")
	m.do(peggy, "", 0, func(tx *resource.Tx) ([]resource.Key, error) {
		var err error
		if register {
			_, err = tx.RegisterTargets(k, targets)
		} else {
			_, err = tx.DeregisterTargets(k, targets[:1])
		}
		return nil, err
	})
}

func (m *model) request(*rapid.T) {
	id, value := rapid.SampledFrom([]string{"x", "y"}).Draw(m.T, "request"), rapid.SampledFrom([]string{"a", "b"}).Draw(m.T, "value")
	m.do(rapid.SampledFrom([]resource.Actor{bob, eve}).Draw(m.T, "actor"), id, value[0], func(tx *resource.Tx) ([]resource.Key, error) {
		if _, ok := tx.Get(key(resource.KindVPC, consumer, "main")); !ok {
			return nil, errors.New("there is no VPC")
		}
		return tags(value)(tx)
	})
}

func (m *model) pass(*rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Minute, 12 * time.Hour, 4 * 24 * time.Hour}).Draw(m.T, "time"))
	m.do(operator, "", 0, func(tx *resource.Tx) ([]resource.Key, error) { tx.Tick(); return nil, nil })
}

func (m *model) check(*rapid.T) {
	if diff := cmp.Diff(slices.Collect(m.twin.All()), everything(m.keeper), sameResources); diff != "" {
		m.Fatalf("twin -, keeper +:\n%s", diff)
	}
	if got := m.keeper.snapshot().Revision(); got != m.revision || m.keeper.Status().Desired != m.revision {
		m.Fatalf("revision %d, want %d", got, m.revision)
	}
}

// TestModel does random things to a keeper that is opened again and again, and to a twin that is not.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, dir)
		defer func() { m.store.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "create more": m.create, "update": m.update, "delete": m.delete, "decide": m.decide, "decide more": m.decide,
			"targets": m.targets, "request": m.request, "time": m.pass, "reopen": func(*rapid.T) { m.open() }, "": m.check,
		})
	})
}
