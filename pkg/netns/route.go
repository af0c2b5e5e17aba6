// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is an entry of a routing table.
type Route struct {
	Destination netip.Prefix
	// Link is where packets leave; empty makes them vanish without a word.
	Link string
	// Gateway is the next hop there; an invalid one means that the destinations are on the link itself.
	Gateway netip.Addr
	// Table is the table's number; 0 is the main one. Of routes with the same destination the one of the lowest Metric
	// counts, and when its link goes, the next.
	Table, Metric int
}

// SetRoute adds a route to ns, or replaces the one with its destination, table and metric.
func SetRoute(ns *NS, r Route) error {
	err := withHandle(ns, func(h *netlink.Handle) error {
		route := &netlink.Route{Dst: ipNet(r.Destination.Masked()), Table: r.Table, Priority: r.Metric}
		switch {
		case r.Link == "":
			route.Type = unix.RTN_BLACKHOLE
			return h.RouteReplace(route)
		case r.Gateway.IsValid():
			route.Gw = r.Gateway.AsSlice()
		default:
			route.Scope = netlink.SCOPE_LINK
		}
		l, err := h.LinkByName(r.Link)
		if err != nil {
			return err
		}
		route.LinkIndex = l.Attrs().Index
		return h.RouteReplace(route)
	})
	if err != nil {
		return fmt.Errorf("set route %s of table %d through link %q in %s: %w", r.Destination, r.Table, r.Link, ns, explain(err))
	}
	return nil
}
