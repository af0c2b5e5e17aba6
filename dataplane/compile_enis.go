// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// probe is a target to check, and the node to check it from.
type probe struct {
	lb     *vpc.LoadBalancer
	node   *vpc.ENI
	target TargetID
}

// listProbes adds an ENI on the probe port for each target that is checked: a connection to its address goes to that
// target alone, from the node of the target's zone, or from the first node where that zone has none. A target keeps
// its address from view to view, so that checks under way go on when other targets come and go.
func (c *compiler) listProbes() error {
	if c.in.ports[ProbePortID] == nil {
		return nil
	}
	old, taken := map[TargetID]netip.Addr{}, map[netip.Addr]bool{}
	for _, r := range c.in.prev.probes {
		old[r.TargetID] = r.Via
	}
	probes := c.probes()
	for _, p := range probes {
		taken[old[p.target]] = true
	}
	next := ProbeNet.Addr().Next() // the first is the checker's own
	for _, p := range probes {
		via, ok := old[p.target]
		if !ok {
			for next = next.Next(); taken[next]; next = next.Next() {
			}
			via = next
		}
		if !ProbeNet.Contains(via) {
			return fmt.Errorf("more targets to check than %v has addresses", ProbeNet)
		}
		c.addProbe(p.lb, p.node, p.target, via)
	}
	return nil
}

// probes are the targets to check, each once.
func (c *compiler) probes() (out []probe) {
	done := map[TargetID]bool{}
	for i := range c.in.state.LoadBalancers {
		lb := &c.in.state.LoadBalancers[i]
		for _, l := range lb.Listeners {
			g := c.groups[l.TargetGroup]
			if g.HealthCheck.Protocol == vpc.CheckNone || len(lb.Nodes) == 0 {
				continue
			}
			for j := range g.Targets {
				t := &g.Targets[j]
				if id := idOf(g.ID, t); !done[id] {
					done[id] = true
					out = append(out, probe{lb, nodeFor(lb, t.Zone), id})
				}
			}
		}
	}
	return out
}

func nodeFor(lb *vpc.LoadBalancer, zone string) *vpc.ENI {
	for i := range lb.Nodes {
		if lb.Nodes[i].Zone == zone {
			return &lb.Nodes[i]
		}
	}
	return &lb.Nodes[0]
}

func (c *compiler) addProbe(lb *vpc.LoadBalancer, node *vpc.ENI, target TargetID, via netip.Addr) {
	id := strings.Join([]string{"probe", lb.ID, node.Zone, target.identity(), via.String()}, "|")
	c.enis = append(c.enis, newENI{id: id, node: c.nodes[[2]string{lb.ID, node.Zone}], at: vpc.ENI{Address: via, Zone: node.Zone, Ports: []string{ProbePortID}},
		eni: viewENI{role: RoleProbe, owner: lb.ID, vpc: lb.VPC, zone: node.Zone,
			probeTarget: int(c.tgtIDs.ref(target.identity()).Slot)}})
	c.v.probes = append(c.v.probes, ProbeRoute{TargetID: target, LoadBalancer: lb.ID, Zone: node.Zone, Node: node.Address, Via: via})
}

// ghosts are the identities of ENIs that keep their places although the state has them no more. Probe ENIs do not:
// nobody waits for an answer there.
func (c *compiler) ghosts(ids []string) (out []string) {
	have := make(map[string]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(c.in.eniIDs.byID)) {
		old := &c.in.prev.enis[c.in.eniIDs.byID[id]]
		if have[id] || old.role == RoleProbe || old.gone && c.in.now-old.goneAt > goneTime {
			continue
		}
		out = append(out, id)
	}
	return out
}

// renewReturned gives ENIs that come back after they had gone a new generation: their connections ended with them, even
// those that have not noticed.
func (c *compiler) renewReturned(ids []string) {
	for _, id := range ids {
		r := c.eniIDs.ref(id)
		if prev := c.in.prev.enis; int(r.Slot) < len(prev) && prev[r.Slot].gen == r.Gen && prev[r.Slot].gone {
			c.eniIDs.renew(r.Slot)
		}
	}
}

// placeGhost keeps the place of an ENI that is gone, unless its addresses have a new owner. Ports that are gone
// too, or whose slots have changed hands, are forgotten.
func (c *compiler) placeGhost(id string) {
	slot := c.eniIDs.byID[id]
	e := c.in.prev.enis[slot]
	if !e.gone {
		e.gone, e.goneAt = true, c.in.now
	}
	e.listeners, e.egress, e.gateway = nil, nil, nil
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
