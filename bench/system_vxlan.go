// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Addresses of the cable under the tunnel.
var (
	underRouter    = netip.MustParsePrefix("10.0.4.5/24")
	underAppliance = netip.MustParsePrefix("10.0.4.20/24")
)

const (
	under     = "under" // the cable's links
	vxlanPort = 4789    // of RFC 7348
)

// hopMAC is the appliance's hardware address in the tunnel, known beforehand to who makes packets by itself.
var hopMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x14}

// inspectByVXLAN makes the way of a GWLB endpoint's packets out of the kernel's parts: a VXLAN tunnel from the router to a
// namespace that routes everything back into it. Super-packets stay whole on it. Its work happens in the processes that send
// and receive, and so has no processor time of its own.
func inspectByVXLAN(ctx context.Context, b *bed) error {
	if err := b.route(); err != nil {
		return err
	}
	host, err := b.another(true)
	if err != nil {
		return err
	}
	router := end{b.router, under, []netip.Prefix{underRouter}}
	if err := cable(router, end{host, under, []netip.Prefix{underAppliance}}, netns.PortMTU); err != nil {
		return err
	}
	if err := vxlan(ctx, b.router, underAppliance.Addr(), gatewayNode); err != nil {
		return err
	}
	if err := vxlan(ctx, host, underRouter.Addr(), appliance); err != nil {
		return err
	}
	if err := netns.SetMAC(host, hop, hopMAC); err != nil {
		return err
	}
	for _, side := range []netip.Prefix{routerIn, routerOut} {
		if err := netns.AddRoute(host, hop, side, gatewayNode.Addr()); err != nil {
			return err
		}
	}
	return b.inspectVia(appliance.Addr())
}

// vxlan makes one end of the tunnel, with an address in it.
func vxlan(ctx context.Context, ns *netns.NS, remote netip.Addr, address netip.Prefix) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "ip", "link", "add", hop, "mtu", strconv.Itoa(endpointMTU), "type", "vxlan", "id", "1",
		"dev", under, "remote", remote.String(), "dstport", strconv.Itoa(vxlanPort))
	cmd.Stderr = &said
	if err := netns.Do(ns, cmd.Run); err != nil {
		return fmt.Errorf("make VXLAN link: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	if err := netns.AddAddress(ns, hop, address); err != nil {
		return err
	}
	return netns.SetUp(ns, hop)
}
