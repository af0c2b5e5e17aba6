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
	Routes []netip.Prefix
	// Bridge is the bridge the device joins, or empty.
	Bridge string
}

// ConfigurePort sets everything on a TUN or TAP device in ns that has just been opened, and brings it up last. The
// device must still be down, so that no packet sees it half made and its default queueing discipline, with a queue of
// kernel memory for every queue of the device, is never allocated.
func ConfigurePort(ns *NS, device string, options PortOptions) error {
	err := SetSysctls(ns, Sysctl{"net/ipv6/conf/" + device + "/disable_ipv6", "1"})
	if err != nil {
		return err
	}
	return onLink(ns, device, "configure port", func(h *netlink.Handle, l netlink.Link) error {
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
		for _, route := range options.Routes {
			if err := addRoute(h, l, route, netip.Addr{}); err != nil {
				return fmt.Errorf("add route %s: %w", route, err)
			}
		}
		return nil
	})
}

// setNoQueue replaces the root queueing discipline by none: packets go straight to the device.
func setNoQueue(h *netlink.Handle, l netlink.Link) error {
	return h.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
}
