// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-net/isthmus/bench/fleet"
	"github.com/isthmus-net/isthmus/bench/steady"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// large is the fleet that the daemon is judged by.
var large = fleet.Fleet{Services: 200, Endpoints: 1000, Targets: 10_000, Waiting: 10}

const (
	// steadyFlows is how many endpoints the packets pass through.
	steadyFlows = 16
	// limitWindow is how long a rate is tried.
	limitWindow = 200 * time.Millisecond
	// betweenChanges is how long nothing changes: one more change is measured, not a queue of them.
	betweenChanges = 20 * time.Millisecond
)

// lostUnit is that of packets that found no room in a device's queue.
const lostUnit = "of a million"

// changesOf measures how long one more change takes to reach the dataplane at the size of the large fleet, and what packets
// that pass meanwhile, at half the rate of which none is lost, have to suffer from it.
func changesOf(inMemory bool) func(context.Context, *bed) ([]value, error) {
	return func(ctx context.Context, b *bed) ([]value, error) {
		d, err := b.drive(ctx, large, inMemory)
		if err != nil {
			return nil, err
		}
		defer d.close()
		if err := d.apply(ctx); err != nil {
			return nil, err
		}
		load, err := d.load(ctx, steadyFlows)
		if err != nil {
			return nil, err
		}
		defer load.Close()
		return d.changes(ctx, load)
	}
}

// load opens flows through the first endpoints.
func (d *driven) load(ctx context.Context, flows int) (*steady.Load, error) {
	var to []netip.AddrPort
	for n := range flows {
		e, err := d.endpoints.GetEndpoint(acting(ctx, fleet.Consumer), &apiv1.GetEndpointRequest{Name: fleet.EndpointID(n)})
		if err != nil {
			return nil, err
		}
		address, err := netip.ParseAddr(e.Enis[0].Address)
		if err != nil {
			return nil, err
		}
		to = append(to, netip.AddrPortFrom(address, fleet.Port))
	}
	return steady.Open(steady.Config{
		Client: d.client, ClientDevice: fleet.ConsumerDevice, Server: d.server, ServerDevice: fleet.ProviderDevice,
		From: fleet.Silent, To: to, Payload: 24,
	})
}

// changes measures a window without changes and one with.
func (d *driven) changes(ctx context.Context, load *steady.Load) ([]value, error) {
	var asked error
	drops := func() uint64 {
		n, err := d.dropped(ctx)
		asked = errors.Join(asked, err)
		return n
	}
	limit, err := load.Limit(ctx, limitWindow, drops)
	if err != nil {
		return nil, err
	}
	quietSent, quiet, err := load.Window(ctx, limit/2, d.cfg.Duration, drops)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithTimeout(ctx, d.cfg.Duration)
	defer cancel()
	timings, ended := &timings{}, make(chan error, 1)
	go func() { ended <- d.keepChanging(ctx, running, timings) }()
	sent, got, err := load.Window(ctx, limit/2, d.cfg.Duration, drops)
	if err := errors.Join(err, <-ended, asked); err != nil {
		return nil, err
	}
	values := []value{{"loss-free-rate", "packets/s", limit}}
	values = append(values, timings.values()...)
	return append(values,
		value{"lost", lostUnit, 1e6 * float64(got.Overflowed) / float64(sent)},
		value{"lost-unchanged", lostUnit, 1e6 * float64(quiet.Overflowed) / float64(quietSent)},
	), nil
}

// timings are how long changes took, from the call until the dataplane ran them, and until their caller was answered.
type timings struct {
	running, answered []time.Duration
}

func (t *timings) values() []value {
	milliseconds := func(name string, all []time.Duration, hundredths int) value {
		slices.Sort(all)
		return value{name, "ms", 1e3 * all[len(all)*hundredths/100].Seconds()}
	}
	return []value{
		milliseconds("apply-latency-p50", t.running, 50),
		milliseconds("apply-latency-p99", t.running, 99),
		milliseconds("answer-latency-p50", t.answered, 50),
		milliseconds("answer-latency-p99", t.answered, 99),
	}
}

// keepChanging changes one thing after another while running lasts, at least one of each kind.
func (d *driven) keepChanging(ctx, running context.Context, t *timings) error {
	for n := 0; n == 0 || running.Err() == nil; n++ {
		if err := d.change(ctx, n, t); err != nil {
			return fmt.Errorf("change %d: %w", n, err)
		}
	}
	return nil
}

// change has an endpoint accepted, a target registered, and the endpoint deleted.
func (d *driven) change(ctx context.Context, n int, t *timings) error {
	consumer, provider := acting(ctx, fleet.Consumer), acting(ctx, fleet.Provider)
	service, err := d.endpoints.GetEndpointService(provider, &apiv1.GetEndpointServiceRequest{
		Name: fleet.ServiceID(d.fleet.Services - 1 - n%d.fleet.Waiting),
	})
	if err != nil {
		return err
	}
	e := fleet.NewEndpoint()
	e.ServiceName = service.ServiceName
	id := fmt.Sprintf("new-%d", n)
	if e, err = d.endpoints.CreateEndpoint(consumer, &apiv1.CreateEndpointRequest{EndpointId: id, Endpoint: e}); err != nil {
		return err
	}
	if err := d.applied(ctx, e.Metadata.Revision); err != nil {
		return err
	}
	for _, one := range []func() (uint64, error){
		func() (uint64, error) {
			out, err := d.endpoints.AcceptConnections(provider, &apiv1.AcceptConnectionsRequest{
				Service: service.Name, EndpointUids: []string{e.Metadata.Uid},
			})
			return out.GetRevision(), err
		},
		func() (uint64, error) {
			out, err := d.balancing.RegisterTargets(provider, &apiv1.RegisterTargetsRequest{
				Name: fleet.GroupID(n % d.fleet.Services), Targets: []*apiv1.Target{fleet.Target(d.fleet.Targets + n)},
			})
			return out.GetMetadata().GetRevision(), err
		},
		func() (uint64, error) { return d.deleteEndpoint(consumer, id) },
	} {
		if err := pause(ctx, betweenChanges); err != nil {
			return err
		}
		if err := t.take(ctx, d, one); err != nil {
			return err
		}
	}
	return nil
}

// deleteEndpoint deletes an endpoint and returns the revision that takes it from the dataplane, 0 if that is done.
func (d *driven) deleteEndpoint(ctx context.Context, id string) (uint64, error) {
	if _, err := d.endpoints.DeleteEndpoint(ctx, &apiv1.DeleteEndpointRequest{Name: id}); err != nil {
		return 0, err
	}
	e, err := d.endpoints.GetEndpoint(ctx, &apiv1.GetEndpointRequest{Name: id})
	if status.Code(err) == codes.NotFound {
		return 0, nil
	}
	return e.GetMetadata().GetRevision(), err
}

// take times one change.
func (t *timings) take(ctx context.Context, d *driven, change func() (revision uint64, err error)) error {
	begun := time.Now()
	revision, err := change()
	if err != nil {
		return err
	}
	answered := time.Since(begun)
	if err := d.applied(ctx, revision); err != nil {
		return err
	}
	t.answered, t.running = append(t.answered, answered), append(t.running, time.Since(begun))
	return nil
}
