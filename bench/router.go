// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// In scenarios of GWLB endpoints a router stands between client and server, as that of a VPC does between its subnets. What
// enters from either of them leaves by the link hop; what comes back there goes on to the other.

// Addresses: the router's towards client and server, the endpoint's, which nobody sends to, and those of the load balancer's
// node and of the appliance.
var (
	routerIn    = netip.MustParsePrefix("10.0.1.1/24")
	routerOut   = netip.MustParsePrefix("10.0.2.1/24")
	endpointENI = netip.MustParseAddr("10.0.1.100")
	gatewayNode = netip.MustParsePrefix("10.0.3.5/24")
	appliance   = netip.MustParsePrefix("10.0.3.20/24")
)

const (
	// hop is the name of the router's link towards the appliance: a GWLB endpoint's device, or what stands for it.
	hop = "hop"
	// inspection is the number of the routing table that leads there, and the priority of the rules that lead to it.
	inspection = 1000
)

// route puts the router between client and server. Nothing passes it yet.
func (b *bed) route() (err error) {
	// A load balancer changes no MSS, so it is the cables' MTU that leads to the segments of other scenarios.
	if b.router, err = b.middle(endpointMTU, true, routerIn, routerOut); err != nil {
		return err
	}
	if err := netns.AddDefaultRoute(b.client, device, routerIn.Addr()); err != nil {
		return err
	}
	if err := netns.AddDefaultRoute(b.server, device, routerOut.Addr()); err != nil {
		return err
	}
	for _, link := range []string{clientLink, serverLink} {
		if err := netns.AddRule(b.router, netns.Rule{Priority: inspection, InInterface: link, Table: inspection}); err != nil {
			return err
		}
	}
	return nil
}

// inspectVia leads what enters the router out of hop, which must be up: through a gateway there if that is valid.
func (b *bed) inspectVia(gateway netip.Addr) error {
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	return netns.SetRoute(b.router, netns.Route{Destination: everything, Link: hop, Gateway: gateway, Table: inspection})
}

// origin is where the client runs: beside the ENI where it makes packets without the kernel's help.
func (b *bed) origin() *netns.NS {
	if b.load.Kind == kindPackets {
		return b.router
	}
	return b.client
}
