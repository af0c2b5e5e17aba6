// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// targets tells how the targets of groups are, and what they have to do.
func (s *story) targets(title string, groups ...*apiv1.TargetGroup) error {
	live, err := s.status()
	if err != nil {
		return err
	}
	t := s.section(title, "TARGET GROUP", "TARGET", "ZONE", "HEALTH", "FLOWS", "OPENED", "BYTES OUT", "BYTES IN", "REASON")
	for i, g := range groups {
		if containsGroup(groups[:i], g) {
			continue
		}
		for _, draining := range []bool{false, true} {
			list, health := g.Targets, ""
			if draining {
				list, health = g.DrainingTargets, ",draining"
			}
			for _, target := range list {
				now := liveTarget(live, g.Metadata.GetUid(), target)
				t.row(idOf(g.Name), addressText(target), target.ZoneId, target.Health+health, now.GetActiveFlows(), now.GetNewFlows(),
					now.GetTraffic().GetBytesOut(), now.GetTraffic().GetBytesIn(), target.HealthReason)
			}
		}
	}
	t.done()
	return nil
}

func containsGroup(groups []*apiv1.TargetGroup, g *apiv1.TargetGroup) bool {
	for _, other := range groups {
		if other.Name == g.Name {
			return true
		}
	}
	return false
}

// addressText is the address and port of a target.
func addressText(t *apiv1.Target) string {
	address, err := netip.ParseAddr(t.Address)
	if err != nil {
		return t.Address
	}
	return netip.AddrPortFrom(address, uint16(t.Port)).String()
}

// liveTarget is what the dataplane counts of a target, nil if it does not know it.
func liveTarget(live *apiv1.StatusResponse, group string, t *apiv1.Target) *apiv1.TargetStatus {
	for _, s := range live.Targets {
		if s.TargetGroupId == group && s.Address == addressText(t) {
			return s
		}
	}
	return nil
}

// traffic tells what the ENIs of an owner count.
func (s *story) traffic(owner string) error {
	live, err := s.status()
	if err != nil {
		return err
	}
	rows := 0
	for _, e := range live.Enis {
		if e.Owner == owner && e.Role != "probe" {
			rows++
		}
	}
	if rows == 0 {
		s.sentence("Traffic", "none: the dataplane does not run it")
		return nil
	}
	t := s.section("Traffic", "ADDRESS", "ZONE", "PACKETS IN", "BYTES IN", "PACKETS OUT", "BYTES OUT", "DROPPED")
	for _, e := range live.Enis {
		if e.Owner == owner && e.Role != "probe" {
			t.row(e.Address, e.ZoneId, e.Traffic.GetPacketsIn(), e.Traffic.GetBytesIn(), e.Traffic.GetPacketsOut(), e.Traffic.GetBytesOut(), e.Dropped)
		}
	}
	t.done()
	return nil
}

// drops tells why packets of an owner's ENIs went no further.
func (s *story) drops(owner string) error {
	r, err := s.caller.inspect().Drops(s.ctx, &apiv1.DropsRequest{ByEni: true})
	if err != nil {
		return err
	}
	sentences := map[string]string{}
	for _, d := range r.Drops {
		sentences[d.Reason] = d.Sentence
	}
	var mine []*apiv1.ENIDrop
	for _, d := range r.Enis {
		if d.Owner == owner && d.Role != "probe" {
			mine = append(mine, d)
		}
	}
	if len(mine) == 0 {
		s.sentence("Drops", "none")
		return nil
	}
	t := s.section("Drops", "PACKETS", "REASON", "ADDRESS", "WHAT IT MEANS")
	for _, d := range mine {
		t.row(d.Packets, d.Reason, d.Address, sentences[d.Reason])
	}
	t.done()
	return nil
}

// flows counts the connections through an endpoint, and shows some.
func (s *story) flows(endpoint string) error {
	stream, err := s.caller.inspect().Flows(s.ctx, &apiv1.FlowsRequest{EndpointId: endpoint, Limit: countedFlows})
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var shown []*apiv1.Flow
	n := 0
	err = each(stream, first, func(f *apiv1.Flow) error {
		if n++; len(shown) < shownFlows {
			shown = append(shown, f)
		}
		return nil
	})
	if err != nil {
		return err
	}
	count := fmt.Sprint(n)
	if n == countedFlows {
		count += " or more"
	}
	fmt.Fprintf(s.w, "\nConnections now: %s\n", count)
	if n == 0 {
		return nil
	}
	return printFlows(s.w, func(do func(*apiv1.Flow) error) error {
		for _, f := range shown {
			if err := do(f); err != nil {
				return err
			}
		}
		return nil
	})
}
