// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

const (
	// PortMTU is the MTU of a port's device: that of an ENI. It is above the 8500 bytes an endpoint carries, so that
	// the limit is the dataplane's to enforce and to count.
	PortMTU = 9001
	// PortTxQueueLen is how many packets the kernel queues for each queue of a port's device: one busy queue's worth
	// of segments between two turns. The device's default of 500 drops under load; each packet may be 64 KiB.
	PortTxQueueLen = 1000
)

// PortOptions are the settings of a port's device that differ from port to port.
type PortOptions struct {
	// Addresses are the namespace's own on the device, each with its on-link prefix.
	Addresses []netip.Prefix
	// Routes are what the namespace reaches through the device.
	Routes []PortRoute
	// Bridge is the bridge the device joins, or empty.
	Bridge string
	// Transit makes the device a next hop: traffic of others passes it in both directions, of both families and from any
	// source. Only the device's own settings are made so; those of its namespace are its maker's.
	Transit bool
}

// PortRoute is what a namespace reaches through a port's device, for those whose packets look into the table.
type PortRoute struct {
	Destination netip.Prefix
	Table       int // 0 is the main table
}

// quietPort are the settings of a port that carries no IPv6: the kernel's own solicitations would reach the dataplane
// uninvited.
func quietPort(device string) []Sysctl {
	return []Sysctl{{"net/ipv6/conf/" + device + "/disable_ipv6", "1"}}
}

// transitPort are the settings of a Transit port. IPv6 passes, but the kernel has nothing to say of its own there: no
// address, so no router solicitations, no redirects and no duplicate address detection, and no group but that of all
// nodes, which is not reported, since only a router joins others.
func transitPort(device string) []Sysctl {
	v4, v6 := "net/ipv4/conf/"+device+"/", "net/ipv6/conf/"+device+"/"
	return []Sysctl{
		{v4 + "rp_filter", "0"},
		{v4 + "send_redirects", "0"},
		{v6 + "addr_gen_mode", "1"}, // none
		{v6 + "accept_ra", "0"},
		{v6 + "autoconf", "0"},
		{v6 + "force_mld_version", "1"}, // version 2 reports even that a group was left before the device was up
		{v6 + "forwarding", "0"},        // whether the namespace forwards is decided elsewhere (conf/all)
		{v6 + "disable_ipv6", "0"},
	}
}

// ConfigurePort sets everything on a TUN or TAP device in ns that has just been opened, and brings it up last. The
// device must still be down, so that no packet sees it half made and its default queueing discipline, with a queue of
// kernel memory for every queue of the device, is never allocated.
func ConfigurePort(ns *NS, device string, options PortOptions) error {
	settings := quietPort(device)
	if options.Transit {
		settings = transitPort(device)
	}
	if err := SetSysctls(ns, settings...); err != nil {
		return err
	}
	return onLink(ns, device, "configure port", func(h *netlink.Handle, l netlink.Link) error {
		if options.Transit {
			// So that a namespace that becomes a router later joins no group here, and reports none.
			if err := h.LinkSetMulticastOff(l); err != nil {
				return fmt.Errorf("set multicast off: %w", err)
			}
		}
		if err := h.LinkSetMTU(l, PortMTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", PortMTU, err)
		}
		if err := h.LinkSetTxQLen(l, PortTxQueueLen); err != nil {
			return fmt.Errorf("set txqueuelen %d: %w", PortTxQueueLen, err)
		}
		if err := setNoQueue(h, l); err != nil {
			return fmt.Errorf("set noqueue: %w", err)
		}
		for _, address := range options.Addresses {
			if err := addAddress(h, l, address); err != nil {
				return fmt.Errorf("add address %s: %w", address, err)
			}
		}
		if options.Bridge != "" {
			if err := setMaster(h, l, options.Bridge); err != nil {
				return fmt.Errorf("add to bridge %s: %w", options.Bridge, err)
			}
		}
		if err := h.LinkSetUp(l); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
		return syncRoutes(h, l, options.Routes)
	})
}

// setNoQueue replaces the root queueing discipline by none: packets go straight to the device.
func setNoQueue(h *netlink.Handle, l netlink.Link) error {
	return h.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
}
