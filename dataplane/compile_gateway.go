// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// compileGateway makes the settings of a GWLB endpoint from its load balancer, which has one listener.
func (c *compiler) compileGateway(ep *vpc.Endpoint, lb *vpc.LoadBalancer, zone string) *viewGateway {
	l := &lb.Listeners[0]
	group := c.groups[l.TargetGroup]
	number, _ := wire.EndpointNumber(ep.ID)
	g := &viewGateway{number: number, mtu: EndpointMTU, kind: kindOf(group.Stickiness), pool: c.compilePool(lb, zone, group),
		rebalance: group.Rebalance, resetOnIdle: l.ResetOnIdle, resetOnUnhealthy: group.ResetOnUnhealthy,
		resetOnDeregistration: group.ResetOnDeregistration}
	if lb.MTU > 0 {
		g.mtu = min(lb.MTU, EndpointMTU)
	}
	idle := l.IdleTimeout
	if t := c.in.state.Testing; t != nil && t.TCPIdle > 0 {
		idle = t.TCPIdle
	}
	g.idleTenths = uint16(max(idle/(100*time.Millisecond), 1))
	return g
}

// placeScopes gives the scopes of GWLB flows their slots. A flow's key names its scope by slot alone, which may be another's
// when the scope is gone; but then so are all endpoints of its flows, see deserted.
func (c *compiler) placeScopes() (err error) {
	var ids []scopeID
	var gateways []*viewGateway
	for i := range c.enis {
		if n := &c.enis[i]; n.eni.gateway != nil {
			ids = append(ids, scopeID{n.id.service, n.id.zone, n.id.vpc})
			gateways = append(gateways, n.eni.gateway)
		}
	}
	var refs []flow.Ref
	if c.places.scopes, refs, err = c.in.places.scopes.assign(ids, "services in a zone and VPC", nil); err != nil {
		return err
	}
	for i, g := range gateways {
		g.scope = refs[i].Slot
	}
	return nil
}

// placeNextHop makes a GWLB endpoint the taker of all that is routed into its TUN port.
func (c *compiler) placeNextHop(role Role, on flow.Ref, eni uint16) error {
	if role != RoleGatewayEndpoint {
		return nil
	}
	p := &c.v.ports[on.Slot]
	p.transit = true
	if c.defs[p.id].Kind != vpc.TUN {
		return nil
	}
	if p.gateway >= 0 {
		return fmt.Errorf("port %s: two GWLB endpoints on one TUN device: give each a device of its own", p.id)
	}
	p.gateway = int32(eni)
	return nil
}
