// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// sameResources compares resources; a list without items is as good as none.
var sameResources = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(addr("::"), prefix("::/0"))}

// failing is a store whose transactions fail.
type failing struct {
	store.Store
	err error
}

func (f *failing) Txn(ctx context.Context, c []store.Compare, ops []store.Op) (uint64, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Store.Txn(ctx, c, ops)
}

func TestDoIsAtomic(t *testing.T) {
	st := &failing{Store: memoryStore(t)}
	k := open(t, st, Options{})
	do(t, k, operator, creates(world()...))
	before, revision := everything(k), k.snapshot().Revision()
	unchanged := func(name string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
		if diff := cmp.Diff(before, everything(k), sameResources); diff != "" || k.Status().Desired != revision || k.snapshot().Revision() != revision {
			t.Errorf("%s: revision %d, changed:\n%s", name, k.snapshot().Revision(), diff)
		}
	}
	half := func(tx *resource.Tx) ([]resource.Key, error) {
		if _, err := tags("a")(tx); err != nil {
			return nil, err
		}
		return creates(newSubnet(consumer, "b", "192.168.0.0/24"))(tx)
	}
	_, err := k.Do(t.Context(), Request{Actor: bob}, half)
	unchanged("a broken rule", err, "cidr")
	var rule *resource.Error
	if !errors.As(err, &rule) {
		t.Errorf("a broken rule is a %T", err)
	}
	st.err = errors.New("no space left on device")
	_, err = k.Do(t.Context(), Request{Actor: bob, ID: "one"}, tags("a"))
	unchanged("a full disk", err, "none of which was done: no space")
	st.err = &store.ConflictError{}
	_, err = k.Do(t.Context(), Request{Actor: bob}, tags("a"))
	unchanged("another writer", err, "another program writes")
	st.err = nil
	ctx, cancel := context.WithCancel(t.Context())
	_, err = k.Do(ctx, Request{Actor: bob}, func(tx *resource.Tx) ([]resource.Key, error) {
		cancel()
		return tags("a")(tx)
	})
	unchanged("an end before the write", err, "canceled")
	_, err = k.Do(ctx, Request{Actor: bob}, tags("a"))
	unchanged("an end before all", err, "canceled")
	out, err := k.Do(t.Context(), Request{Actor: bob, DryRun: true, ID: "one"}, tags("a"))
	if err != nil || len(out.Changes) != 1 || out.Revision != revision {
		t.Errorf("a dry run gives %+v, error %v", out, err)
	}
	unchanged("a dry run", errors.New("none"), "none")
	out = do(t, k, bob, func(*resource.Tx) ([]resource.Key, error) { return nil, nil })
	if out.Revision != revision || len(out.Changes) != 0 {
		t.Errorf("no change gives %+v", out)
	}
	if out := do(t, k, bob, tags("a")); out.Revision != revision+1 || len(out.Changes) != 1 || k.snapshot().Revision() != revision+1 {
		t.Errorf("space is back, and a change gives %+v", out)
	}
}

func TestDoWaitsForItsTurn(t *testing.T) {
	k := memory(t)
	do(t, k, operator, creates(world()...))
	do(t, k, bob, func(*resource.Tx) ([]resource.Key, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := k.Do(ctx, Request{Actor: bob}, tags("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second writer got %v", err)
		}
		return nil, nil
	})
}

// TestReopen has every kind of change survive, with revisions and etags.
func TestReopen(t *testing.T) {
	path := storePath(t)
	st := file(t, path)
	k := open(t, st, Options{})
	do(t, k, operator, creates(world()...))
	uids := ask(t, k, "one", "two", "three")
	do(t, k, peggy, accepts(uids[:2]...))
	do(t, k, bob, tags("a"))
	do(t, k, bob, func(tx *resource.Tx) ([]resource.Key, error) {
		return nil, tx.Delete(key(resource.KindEndpoint, consumer, "two"), 0)
	})
	do(t, k, bob, func(tx *resource.Tx) ([]resource.Key, error) {
		return nil, tx.Delete(key(resource.KindEndpoint, consumer, "three"), 0)
	})
	want, revision := everything(k), k.snapshot().Revision()
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		st = file(t, path)
		k = open(t, st, Options{})
		if diff := cmp.Diff(want, everything(k), sameResources); diff != "" {
			t.Errorf("before -, after +:\n%s", diff)
		}
		if got := k.snapshot().Revision(); got != revision || k.Status().Desired != revision {
			t.Errorf("revision %d, want %d", got, revision)
		}
		// Whoever has read everything just now can watch.
		sub, err := k.Watch(revision)
		if err != nil {
			t.Fatal(err)
		}
		sub.Close()
	}
	if out := do(t, k, bob, tags("b")); out.Revision != revision+1 {
		t.Errorf("the next revision is %d, want %d", out.Revision, revision+1)
	}
	st.Close()
}

