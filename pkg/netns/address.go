// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddAddress gives link an address; the bits of prefix say what is on link with it. An address already there stays.
func AddAddress(ns *NS, link string, prefix netip.Prefix) error {
	return onLink(ns, link, "add address "+prefix.String(), func(h *netlink.Handle, l netlink.Link) error {
		return addAddress(h, l, prefix)
	})
}

// AddRoute sends what is for destination out of link: directly, or through the gateway if that is valid. A route to
// the same destination is replaced. The link must be up.
func AddRoute(ns *NS, link string, destination netip.Prefix, gateway netip.Addr) error {
	return onLink(ns, link, "add route "+destination.String(), func(h *netlink.Handle, l netlink.Link) error {
		return addRoute(h, l, destination, gateway)
	})
}

// AddDefaultRoute makes gateway, which must be on link, the next hop of all that has no better route.
func AddDefaultRoute(ns *NS, link string, gateway netip.Addr) error {
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return AddRoute(ns, link, everything, gateway)
}

func addAddress(h *netlink.Handle, l netlink.Link, prefix netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // usable at once: nobody else can have it here
	}
	return h.AddrReplace(l, addr)
}

func addRoute(h *netlink.Handle, l netlink.Link, destination netip.Prefix, gateway netip.Addr) error {
	route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(destination.Masked())}
	if gateway.IsValid() {
		route.Gw = gateway.AsSlice()
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	return h.RouteReplace(route)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
