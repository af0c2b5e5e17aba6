// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-net/isthmus/bench/fleet"
	"github.com/isthmus-net/isthmus/bench/steady"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// fullFleet is the size that one daemon is to serve.
var fullFleet = fleet.Fleet{Services: 200, Endpoints: 1000, Targets: 10_000, Waiting: 5}

// TestScale applies a file of that size, with some endpoints on devices of their own, and uses the last of them.
func TestScale(t *testing.T) {
	f := fullFleet
	f.Alone, f.Waiting = load(5, 20, 100), 0
	b := newFleetBed(t, f, false)
	stored, running := b.apply()
	t.Logf("in the store after %v, in the dataplane after %v; load average %s", stored, running, loadAverage())
	b.all(f.Endpoints)
	s := b.daemon.Stats()
	if got, want := len(s.ENIs), f.Endpoints+f.Services; got != want {
		t.Errorf("the dataplane has %d ENIs, want %d", got, want)
	}
	if len(s.Targets) != f.Targets {
		t.Errorf("the dataplane has %d targets, want %d", len(s.Targets), f.Targets)
	}
	last := f.Endpoints - 1
	e, err := b.GetEndpoint(as(b.ctx, fleet.Consumer), &apiv1.GetEndpointRequest{Name: fleet.EndpointID(last)})
	b.must(err)
	l, err := steady.Open(steady.Config{
		Client: b.consumer, ClientDevice: fmt.Sprintf("alone-%04d", f.Alone-1), Server: b.provider, ServerDevice: fleet.ProviderDevice,
		From: fleet.Silent, To: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(e.Enis[0].Address), fleet.Port)}, Payload: 24,
	})
	b.must(err)
	l.Close()
}

// all waits until every endpoint is available.
func (b *fleetBed) all(endpoints int) {
	b.Helper()
	eventually(b, patience, func() error {
		available, token := 0, ""
		for {
			page, err := b.ListEndpoints(as(b.ctx, fleet.Consumer), &apiv1.ListEndpointsRequest{PageSize: 1000, PageToken: token})
			if err != nil {
				return err
			}
			for _, e := range page.Endpoints {
				if e.State == apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE {
					available++
				}
			}
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if available != endpoints {
			return fmt.Errorf("%d of %d endpoints are available", available, endpoints)
		}
		return nil
	})
}