func TestDamagedRecordsAreNamed(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"resources/accounts/1/vpcs/a", "hello", `record "resources/accounts/1/vpcs/a" is damaged`},
		{"resources/x", "", `record "resources/x" is damaged`},
		{"requests/1/x", "", `record "requests/1/x" is damaged`},
	} {
		st := memoryStore(t)
		if _, err := st.Txn(t.Context(), nil, []store.Op{{Key: c.key, Value: []byte(c.value)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), st, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.key, err)
		}
	}
	// A record under the name of another one.
	st := memoryStore(t)
	do(t, open(t, st, Options{}), operator, creates(world()...))
	e, err := st.Get(t.Context(), "resources/accounts/"+consumer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Txn(t.Context(), nil, []store.Op{{Key: "resources/accounts/" + provider, Value: e.Value}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), st, Options{}); err == nil || !strings.Contains(err.Error(), "it is the record of accounts/"+consumer) {
		t.Errorf("a wrong name: %v", err)
	}
	// Keys of others are left alone.
	st = memoryStore(t)
	if _, err := st.Txn(t.Context(), nil, []store.Op{{Key: "other/x", Value: []byte("y")}}); err != nil {
		t.Fatal(err)
	}
	open(t, st, Options{})
}

// TestForeignWriter finds out that somebody else has changed a record.
func TestForeignWriter(t *testing.T) {
	st := memoryStore(t)
	one, two := open(t, st, Options{}), open(t, st, Options{})
	do(t, one, operator, creates(world()...))
	if _, err := two.Do(t.Context(), Request{Actor: operator}, creates(world()...)); err == nil || !strings.Contains(err.Error(), "another program writes") {
		t.Errorf("the second writer got %v", err)
	}
}

// again is one request with an ID.
func again(t *testing.T, k *Keeper, a resource.Actor, id string, fingerprint byte) (Outcome, error) {
	t.Helper()
	return k.Do(t.Context(), Request{Actor: a, ID: id, Fingerprint: [32]byte{fingerprint}}, func(tx *resource.Tx) ([]resource.Key, error) {
		return tags(fmt.Sprint(k.snapshot().Revision()))(tx)
	})
}

func TestIdempotency(t *testing.T) {
	path := storePath(t)
	st := file(t, path)
	now := time.Unix(1e9, 0)
	o := Options{Clock: func() time.Time { return now }}
	k := open(t, st, o)
	do(t, k, operator, creates(world()...))
	first, err := again(t, k, bob, "a", 1)
	if err != nil || first.Replayed {
		t.Fatalf("%+v, error %v", first, err)
	}
	check := func(name string, replayed bool) {
		t.Helper()
		revision := k.snapshot().Revision()
		got, err := again(t, k, bob, "a", 1)
		if err != nil || got.Replayed != replayed {
			t.Fatalf("%s: %+v, error %v", name, got, err)
		}
		if replayed && (got.Revision != first.Revision || !cmp.Equal(got.Keys, first.Keys) || k.snapshot().Revision() != revision || len(got.Changes) != 0) {
			t.Errorf("%s: replayed %+v, want %+v, and revision %d is %d", name, got, first, revision, k.snapshot().Revision())
		}
	}
	check("at once", true)
	do(t, k, bob, tags("other"))
	check("after another change", true)
	for name, f := range map[string]func() (Outcome, error){
		"another actor": func() (Outcome, error) { return again(t, k, eve, "a", 1) },
		"another ID":    func() (Outcome, error) { return again(t, k, bob, "b", 1) },
	} {
		if out, err := f(); err != nil || out.Replayed {
			t.Errorf("%s: %+v, error %v", name, out, err)
		}
	}
	var mismatch *resource.Error
	if _, err := again(t, k, bob, "a", 2); !errors.As(err, &mismatch) || mismatch.Reason != "IDEMPOTENT_PARAMETER_MISMATCH" || mismatch.EC2 != "IdempotentParameterMismatch" {
		t.Errorf("another request of the same ID: %v", err)
	}
	now = now.Add(24*time.Hour - time.Second)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = file(t, path)
	defer st.Close()
	k = open(t, st, o)
	check("after a restart", true)
	now = now.Add(time.Second)
	check("after a day", false)
	first, _ = again(t, k, bob, "a", 1)
	if !first.Replayed {
		t.Error("the request of the second day was not remembered")
	}
}

