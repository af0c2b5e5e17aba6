// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-net/isthmus/bench/fleet"
	"github.com/isthmus-net/isthmus/bench/steady"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// TestChangesLoseNoPacket changes what the dataplane runs, by the API, while packets pass at a steady rate. With
// ISTHMUS_LONG=1 there is as much as the bench has.
func TestChangesLoseNoPacket(t *testing.T) {
	small := fleet.Fleet{Services: 20, Endpoints: 100, Targets: 1000, Waiting: 5}
	for _, inMemory := range []bool{false, true} {
		t.Run(map[bool]string{false: "file", true: "memory"}[inMemory], func(t *testing.T) {
			b := newFleetBed(t, load(small, small, fullFleet), inMemory)
			b.apply()
			passing := b.stream(b.load(8), 2000)
			var took []time.Duration
			for n := range load(5, 67, 333) {
				took = append(took, b.change(n)...)
			}
			passing.end()
			slices.Sort(took)
			t.Logf("%d changes: half within %v, 99 %% within %v, all within %v; load average %s", len(took), took[len(took)/2],
				took[len(took)*99/100], took[len(took)-1], loadAverage())
		})
	}
}

// loadAverage is how busy the machine is, without which no time means anything.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.TrimSpace(string(text))
}

// load opens flows through the first endpoints.
func (b *fleetBed) load(flows int) *steady.Load {
	b.Helper()
	var to []netip.AddrPort
	for n := range flows {
		e, err := b.GetEndpoint(as(b.ctx, fleet.Consumer), &apiv1.GetEndpointRequest{Name: fleet.EndpointID(n)})
		b.must(err)
		to = append(to, netip.AddrPortFrom(netip.MustParseAddr(e.Enis[0].Address), fleet.Port))
	}
	l, err := steady.Open(steady.Config{
		Client: b.consumer, ClientDevice: fleet.ConsumerDevice, Server: b.provider, ServerDevice: fleet.ProviderDevice,
		From: fleet.Silent, To: to, Payload: 24,
	})
	b.must(err)
	b.Cleanup(l.Close)
	return l
}

// stream is a load that runs.
type stream struct {
	bed    *fleetBed
	load   *steady.Load
	before steady.Account
	drops  uint64
	cancel context.CancelFunc
	sent   chan uint64
}

// stream runs a load until end.
func (b *fleetBed) stream(l *steady.Load, rate float64) *stream {
	b.Helper()
	before, err := l.Count()
	b.must(err)
	ctx, cancel := context.WithCancel(b.Context())
	s := &stream{b, l, before, b.dropped(), cancel, make(chan uint64, 1)}
	go func() {
		sent, err := l.Run(ctx, rate)
		if err != nil {
			b.Error(err)
		}
		s.sent <- sent
	}()
	return s
}

// end ends the load and fails the test if any packet is lost.
func (s *stream) end() {
	s.bed.Helper()
	s.cancel()
	sent := <-s.sent
	drops := func() uint64 { return s.bed.dropped() - s.drops }
	got, err := s.load.Settle(s.bed.Context(), s.before, sent, drops)
	if err != nil {
		s.bed.Error(err)
	}
	if got.Overflowed != 0 || drops() != 0 {
		s.bed.Errorf("of %d packets %d found no room in a queue and %d were dropped", sent, got.Overflowed, drops())
	}
	s.bed.Logf("%d of %d packets passed", got.Out, sent)
}

// dropped is how many packets the dataplane has dropped.
func (b *fleetBed) dropped() (n uint64) {
	for _, d := range b.daemon.Stats().Drops {
		n += d
	}
	return n
}

// change makes three changes, the n-th of each kind, and returns how long each took from the call until the dataplane ran
// it: an endpoint is accepted, a target registered, and the endpoint deleted.
func (b *fleetBed) change(n int) []time.Duration {
	b.Helper()
	consumer, provider := as(b.ctx, fleet.Consumer), as(b.ctx, fleet.Provider)
	waiting := b.fleet.Services - 1 - n%b.fleet.Waiting
	service, err := b.GetEndpointService(provider, &apiv1.GetEndpointServiceRequest{Name: fleet.ServiceID(waiting)})
	b.must(err)
	e := fleet.NewEndpoint()
	e.ServiceName = service.ServiceName
	id := fmt.Sprintf("new-%d", n)
	e, err = b.CreateEndpoint(consumer, &apiv1.CreateEndpointRequest{EndpointId: id, Endpoint: e})
	b.must(err)
	b.must(b.applied(b.ctx, e.Metadata.Revision))
	accept := b.timed(func() (uint64, error) {
		out, err := b.AcceptConnections(provider, &apiv1.AcceptConnectionsRequest{Service: service.Name, EndpointUids: []string{e.Metadata.Uid}})
		return out.GetRevision(), err
	})
	register := b.timed(func() (uint64, error) {
		out, err := b.RegisterTargets(provider, &apiv1.RegisterTargetsRequest{
			Name: fleet.GroupID(n % b.fleet.Services), Targets: []*apiv1.Target{fleet.Target(b.fleet.Targets + n)},
		})
		return out.GetMetadata().GetRevision(), err
	})
	remove := b.timed(func() (uint64, error) {
		if _, err := b.DeleteEndpoint(consumer, &apiv1.DeleteEndpointRequest{Name: id}); err != nil {
			return 0, err
		}
		e, err := b.GetEndpoint(consumer, &apiv1.GetEndpointRequest{Name: id})
		if status.Code(err) == codes.NotFound { // the dataplane runs it no more
			return 0, nil
		}
		return e.GetMetadata().GetRevision(), err
	})
	return []time.Duration{accept, register, remove}
}

// timed is how long a change takes until the dataplane runs it.
func (b *fleetBed) timed(change func() (revision uint64, err error)) time.Duration {
	b.Helper()
	begun := time.Now()
	revision, err := change()
	b.must(err)
	b.must(b.applied(b.ctx, revision))
	return time.Since(begun)
}
