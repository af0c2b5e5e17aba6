// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// portProtocol marks the routes of ports in the kernel's tables (rtm_protocol), so that those that others have put on a
// device are left alone. The number is free in iproute2's table of them.
const portProtocol netlink.RouteProtocol = 83

// MainRoutes are routes of the main table.
func MainRoutes(destinations []netip.Prefix) []PortRoute {
	routes := make([]PortRoute, len(destinations))
	for i, destination := range destinations {
		routes[i].Destination = destination
	}
	return routes
}

// SetPortRoutes makes routes all that ConfigurePort and SetPortRoutes have put on a device. Routes that stay are not
// touched, so that packets to them pass meanwhile.
func SetPortRoutes(ns *NS, device string, routes []PortRoute) error {
	return onLink(ns, device, "set routes of port", func(h *netlink.Handle, l netlink.Link) error {
		return syncRoutes(h, l, routes)
	})
}

// syncRoutes adds what is missing before it removes what is too much.
func syncRoutes(h *netlink.Handle, l netlink.Link, routes []PortRoute) error {
	there, err := portRoutes(h, l)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		r = r.canonical()
		if _, ok := there[r]; ok {
			delete(there, r)
			continue
		}
		route := &netlink.Route{
			LinkIndex: l.Attrs().Index, Dst: ipNet(r.Destination), Table: r.Table, Scope: netlink.SCOPE_LINK, Protocol: portProtocol,
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("add route %s to table %d: %w", r.Destination, r.Table, err)
		}
	}
	for r, route := range there {
		if err := h.RouteDel(&route); err != nil {
			return fmt.Errorf("remove route %s from table %d: %w", r.Destination, r.Table, err)
		}
	}
	return nil
}

// canonical is the route as the kernel has it.
func (r PortRoute) canonical() PortRoute {
	r.Destination = r.Destination.Masked()
	if r.Table == 0 {
		r.Table = unix.RT_TABLE_MAIN
	}
	return r
}

// portRoutes are the routes of ports that a device has.
func portRoutes(h *netlink.Handle, l netlink.Link) (map[PortRoute]netlink.Route, error) {
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: portProtocol, Table: unix.RT_TABLE_UNSPEC}
	mask := netlink.RT_FILTER_OIF | netlink.RT_FILTER_PROTOCOL | netlink.RT_FILTER_TABLE
	list, err := h.RouteListFiltered(netlink.FAMILY_ALL, filter, mask)
	if err != nil {
		return nil, err
	}
	routes := make(map[PortRoute]netlink.Route, len(list))
	for _, r := range list {
		destination, err := prefixOf(r)
		if err != nil {
			return nil, err
		}
		routes[PortRoute{destination, r.Table}] = r
	}
	return routes, nil
}

// prefixOf is a route's destination.
func prefixOf(r netlink.Route) (netip.Prefix, error) {
	if r.Dst == nil {
		if r.Family == unix.AF_INET6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	}
	address, ok := netip.AddrFromSlice(r.Dst.IP)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("the kernel has a route to %s, which is no prefix", r.Dst)
	}
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(address.Unmap(), ones), nil
}
