// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-net/isthmus/dataplane/flow"
)

// placeENIs gives the ENIs their slots, keeps places for those that have just gone, and builds the address tables.
func (c *compiler) placeENIs() (err error) {
	ids := make([]eniID, len(c.enis))
	addrs := 0
	for i := range c.enis {
		ids[i] = c.enis[i].id
		addrs += len(c.enis[i].ports)
	}
	var ghosts []uint16
	keep := func(slot uint16) bool {
		if !c.haunts(slot) {
			return false
		}
		ghosts = append(ghosts, slot)
		addrs += len(c.in.prev.enis[slot].ports)
		return true
	}
	var refs []flow.Ref
	if c.places.enis, refs, err = c.in.places.enis.assign(ids, "ENIs", keep); err != nil {
		return err
	}
	c.renewReturned(refs)
	v := c.v
	v.enis = make([]viewENI, len(c.places.enis.gens))
	v.addrs, v.known = newAddrTable(addrs), newAddrTable(len(c.enis))
	slots := make([]uint16, 0, addrs) // of all ENIs' ports
	for i := range c.enis {
		if slots, err = c.placeENI(&c.enis[i], refs[i], refs[c.enis[i].node], slots); err != nil {
			return err
		}
	}
	for _, slot := range ghosts {
		c.placeGhost(slot)
	}
	return nil
}

// placeENI puts an ENI in its place; node is that of its node. It appends the slots of its ports to slots.
func (c *compiler) placeENI(n *newENI, ref, node flow.Ref, slots []uint16) ([]uint16, error) {
	e := &c.v.enis[ref.Slot]
	*e = n.eni
	e.gen, e.node, e.addr = ref.Gen, node, n.id.addr.As16()
	if ref == node {
		e.egress = c.egress(n.ports)
	}
	if prev := c.in.prev; int(ref.Slot) < len(prev.enis) && prev.enis[ref.Slot].gen == ref.Gen {
		e.counters = prev.enis[ref.Slot].counters
	} else {
		e.counters = newBlocks(c.in.workers, eniCounters)
	}
	first := len(slots)
	for _, id := range n.ports {
		r, ok := c.open[id]
		if !ok {
			continue
		}
		slots = append(slots, r.Slot)
		if !c.v.addrs.add(r.Slot, e.addr, ref.Slot) {
			return nil, fmt.Errorf("address %v belongs to two ENIs on port %s", n.id.addr, id)
		}
		if err := c.placeNextHop(e.role, r, ref.Slot); err != nil {
			return nil, err
		}
	}
	e.ports = slots[first:len(slots):len(slots)]
	c.v.known.add(anyPort, e.addr, ref.Slot) // one of those that have the address
	return slots, nil
}

// egress lists the ports of a node that are open by the prefixes they reach.
func (c *compiler) egress(ports []string) (out []egress) {
	for _, id := range ports {
		r, ok := c.open[id]
		if !ok {
			continue
		}
		p := c.defs[id]
		out = append(out, egress{prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0), port: r})
		if p.Subnet.IsValid() {
			out = append(out, egress{prefix: p.Subnet.Masked(), port: r})
		}
		for _, a := range p.Addresses {
			out = append(out, egress{prefix: a.Masked(), port: r})
		}
	}
	slices.SortStableFunc(out, func(a, b egress) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return out
}

// haunts says whether an ENI that the state has no more keeps its place. Probe ENIs do not: nobody waits for an answer
// there.
func (c *compiler) haunts(slot uint16) bool {
	old := &c.in.prev.enis[slot]
	return old.role != RoleProbe && !(old.gone && c.in.now-old.goneAt > goneTime)
}

// renewReturned gives ENIs that come back after they had gone a new generation: their connections ended with them, even
// those that have not noticed.
func (c *compiler) renewReturned(refs []flow.Ref) {
	prev := c.in.prev.enis
	for i, r := range refs {
		if int(r.Slot) < len(prev) && prev[r.Slot].gen == r.Gen && prev[r.Slot].gone {
			c.places.enis.renew(r.Slot)
			refs[i].Gen = c.places.enis.gens[r.Slot]
		}
	}
}

// placeGhost keeps the place of an ENI that is gone, unless its addresses have a new owner. Ports that are gone
// too, or whose slots have changed hands, are forgotten.
func (c *compiler) placeGhost(slot uint16) {
	e := c.in.prev.enis[slot]
	if !e.gone {
		e.gone, e.goneAt = true, c.in.now
	}
	e.listeners, e.egress, e.gateway, e.groups, e.limiter = nil, nil, nil, nil, nil
	var still []uint16
	for _, p := range e.ports {
		if int(p) < len(c.v.ports) && c.v.ports[p].gen != 0 && c.v.ports[p].gen == c.in.prev.ports[p].gen &&
			c.v.addrs.add(p, e.addr, slot) {
			still = append(still, p)
		}
	}
	e.ports = still
	c.v.enis[slot] = e
}
