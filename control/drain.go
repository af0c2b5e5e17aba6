// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// forgetAfter is how long a target that has left the state is remembered: no connection of it can be older.
const forgetAfter = vpc.MaxDeregistrationDelay + vpc.MaxIdleTimeout

// drains remembers since when targets are being deregistered: those that the state says are draining, and those that it
// no longer has. It is pure: time comes in with the calls. A restart of the daemon begins the delays again where the state
// does not say since when.
type drains struct {
	leaving map[dataplane.TargetID]*leaving
	rosters map[string]*roster // of the groups of the newest state
}

// roster is the targets of a group.
type roster struct {
	list    []vpc.Target
	present map[netip.AddrPort]bool
}

// leaving is a target that is being deregistered.
type leaving struct {
	since     time.Time
	left      bool // the state no longer has it
	delay     time.Duration
	terminate bool // something becomes of its connections after the delay
}

func newDrains() *drains { return &drains{leaving: map[dataplane.TargetID]*leaving{}} }

// update takes a new state.
func (d *drains) update(s *vpc.State, now time.Time) {
	gateways := s.GatewayGroups()
	groups := make(map[string]*vpc.TargetGroup, len(s.TargetGroups))
	rosters := make(map[string]*roster, len(s.TargetGroups))
	for i := range s.TargetGroups {
		g := &s.TargetGroups[i]
		groups[g.ID] = g
		before := d.rosters[g.ID]
		if before != nil && sameList(before.list, g.Targets) {
			rosters[g.ID] = before
			continue
		}
		rosters[g.ID] = d.enroll(g, before, now)
	}
	d.rosters = rosters
	for id, l := range d.leaving {
		g := groups[id.Group]
		if g == nil || l.left && now.Sub(l.since) > forgetAfter {
			delete(d.leaving, id)
			continue
		}
		// What becomes of the flows of an appliance, the engine decides by the group's failover.
		l.delay, l.terminate = g.DeregistrationDelay, g.TerminateOnDeregistration || gateways[g.ID]
	}
}

// enroll takes a group whose list is another one than before.
func (d *drains) enroll(g *vpc.TargetGroup, before *roster, now time.Time) *roster {
	r := &roster{list: g.Targets, present: make(map[netip.AddrPort]bool, len(g.Targets))}
	for i := range g.Targets {
		t := &g.Targets[i]
		id := dataplane.TargetID{Group: g.ID, Address: netip.AddrPortFrom(t.Address, t.Port)}
		r.present[id.Address] = true
		if !t.Draining {
			delete(d.leaving, id)
			continue
		}
		since := t.DrainingSince
		if since.IsZero() {
			since = now
		}
		d.begin(id, since).left = false
	}
	if before == nil {
		return r
	}
	for address := range before.present {
		if !r.present[address] {
			d.begin(dataplane.TargetID{Group: g.ID, Address: address}, now).left = true
		}
	}
	return r
}

// begin finds a target that is leaving already, or begins its delay.
func (d *drains) begin(id dataplane.TargetID, now time.Time) *leaving {
	l := d.leaving[id]
	if l == nil {
		l = &leaving{since: now}
		d.leaving[id] = l
	}
	return l
}

// ended are the targets whose connections are to end or, from appliances, to fail over, and when the next one joins them, if one does.
func (d *drains) ended(now time.Time) (ids map[dataplane.TargetID]bool, next time.Time) {
	ids = map[dataplane.TargetID]bool{}
	for id, l := range d.leaving {
		if !l.terminate {
			continue
		}
		if end := l.since.Add(l.delay); !now.Before(end) {
			ids[id] = true
		} else if next.IsZero() || end.Before(next) {
			next = end
		}
	}
	return ids, next
}
