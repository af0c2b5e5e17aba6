// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"slices"

	"github.com/isthmus-net/isthmus/dataplane/balance"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// viewGateway is what a GWLB endpoint does with packets: the settings of its service's load balancer, and what tells its
// flows from those of others.
type viewGateway struct {
	number     uint64 // of the endpoint, in GENEVE's first option
	scope      uint16 // slot that stands for service, zone and consumer VPC
	mtu        int    // longest inner packet in bytes
	kind       flow.Kind
	idleTenths uint16 // of TCP flows
	pool       *pool

	rebalance             bool
	resetOnIdle           bool
	resetOnUnhealthy      bool
	resetOnDeregistration bool
}

// otherIdleTenths is the idle timeout of flows other than TCP, which is fixed (AWS GWLB listeners).
const otherIdleTenths = 1200

// kindOf is the flow table's word for a group's stickiness.
func kindOf(s vpc.Stickiness) flow.Kind {
	return [...]flow.Kind{vpc.FiveTuple: flow.FiveTuple, vpc.ThreeTuple: flow.ThreeTuple, vpc.TwoTuple: flow.TwoTuple}[s]
}

// pick is the slot of the target that a new flow goes to, or -1 where there is none. Like that of a connection it is chosen
// by the state's key and what is in the packet alone, so that it is the same after a restart. The flow table's hash would
// not do: it names a slot, and appliances would see what becomes of it.
func (g *viewGateway) pick(key [16]byte, k *flow.StickyKey) int {
	i := g.pool.table.Pick(balance.Hash(key, k.Proto, k.A, k.B, k.APort, k.BPort, 0))
	if i < 0 {
		return -1
	}
	return int(g.pool.targets[i])
}

// takesNew says whether new flows may go to the target in a slot.
func (g *viewGateway) takesNew(slot uint16) bool { return slices.Contains(g.pool.targets, slot) }

// failed says what is to become of a flow whose target has failed: whether it moves to another target, or else whether its
// next TCP segment is answered with RST. Where neither holds it stays with the target it has, dead or alive.
func (g *viewGateway) failed(why Reason) (moves, reset bool) {
	switch {
	case g.rebalance:
		return true, false
	case why == TargetUnhealthy:
		return false, g.resetOnUnhealthy
	}
	return false, g.resetOnDeregistration
}
