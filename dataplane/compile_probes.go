// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// listProbes adds an ENI on the probe port for each target that is checked: a connection to its address goes to that
// target alone, from the node of the target's zone, or from the first node where that zone has none.
func (c *compiler) listProbes() {
	if c.in.ports[ProbePortID] == nil {
		return
	}
	c.v.probes = make([]ProbeRoute, 0, len(c.in.prev.probes)+64) // about as many as there were
	done := map[string]bool{}
	for i := range c.in.state.LoadBalancers {
		lb := &c.in.state.LoadBalancers[i]
		for _, l := range lb.Listeners {
			g := c.groups[l.TargetGroup]
			if g.HealthCheck.Protocol == vpc.CheckNone || len(lb.Nodes) == 0 || done[g.ID] {
				continue
			}
			done[g.ID] = true
			for j, ref := range c.refs[g.ID] {
				c.addProbe(lb, nodeFor(lb, g.Targets[j].Zone), ref)
			}
		}
	}
}

func nodeFor(lb *vpc.LoadBalancer, zone string) *vpc.ENI {
	for i := range lb.Nodes {
		if lb.Nodes[i].Zone == zone {
			return &lb.Nodes[i]
		}
	}
	return &lb.Nodes[0]
}

// probePorts are the ports of all probe ENIs.
var probePorts = []string{ProbePortID}

func (c *compiler) addProbe(lb *vpc.LoadBalancer, node *vpc.ENI, ref flow.Ref) {
	target, via := c.v.targets[ref.Slot].id, probeAddr(ref.Slot)
	c.enis = append(c.enis, newENI{node: c.nodes[[2]string{lb.ID, node.Zone}], ports: probePorts,
		id:  eniID{role: RoleProbe, owner: lb.ID, zone: node.Zone, addr: via, target: ref},
		eni: viewENI{role: RoleProbe, owner: lb.ID, vpc: lb.VPC, zone: node.Zone, probeTarget: int(ref.Slot)}})
	c.v.probes = append(c.v.probes, ProbeRoute{TargetID: target, LoadBalancer: lb.ID, Zone: node.Zone, Node: node.Address, Via: via})
}

// probeAddr is the address that names the target in a slot on the probe port. A target keeps it as it keeps its slot, so that
// checks under way go on when other targets come and go.
func probeAddr(slot uint16) netip.Addr {
	const first = 2 // the one before is the checker's own
	a := ProbeNet.Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+first+uint32(slot))
	return netip.AddrFrom4(a)
}
