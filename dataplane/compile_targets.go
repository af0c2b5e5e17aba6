// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/dchest/siphash"

	"github.com/isthmus-net/isthmus/dataplane/balance"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func idOf(group string, t *vpc.Target) TargetID {
	return TargetID{Group: group, Address: netip.AddrPortFrom(t.Address, t.Port)}
}

// compileTargets places the targets of the state and those that have left it but still have connections, which drain.
func (c *compiler) compileTargets() (err error) {
	ids := make([]TargetID, 0, len(c.in.prev.targets))
	for i := range c.in.state.TargetGroups {
		g := &c.in.state.TargetGroups[i]
		for j := range g.Targets {
			ids = append(ids, idOf(g.ID, &g.Targets[j]))
		}
	}
	var leaving []uint16
	keep := func(slot uint16) bool {
		t := &c.in.prev.targets[slot]
		stays := c.groups[t.id.Group] != nil && sum(t.counters, targetActive) > 0
		if stays {
			leaving = append(leaving, slot)
		}
		return stays
	}
	var refs []flow.Ref
	if c.places.targets, refs, err = c.in.places.targets.assign(ids, "targets", keep); err != nil {
		return err
	}
	c.v.targets = make([]viewTarget, len(c.places.targets.gens))
	for i := range c.in.state.TargetGroups {
		g := &c.in.state.TargetGroups[i]
		n := len(g.Targets)
		c.placeGroup(g, ids[:n], refs[:n])
		ids, refs = ids[n:], refs[n:]
	}
	for _, slot := range leaving {
		t := &c.in.prev.targets[slot]
		c.placeTarget(c.groups[t.id.Group], t.id, flow.Ref{Slot: slot, Gen: t.gen}, t.zone, true, false)
	}
	return nil
}

// placeGroup puts the targets of a group in their places.
func (c *compiler) placeGroup(g *vpc.TargetGroup, ids []TargetID, refs []flow.Ref) {
	c.refs[g.ID] = refs
	open, zone := false, ""
	for i := range g.Targets {
		t := &g.Targets[i]
		if i == 0 || t.Zone != zone { // mostly that of the target before
			zone = t.Zone
			open = c.failsOpen(g, zone)
		}
		c.placeTarget(g, ids[i], refs[i], t.Zone, t.Draining, open)
	}
}

func (c *compiler) placeTarget(g *vpc.TargetGroup, id TargetID, ref flow.Ref, zone string, draining, failOpen bool) {
	t := &c.v.targets[ref.Slot]
	*t = viewTarget{gen: ref.Gen, id: id, zone: zone, addr: id.Address.Addr().As16(), port: id.Address.Port(),
		draining: draining, health: c.in.health[id], proxy: g.ProxyProtocol}
	terminates := g.TerminateOnUnhealthy || c.gatewayGroups[g.ID]
	switch {
	case draining && c.in.ended[id]:
		t.deny = TargetDeregistered
		c.ended[id] = true
	case t.health == Unhealthy && terminates && !failOpen:
		t.deny = TargetUnhealthy
	}
	if prev := c.in.prev; int(ref.Slot) < len(prev.targets) && prev.targets[ref.Slot].gen == ref.Gen {
		t.counters = prev.targets[ref.Slot].counters
	} else {
		t.counters = newBlocks(c.in.workers, targetCounters)
	}
}

// failsOpen says whether every target of the group that may take connections in a zone is unhealthy. Then all of them do.
// A gateway load balancer without cross-zone balancing judges each zone by itself; else all zones are one.
func (c *compiler) failsOpen(g *vpc.TargetGroup, zone string) bool {
	if !c.zonal[g.ID] {
		zone = ""
	}
	key := [2]string{g.ID, zone}
	if fails, known := c.failing[key]; known {
		return fails
	}
	c.failing[key] = !slices.ContainsFunc(g.Targets, func(t vpc.Target) bool {
		return !t.Draining && (zone == "" || t.Zone == zone) && c.in.health[idOf(g.ID, &t)] != Unhealthy
	})
	return c.failing[key]
}

// compileListeners makes the listeners of a load balancer as its node in one zone serves them.
func (c *compiler) compileListeners(lb *vpc.LoadBalancer, zone string) []viewListener {
	out := make([]viewListener, 0, len(lb.Listeners))
	for _, l := range lb.Listeners {
		idle := l.IdleTimeout
		if t := c.in.state.Testing; t != nil && t.TCPIdle > 0 {
			idle = t.TCPIdle
		}
		out = append(out, viewListener{port: l.Port, idleTenths: uint16(max(idle/(100*time.Millisecond), 1)),
			pool: c.compilePool(lb, zone, c.groups[l.TargetGroup])})
	}
	slices.SortFunc(out, func(a, b viewListener) int { return cmp.Compare(a.port, b.port) })
	return out
}

// compilePool makes the pool of a node for a group, or takes it from the previous view where it would be the same.
// A table keeps its length while the pool lives and does not outgrow it: another length is another table throughout.
func (c *compiler) compilePool(lb *vpc.LoadBalancer, zone string, g *vpc.TargetGroup) *pool {
	id := poolID{lb.ID, zone, g.ID}
	if p := c.v.pools[id]; p != nil {
		return p
	}
	failOpen := c.failsOpen(g, zone)
	p := &pool{}
	for _, ref := range c.refs[g.ID] {
		t := &c.v.targets[ref.Slot]
		if t.draining || t.zone != zone && !lb.CrossZone || t.health == Unhealthy && !failOpen {
			continue
		}
		p.members, p.targets = append(p.members, t.id.Address), append(p.targets, ref.Slot)
	}
	p.build(c, c.in.prev.pools[id], balance.TableSize(len(g.Targets)))
	c.v.pools[id] = p
	return p
}

// build gives the pool its table, of a size or longer: that of the pool it follows, which may be nil, where it is the same.
func (p *pool) build(c *compiler, old *pool, size int) {
	if old != nil {
		size = max(size, old.table.Size())
		if c.in.prev.key == c.v.key && slices.Equal(old.members, p.members) && (len(p.members) == 0 || old.table.Size() == size) {
			p.table = old.table
			return
		}
	}
	names := make([]string, len(p.members))
	for i, m := range p.members {
		names[i] = m.String()
	}
	p.table = balance.Build(c.v.key, names, size)
}

// scoreOf is a keyed score of the strings, for choices that must not change when others come and go.
func scoreOf(key [16]byte, parts ...string) uint64 {
	var b []byte
	for _, s := range parts {
		b = append(append(b, s...), 0)
	}
	return siphash.Hash(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]), b)
}
