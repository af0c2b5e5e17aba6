// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// tunnelSpec is for the two systems that stand between two TUN devices: null and isthmus.
type tunnelSpec struct {
	Consumer, Provider string // paths of the namespaces that the devices are in
	// Inspected says that the consumer's is a GWLB endpoint's, and that an appliance is where the provider's is.
	Inspected bool
	Workers   int
	Pin       bool
	Load      loadSpec
}

// betweenTUNs builds a system for interface endpoints: its process has a device where the client is and one where the
// server is.
func betweenTUNs(role string) func(context.Context, *bed) error {
	return func(ctx context.Context, b *bed) (err error) {
		b.dataplane, err = startProcess(ctx, b.self, nil, role, tunnelSpec{
			Consumer: b.client.Path(), Provider: b.server.Path(), Workers: b.cfg.Workers, Pin: b.cfg.Pin, Load: b.load,
		})
		return err
	}
}

// inspectBy builds a system for GWLB endpoints: its process has a device in the router and one where the appliance is,
// which is the same program for all.
func inspectBy(role string) func(context.Context, *bed) error {
	return func(ctx context.Context, b *bed) error {
		if err := b.route(); err != nil {
			return err
		}
		host, err := b.another(false)
		if err != nil {
			return err
		}
		b.dataplane, err = startProcess(ctx, b.self, nil, role, tunnelSpec{
			Consumer: b.router.Path(), Provider: host.Path(), Inspected: true, Workers: b.cfg.Workers, Pin: b.cfg.Pin,
			Load: b.load,
		})
		if err != nil {
			return err
		}
		b.appliance, err = startProcess(ctx, b.self, host, roleExec, execSpec{Command: b.cfg.Appliance})
		if err != nil {
			return err
		}
		anywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), wire.GenevePort)
		if err := b.appliance.awaitSocket(ctx, "udp", anywhere); err != nil {
			return err
		}
		return b.inspectVia(netip.Addr{})
	}
}
