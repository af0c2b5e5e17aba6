// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// way is the name of the link by which ns sends to an address what enters by link in; empty when it leads nowhere.
func way(t *testing.T, ns *netns.NS, in, to string) string {
	t.Helper()
	var name string
	must(t, netns.Do(ns, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		routes, err := handle.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{Iif: in, SrcAddr: net.IPv4(10, 0, 0, 9)})
		if err != nil || len(routes) == 0 {
			return nil
		}
		out, err := handle.LinkByIndex(routes[0].LinkIndex)
		if err == nil {
			name = out.Attrs().Name
		}
		return err
	}))
	return name
}

// TestSetRoute has two routes to one prefix in a table of its own: where the better one's link goes, packets vanish.
func TestSetRoute(t *testing.T) {
	const table = 1000
	ns, _ := pair(t)
	must(t, netns.Forward(ns))
	must(t, netns.CreateBridge(ns, "out", netns.PortMTU))
	must(t, netns.SetUp(ns, "out"))
	must(t, netns.AddRule(ns, netns.Rule{Priority: 1, InInterface: "left", Table: table}))
	prefix := netip.MustParsePrefix("192.0.2.0/24")
	must(t, netns.SetRoute(ns, netns.Route{Destination: netip.MustParsePrefix("192.0.0.0/16"), Link: "left"}))
	must(t, netns.SetRoute(ns, netns.Route{Destination: prefix, Table: table, Metric: 2000}))
	if got := way(t, ns, "left", "192.0.2.1"); got != "" {
		t.Errorf("a route that leads nowhere leads to %q", got)
	}
	for range 2 {
		must(t, netns.SetRoute(ns, netns.Route{Destination: prefix, Link: "out", Table: table}))
	}
	if got := way(t, ns, "left", "192.0.2.1"); got != "out" {
		t.Errorf("the route leads to %q", got)
	}
	must(t, netns.SetRoute(ns, netns.Route{Destination: prefix, Link: "left", Gateway: netip.MustParseAddr("10.0.0.2"), Table: table}))
	if got := way(t, ns, "left", "192.0.2.1"); got != "left" {
		t.Errorf("the route that was replaced leads to %q", got)
	}
	must(t, netns.SetRoute(ns, netns.Route{Destination: prefix, Link: "out", Table: table}))
	must(t, netns.Delete(ns, "out"))
	if got := way(t, ns, "left", "192.0.2.1"); got != "" {
		t.Errorf("without its link the route leads to %q", got)
	}
	if err := netns.SetRoute(ns, netns.Route{Destination: prefix, Link: "out", Table: table}); err == nil {
		t.Error("a route through a missing link is set")
	}
}