// TestRequestWithoutEffect is remembered too: sent again later, it would undo what came in between.
func TestRequestWithoutEffect(t *testing.T) {
	k := memory(t)
	do(t, k, operator, creates(world()...))
	do(t, k, bob, tags("x"))
	r := Request{Actor: bob, ID: "a"}
	out, err := k.Do(t.Context(), r, tags("x"))
	if err != nil || len(out.Changes) != 0 {
		t.Fatalf("%+v, error %v", out, err)
	}
	if out.Revision != k.snapshot().Revision() || k.Status().Desired != out.Revision {
		t.Errorf("the revision is %d, but %d for readers and %d desired", out.Revision, k.snapshot().Revision(), k.Status().Desired)
	}
	do(t, k, bob, tags("y"))
	if out, err = k.Do(t.Context(), r, tags("x")); err != nil || !out.Replayed {
		t.Fatalf("%+v, error %v", out, err)
	}
	if r, _ := k.snapshot().Get(key(resource.KindVPC, consumer, "main")); r.Metadata().Tags["t"] != "y" {
		t.Error("the repetition had an effect")
	}
}

// TestFailedRequestIsNotRemembered lets a request that broke a rule be sent again.
func TestFailedRequestIsNotRemembered(t *testing.T) {
	k := memory(t)
	do(t, k, operator, creates(world()...))
	r := Request{Actor: bob, ID: "a"}
	if _, err := k.Do(t.Context(), r, creates(newVPC(consumer))); err == nil {
		t.Fatal("a second VPC of the same id was made")
	}
	if out, err := k.Do(t.Context(), r, tags("x")); err != nil || out.Replayed {
		t.Errorf("%+v, error %v", out, err)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	st := memoryStore(t)
	now := time.Unix(1e9, 0)
	k := open(t, st, Options{Clock: func() time.Time { return now }})
	do(t, k, operator, creates(world()...))
	first, err := again(t, k, bob, "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Do(t.Context(), Request{Actor: peggy, ID: "hers"}, func(*resource.Tx) ([]resource.Key, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	// As if the account had asked for as much as it may.
	for i := 1; i < maxRequests; i++ {
		k.requests.add(&request{key: fmt.Sprintf("%s%s/%d", requestPrefix, consumer, i), account: consumer, created: now})
	}
	if out, err := again(t, k, bob, "first", 0); err != nil || !out.Replayed || out.Revision != first.Revision {
		t.Fatalf("%+v, error %v", out, err)
	}
	if _, err := again(t, k, bob, "one more", 0); err != nil {
		t.Fatal(err)
	}
	if n := len(k.requests.accounts[consumer]); n != maxRequests || len(k.requests.known) != maxRequests+1 {
		t.Errorf("%d requests of the account, %d of all", n, len(k.requests.known))
	}
	if out, err := again(t, k, bob, "first", 0); err != nil || out.Replayed {
		t.Errorf("the oldest is remembered: %+v, error %v", out, err)
	}
	if entries, _, err := st.List(t.Context(), requestPrefix); err != nil || len(entries) != 3 {
		t.Errorf("%d records, error %v", len(entries), err)
	}
	now = now.Add(25 * time.Hour)
	do(t, k, bob, tags("a day later"))
	if entries, _, err := st.List(t.Context(), requestPrefix); err != nil || len(entries) != 0 || len(k.requests.known) != 0 || len(k.requests.accounts) != 0 {
		t.Errorf("a day later there are %d records and %d requests, error %v", len(entries), len(k.requests.known), err)
	}
}
