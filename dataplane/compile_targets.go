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
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// identity is what makes a target another one when it changes.
func (t TargetID) identity() string { return t.Group + "|" + t.Address.String() }

func idOf(group string, t *vpc.Target) TargetID {
	return TargetID{Group: group, Address: netip.AddrPortFrom(t.Address, t.Port)}
}

// compileTargets places the targets of the state and those that have left it but still have connections, which drain.
func (c *compiler) compileTargets() (err error) {
	var ids []string
	for i := range c.in.state.TargetGroups {
		g := &c.in.state.TargetGroups[i]
		for j := range g.Targets {
			ids = append(ids, idOf(g.ID, &g.Targets[j]).identity())
		}
	}
	leaving := c.leaving(ids)
	for _, t := range leaving {
		ids = append(ids, t.id.identity())
	}
	if c.tgtIDs, err = c.in.tgtIDs.assign(ids, "targets"); err != nil {
		return err
	}
	c.v.targets = make([]viewTarget, len(c.tgtIDs.gens))
	for i := range c.in.state.TargetGroups {
		g := &c.in.state.TargetGroups[i]
		for j := range g.Targets {
			t := &g.Targets[j]
			c.placeTarget(g, idOf(g.ID, t), t.Zone, t.Draining, c.failsOpen(g, t.Zone))
		}
	}
	for _, t := range leaving {
		c.placeTarget(c.groups[t.id.Group], t.id, t.zone, true, false)
	}
	return nil
}

// leaving are the targets of the previous view that the state no longer has, in groups it still has, with connections.
func (c *compiler) leaving(ids []string) (out []viewTarget) {
	have := make(map[string]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	for _, t := range c.in.prev.targets {
		if t.gen != 0 && !have[t.id.identity()] && c.groups[t.id.Group] != nil && sum(t.counters, targetActive) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (c *compiler) placeTarget(g *vpc.TargetGroup, id TargetID, zone string, draining, failOpen bool) {
	ref := c.tgtIDs.ref(id.identity())
	t := viewTarget{gen: ref.Gen, id: id, zone: zone, addr: id.Address.Addr().As16(), port: id.Address.Port(),
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
	c.v.targets[ref.Slot] = t
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

// compilePool makes the pool of a node for a group, or takes the table from the previous view where it would be the same.
// A table keeps its length while the pool lives and does not outgrow it: another length is another table throughout.
func (c *compiler) compilePool(lb *vpc.LoadBalancer, zone string, g *vpc.TargetGroup) *pool {
	id := poolID{lb.ID, zone, g.ID}
	if p := c.v.pools[id]; p != nil {
		return p
	}
	p := &pool{}
	var names []string
	failOpen := c.failsOpen(g, zone)
	for i := range g.Targets {
		t := &g.Targets[i]
		tid := idOf(g.ID, t)
		if t.Draining || t.Zone != zone && !lb.CrossZone || c.in.health[tid] == Unhealthy && !failOpen {
			continue
		}
		names = append(names, tid.Address.String())
		p.targets = append(p.targets, c.tgtIDs.ref(tid.identity()).Slot)
	}
	size := balance.TableSize(len(g.Targets))
	if old := c.in.prev.pools[id]; old != nil {
		size = max(size, old.table.Size())
		if old.table.Same(c.v.key, names, size) {
			p.table = old.table
		}
	}
	if p.table == nil {
		p.table = balance.Build(c.v.key, names, size)
	}
	c.v.pools[id] = p
	return p
}

// scoreOf is a keyed score of the strings, for choices that must not change when others come and go.
func scoreOf(key [16]byte, parts ...string) uint64 {
	var b []byte
	for _, s := range parts {
		b = append(append(b, s...), 0)
	}
	return siphash.Hash(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]), b)
}
