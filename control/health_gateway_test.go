// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// applianceState is a state with one appliance, and where it is checked.
func applianceState() (*vpc.State, dataplane.TargetID, []dataplane.ProbeRoute) {
	s := inspected()
	s.Testing = nil
	id := dataplane.TargetID{Group: "firewalls", Address: netip.MustParseAddrPort("10.0.1.41:6081")}
	return s, id, []dataplane.ProbeRoute{{TargetID: id, LoadBalancer: "gwlb", Zone: "use1-az1", Node: addr("10.0.1.40"), Via: addr("198.18.0.9")}}
}

// TestAppliancesAreChecked checks them where they take connections, which is not GENEVE's port.
func TestAppliancesAreChecked(t *testing.T) {
	s, id, routes := applianceState()
	want := probe{protocol: vpc.CheckTCP, to: netip.MustParseAddrPort("198.18.0.9:80"), timeout: 5 * time.Second}
	if c := plannedChecks(s, routes)[id]; c == nil || c.probe != want || c.interval != 10*time.Second {
		t.Errorf("got %+v, want %+v", c, want)
	}
	s.TargetGroups[1].HealthCheck = vpc.HealthCheck{Protocol: vpc.CheckHTTPS, Port: 8443, Path: "/ok", Interval: time.Minute,
		Timeout: 5 * time.Second, HealthyThreshold: 2, UnhealthyThreshold: 2, MatchLow: 200, MatchHigh: 200}
	want = probe{protocol: vpc.CheckHTTPS, to: netip.MustParseAddrPort("198.18.0.9:8443"), timeout: 5 * time.Second,
		host: "10.0.1.40:8443", path: "/ok", low: 200, high: 200}
	if c := plannedChecks(s, routes)[id]; c.probe != want {
		t.Errorf("got %+v, want %+v", c.probe, want)
	}
}

// TestAppliancesFailOverAfterTheDelay takes one out of the state and drains one: the engine hears of both, whatever the
// group does with their flows.
func TestAppliancesFailOverAfterTheDelay(t *testing.T) {
	s, id, _ := applianceState()
	s.TargetGroups[1].DeregistrationDelay = 10 * time.Second
	with := func(change func(*vpc.TargetGroup)) *vpc.State {
		other := *s
		other.TargetGroups = slices.Clone(s.TargetGroups)
		other.TargetGroups[1].Targets = slices.Clone(s.TargetGroups[1].Targets)
		change(&other.TargetGroups[1])
		return &other
	}
	for name, leaving := range map[string]*vpc.State{
		"draining": with(func(g *vpc.TargetGroup) { g.Targets[0].Draining = true }),
		"gone":     with(func(g *vpc.TargetGroup) { g.Targets = nil }),
		"draining, to others": with(func(g *vpc.TargetGroup) {
			g.Targets[0].Draining, g.Rebalance, g.ResetOnUnhealthy, g.ResetOnDeregistration = true, true, false, false
		}),
		"draining, in silence": with(func(g *vpc.TargetGroup) {
			g.Targets[0].Draining, g.ResetOnUnhealthy, g.ResetOnDeregistration = true, false, false
		}),
	} {
		start := time.Unix(1000, 0)
		d := newDrains()
		d.update(s, start)
		d.update(leaving, start)
		if ids, next := d.ended(start.Add(9 * time.Second)); len(ids) != 0 || next != start.Add(10*time.Second) {
			t.Errorf("%s: before the delay has passed ended are %v, the next at %v", name, ids, next)
		}
		if ids, _ := d.ended(start.Add(10 * time.Second)); !ids[id] || len(ids) != 1 {
			t.Errorf("%s: after the delay ended are %v", name, ids)
		}
	}
}
