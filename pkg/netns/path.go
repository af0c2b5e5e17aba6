// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Path is how a namespace reaches an address.
type Path struct {
	// Link is where packets leave; for an address of the namespace's own the loopback.
	Link string
	// Local says that the address is the namespace's own.
	Local bool
	// MTU is the longest packet in bytes that the route takes: its own, or that of its link where it has none.
	MTU int
}

// PathTo looks up the route of ns to an address, as for a packet that ns sends itself. An address that it cannot reach is
// an error.
func PathTo(ns *NS, to netip.Addr) (Path, error) {
	var path Path
	err := withHandle(ns, func(h *netlink.Handle) error {
		routes, err := h.RouteGet(to.AsSlice())
		if err != nil {
			return err
		}
		if len(routes) == 0 {
			return errors.New("the kernel named no route")
		}
		r := &routes[0]
		l, err := h.LinkByIndex(r.LinkIndex)
		if err != nil {
			return err
		}
		path = Path{Link: l.Attrs().Name, Local: r.Type == unix.RTN_LOCAL, MTU: l.Attrs().MTU}
		if r.MTU > 0 {
			path.MTU = r.MTU
		}
		return nil
	})
	if err != nil {
		return Path{}, fmt.Errorf("look up the route to %s in %s: %w", to, ns, explain(err))
	}
	return path, nil
}
