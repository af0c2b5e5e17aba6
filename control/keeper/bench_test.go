// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// The size that the project promises.
const (
	manyServices  = 200
	manyEndpoints = 1000
	manyTargets   = 10000
)

// fill makes as many resources as the project promises to handle, in two changes.
func fill(t testing.TB, k *Keeper) {
	list := world()
	for i := range manyServices {
		id := fmt.Sprintf("s%d", i)
		list = append(list, newTargetGroup(id, manyTargets/manyServices), newLoadBalancer(id, id), newService(id, id))
	}
	keys := do(t, k, operator, creates(list...)).Keys
	var endpoints []resource.Resource
	for i := range manyEndpoints {
		r, _ := k.snapshot().Get(keys[len(keys)-1-3*(i%manyServices)])
		endpoints = append(endpoints, newEndpoint(fmt.Sprintf("e%d", i), r.(*resource.EndpointService).Name))
	}
	do(t, k, bob, creates(endpoints...))
	do(t, k, operator, func(tx *resource.Tx) ([]resource.Key, error) {
		for _, r := range tx.List(resource.KindEndpoint, "") {
			e := r.(*resource.Endpoint)
			if _, err := tx.Accept(resource.Key{Kind: resource.KindEndpointService, ID: e.ServiceUID}, []string{e.UID}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
}

// told is a Dataplane that says when it has been told a revision.
type told chan uint64

func (c told) Apply(_ context.Context, s *vpc.State) error {
	c <- s.Revision
	return nil
}

// settledKeeper is a full keeper that runs, with everything applied.
func settledKeeper(b *testing.B) (*Keeper, told) {
	k, d := memory(b), make(told, 16)
	fill(b, k)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = k.Run(ctx, d)
	}()
	b.Cleanup(func() { cancel(); <-done })
	<-d
	for s := k.Status(); s.Applied != s.Desired || s.Desired == 0; s = k.Status() {
		time.Sleep(time.Millisecond)
	}
	for range len(d) {
		<-d
	}
	return k, d
}

// BenchmarkChange measures from Do to Apply.
func BenchmarkChange(b *testing.B) {
	group := key(resource.KindTargetGroup, provider, "s7")
	for name, f := range map[string]func(i int) func(tx *resource.Tx) ([]resource.Key, error){
		"Tags": func(i int) func(tx *resource.Tx) ([]resource.Key, error) { return tags(fmt.Sprint(i)) },
		"Target": func(i int) func(tx *resource.Tx) ([]resource.Key, error) {
			return func(tx *resource.Tx) ([]resource.Key, error) {
				target := vpc.Target{Address: netip.AddrFrom4([4]byte{10, 0, byte(128 + i>>8&63), byte(i)}), Port: 8080, Zone: "use1-az1"}
				var err error
				if i%2 == 0 {
					_, err = tx.RegisterTargets(group, []vpc.Target{target})
				} else {
					g, _ := tx.Get(group)
					_, err = tx.DeregisterTargets(group, g.(*resource.TargetGroup).Group.Targets[:1])
				}
				return nil, err
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			k, d := settledKeeper(b)
			i := 0
			for b.Loop() {
				out := do(b, k, operator, f(i))
				for <-d < out.Revision {
				}
				i++
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	st := memoryStore(b)
	fill(b, open(b, st, Options{}))
	for b.Loop() {
		open(b, st, Options{})
	}
}

func BenchmarkFill(b *testing.B) {
	for b.Loop() {
		fill(b, memory(b))
	}
}
