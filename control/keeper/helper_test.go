// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	consumer = "111122223333"
	provider = "444455556666"
)

// Actors of the tests.
var (
	operator = resource.Actor{Operator: true}
	bob      = resource.Actor{Account: consumer, Principal: "arn:aws:iam::" + consumer + ":user/bob"}
	eve      = resource.Actor{Account: consumer, Principal: "arn:aws:iam::" + consumer + ":user/eve"}
	peggy    = resource.Actor{Account: provider, Principal: "arn:aws:iam::" + provider + ":root"}
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// key is one of the consumer's or provider's resources.
func key(kind resource.Kind, account, id string) resource.Key {
	return resource.Key{Kind: kind, Account: account, ID: id}
}

func meta(kind resource.Kind, account, id string) resource.Meta {
	return resource.Meta{Key: key(kind, account, id)}
}

var serviceKey = key(resource.KindEndpointService, provider, "svc")

func newTargetGroup(id string, targets int) *resource.TargetGroup {
	g := &resource.TargetGroup{Meta: meta(resource.KindTargetGroup, provider, id), Group: vpc.TargetGroup{
		VPC: "main", DeregistrationDelay: 300 * time.Second, TerminateOnUnhealthy: true,
		HealthCheck: vpc.HealthCheck{Protocol: vpc.CheckTCP, Interval: 30 * time.Second, Timeout: 10 * time.Second, HealthyThreshold: 5, UnhealthyThreshold: 2},
	}}
	for i := range targets {
		g.Group.Targets = append(g.Group.Targets, vpc.Target{Address: netip.AddrFrom4([4]byte{10, 0, byte(64 + i>>8), byte(i)}), Port: 8080, Zone: "use1-az1"})
	}
	return g
}

func newVPC(account string) *resource.VPC {
	return &resource.VPC{Meta: meta(resource.KindVPC, account, "main"), CIDRs: []netip.Prefix{prefix("10.0.0.0/16")}}
}

func newSubnet(account, id, cidr string) *resource.Subnet {
	return &resource.Subnet{Meta: meta(resource.KindSubnet, account, id), VPC: "main", CIDR: prefix(cidr), Zone: "use1-az1"}
}

func newAttachment(account, id, subnet string) *resource.Attachment {
	return &resource.Attachment{Meta: meta(resource.KindAttachment, account, id), Subnet: subnet, Netns: "/run/netns/" + account, Device: id, Bridge: "br-" + id}
}

func newLoadBalancer(id, group string) *resource.LoadBalancer {
	return &resource.LoadBalancer{Meta: meta(resource.KindLoadBalancer, provider, id), VPC: "main", Nodes: []resource.SubnetAddress{{Subnet: "a"}},
		Listeners: []vpc.Listener{{Port: 80, TargetGroup: group, IdleTimeout: 350 * time.Second}}}
}

func newService(id, lb string) *resource.EndpointService {
	return &resource.EndpointService{Meta: meta(resource.KindEndpointService, provider, id), LoadBalancers: []string{lb}, Principals: []string{"*"}}
}

func newEndpoint(id, service string) *resource.Endpoint {
	return &resource.Endpoint{Meta: meta(resource.KindEndpoint, consumer, id), VPC: "main", Service: service, ENIs: []resource.SubnetAddress{{Subnet: "a"}}}
}

// world makes both accounts, a VPC for each, and a service.
func world() []resource.Resource {
	out := []resource.Resource{
		&resource.Account{Meta: meta(resource.KindAccount, consumer, consumer), Quotas: resource.Quotas{EndpointsPerVPC: 2000}},
		&resource.Account{Meta: meta(resource.KindAccount, provider, provider), Quotas: resource.Quotas{
			EndpointServices: 500, LoadBalancers: 500, TargetGroups: 500, TargetsPerGroup: 2000}},
	}
	for _, account := range []string{consumer, provider} {
		out = append(out, newVPC(account), newSubnet(account, "a", "10.0.0.0/18"), newAttachment(account, "tap-a", "a"))
	}
	return append(out, newTargetGroup("web", 2), newLoadBalancer("nlb", "web"), newService("svc", "nlb"))
}

// creates is a change that makes resources.
func creates(list ...resource.Resource) func(*resource.Tx) ([]resource.Key, error) {
	return func(tx *resource.Tx) ([]resource.Key, error) {
		var keys []resource.Key
		for _, r := range list {
			made, err := tx.Create(r)
			if err != nil {
				return nil, err
			}
			keys = append(keys, made.Metadata().Key)
		}
		return keys, nil
	}
}

// tags is a change of the tags of the consumer's VPC.
func tags(value string) func(*resource.Tx) ([]resource.Key, error) {
	return func(tx *resource.Tx) ([]resource.Key, error) {
		k := key(resource.KindVPC, consumer, "main")
		r, _ := tx.Get(k)
		v := resource.Clone(r)
		v.Metadata().Tags = map[string]string{"t": value}
		_, err := tx.Update(v, 0)
		return []resource.Key{k}, err
	}
}

// accepts and rejects are changes of the state of endpoints.
func accepts(uids ...string) func(*resource.Tx) ([]resource.Key, error) {
	return func(tx *resource.Tx) ([]resource.Key, error) {
		_, err := tx.Accept(serviceKey, uids)
		return nil, err
	}
}

func rejects(uids ...string) func(*resource.Tx) ([]resource.Key, error) {
	return func(tx *resource.Tx) ([]resource.Key, error) {
		_, err := tx.Reject(serviceKey, uids)
		return nil, err
	}
}

func open(t testing.TB, st store.Store, o Options) *Keeper {
	t.Helper()
	k, err := Open(t.Context(), st, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// memory is a keeper over a store in memory.
func memory(t testing.TB) *Keeper {
	t.Helper()
	return open(t, memoryStore(t), Options{})
}

func memoryStore(t testing.TB) store.Store {
	t.Helper()
	st := store.NewMemory(store.Options{})
	t.Cleanup(func() { st.Close() })
	return st
}

// file opens a store on disk.
func file(t testing.TB, path string) store.Store {
	t.Helper()
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func storePath(t testing.TB) string { return filepath.Join(t.TempDir(), "isthmus.db") }

// do makes a change that must succeed.
func do(t testing.TB, k *Keeper, a resource.Actor, f func(*resource.Tx) ([]resource.Key, error)) Outcome {
	t.Helper()
	out, err := k.Do(t.Context(), Request{Actor: a}, f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serviceName is what consumers call the service.
func serviceName(t testing.TB, k *Keeper) string {
	t.Helper()
	r, ok := k.snapshot().Get(serviceKey)
	if !ok {
		t.Fatal("there is no service")
	}
	return r.(*resource.EndpointService).Name
}

// ask makes endpoints that wait for acceptance, and returns their uids.
func ask(t testing.TB, k *Keeper, ids ...string) []string {
	t.Helper()
	var list []resource.Resource
	for _, id := range ids {
		list = append(list, newEndpoint(id, serviceName(t, k)))
	}
	var uids []string
	for _, key := range do(t, k, bob, creates(list...)).Keys {
		r, _ := k.snapshot().Get(key)
		uids = append(uids, r.Metadata().UID)
	}
	return uids
}

// endpoint is the consumer's endpoint of an id, nil if there is none.
func endpoint(k *Keeper, id string) *resource.Endpoint {
	r, _ := k.snapshot().Get(key(resource.KindEndpoint, consumer, id))
	e, _ := r.(*resource.Endpoint)
	return e
}

// wantState checks the state of an endpoint; 0 is that there is none.
func wantState(t testing.TB, k *Keeper, id string, want resource.EndpointState) {
	t.Helper()
	var got resource.EndpointState
	if e := endpoint(k, id); e != nil {
		got = e.State
	}
	if got != want {
		t.Errorf("%s is %s, want %s", id, got, want)
	}
}

// everything is all resources, in order.
func everything(k *Keeper) []resource.Resource { return slices.Collect(k.snapshot().All()) }

// plane is a Dataplane that notes what it is told.
type plane struct {
	mu     sync.Mutex
	states []*vpc.State           // in force, one after another
	tries  int                    // states that it was told, refused or not
	refuse func(*vpc.State) error // may be nil
	gate   chan struct{}          // if set, every Apply waits to be let in
}

func (p *plane) Apply(ctx context.Context, s *vpc.State) error {
	p.mu.Lock()
	gate := p.gate
	p.tries++
	p.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		if err := p.refuse(s); err != nil {
			return err
		}
	}
	p.states = append(p.states, s)
	return nil
}

// set changes how the plane behaves.
func (p *plane) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// endpoints are the uids of those in force.
func (p *plane) endpoints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	uids := []string{}
	if len(p.states) > 0 {
		for _, e := range p.states[len(p.states)-1].Endpoints {
			uids = append(uids, e.ID)
		}
	}
	return uids
}

func (p *plane) count() (applied, tries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.states), p.tries
}

// errBad is why a plane refuses states with certain endpoints.
var errBad = errors.New("too much for this machine")

// refusing refuses states with an endpoint that is bad.
func refusing(bad func(vpc.Endpoint) bool) func(*vpc.State) error {
	return func(s *vpc.State) error {
		if slices.ContainsFunc(s.Endpoints, bad) {
			return errBad
		}
		return nil
	}
}
