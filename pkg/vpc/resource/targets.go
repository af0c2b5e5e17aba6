// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// socket is how targets of a group are told apart.
func socket(t *vpc.Target) netip.AddrPort { return netip.AddrPortFrom(t.Address, t.Port) }

// complete fills in what may be left out of a target: the port of an appliance, the zone of an address in a subnet.
func (r *TargetGroup) complete(t *Tx, target *vpc.Target) {
	target.Draining, target.DrainingSince = false, time.Time{}
	if target.Port == 0 && r.Type == vpc.Gateway {
		target.Port = vpc.GenevePort
	}
	if target.Zone != "" {
		return
	}
	for u := range t.model.users(Key{KindVPC, r.Account, r.Group.VPC}, KindSubnet) {
		if s := u.(*Subnet); s.CIDR.Contains(target.Address) {
			target.Zone = s.ZoneID
			return
		}
	}
}

// drain has those targets of the group's earlier self drain that are not registered any more, beside those that did
// already. One that is registered again does not.
func (r *TargetGroup) drain(old *TargetGroup, now time.Time) {
	registered := make(map[netip.AddrPort]bool, len(r.Group.Targets))
	for i := range r.Group.Targets {
		registered[socket(&r.Group.Targets[i])] = true
	}
	for _, d := range old.Draining {
		if !registered[socket(&d.Target)] {
			r.Draining = append(r.Draining, d)
		}
	}
	for i := range old.Group.Targets {
		if t := &old.Group.Targets[i]; !registered[socket(t)] {
			r.Draining = append(r.Draining, DrainingTarget{Target: *t, Since: now})
		}
	}
	r.finish(now)
}

// finish removes the targets that have drained for as long as the group's delay.
func (r *TargetGroup) finish(now time.Time) {
	r.Draining = copied(slices.DeleteFunc(r.Draining, func(d DrainingTarget) bool {
		return !d.Since.Add(r.Group.DeregistrationDelay).After(now)
	}))
}

// RegisterTargets adds targets to a group; one that is there already takes the zone that is given, one that drains is
// registered again. It does not keep the slice.
func (t *Tx) RegisterTargets(k Key, targets []vpc.Target) (*TargetGroup, error) {
	return t.changeTargets(k, func(g *TargetGroup) {
		places := make(map[netip.AddrPort]int, len(g.Group.Targets))
		for i := range g.Group.Targets {
			places[socket(&g.Group.Targets[i])] = i
		}
		for _, target := range targets {
			g.complete(t, &target)
			if i, there := places[socket(&target)]; there {
				g.Group.Targets[i] = target
				continue
			}
			places[socket(&target)] = len(g.Group.Targets)
			g.Group.Targets = append(g.Group.Targets, target)
		}
	}, nil)
}

// DeregisterTargets has targets of a group drain for its deregistration delay, by address and port; port 0 stands for all
// ports of the address. One that drains already goes on.
func (t *Tx) DeregisterTargets(k Key, targets []vpc.Target) (*TargetGroup, error) {
	going := make(map[netip.AddrPort]bool, len(targets))
	for i := range targets {
		going[socket(&targets[i])] = true
	}
	goes := func(t *vpc.Target) bool { return going[socket(t)] || going[netip.AddrPortFrom(t.Address, 0)] }
	return t.changeTargets(k, func(g *TargetGroup) {
		g.Group.Targets = slices.DeleteFunc(g.Group.Targets, func(t vpc.Target) bool { return goes(&t) })
	}, func(g *TargetGroup, c *complaints) {
		known := map[netip.Addr]map[uint16]bool{}
		add := func(t *vpc.Target) {
			if known[t.Address] == nil {
				known[t.Address] = map[uint16]bool{0: true}
			}
			known[t.Address][t.Port] = true
		}
		for i := range g.Group.Targets {
			add(&g.Group.Targets[i])
		}
		for i := range g.Draining {
			add(&g.Draining[i].Target)
		}
		for i, target := range targets {
			if !known[target.Address][target.Port] {
				c.add(NotFound, "TARGET_NOT_FOUND", "InvalidTarget", at("targets", i), "%s port %d is not registered; look at the targets of the group", target.Address, target.Port)
			}
		}
	})
}

// changeTargets updates a group by a change of its targets; judge, if there is one, sees the group before that.
func (t *Tx) changeTargets(k Key, change func(*TargetGroup), judge func(*TargetGroup, *complaints)) (*TargetGroup, error) {
	k.Kind = KindTargetGroup
	r, denied := t.owned(k)
	if denied != nil {
		return nil, denied
	}
	g := r.(*TargetGroup)
	if c := (&complaints{key: g.Key}); judge != nil {
		if judge(g, c); len(c.errs) > 0 {
			return nil, c.err()
		}
	}
	n := Clone(g)
	change(n)
	updated, err := t.Update(n, 0)
	if err != nil {
		return nil, err
	}
	return updated.(*TargetGroup), nil
}
