// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rule sends packets to a routing table of their own.
type Rule struct {
	// Priority orders rules, the lowest first. The kernel's own are 0 (local), 32766 (main) and 32767 (default).
	Priority int
	// InInterface is the link that packets arrive on; empty matches all packets, those that the namespace itself sends too.
	InInterface string
	// Table is the number of the table; a packet that it has no route for goes on to the next rule.
	Table int
	// IPv6 makes it a rule for IPv6; otherwise it is one for IPv4.
	IPv6 bool
}

// AddRule adds a rule. One like it may not be there yet.
func AddRule(ns *NS, r Rule) error {
	rule := netlink.NewRule()
	rule.Priority, rule.IifName, rule.Table, rule.Family = r.Priority, r.InInterface, r.Table, unix.AF_INET
	if r.IPv6 {
		rule.Family = unix.AF_INET6
	}
	err := withHandle(ns, func(h *netlink.Handle) error { return h.RuleAdd(rule) })
	if err != nil {
		return fmt.Errorf("add rule %d to table %d in %s: %w", r.Priority, r.Table, ns, explain(err))
	}
	return nil
}
