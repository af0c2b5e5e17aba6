// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// pollInterval is how often counters are looked at while something is awaited.
const pollInterval = 5 * time.Millisecond

// await waits until ok, and says in its error what it waited for.
func await(ctx context.Context, what string, ok func() bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

// drops is how many packets went no further for a reason.
func (b *Bed) drops(reason dataplane.Reason) uint64 { return b.daemon.Stats().Drops[reason] }

// awaitHealthy waits until every target has passed its checks.
func (b *Bed) awaitHealthy(ctx context.Context) error {
	return await(ctx, "all targets healthy", func() bool {
		targets := b.daemon.Stats().Targets
		for _, t := range targets {
			if t.Health != dataplane.Healthy {
				return false
			}
		}
		return len(targets) > 0
	})
}

// health is that of a target, by the name of its group.
func (b *Bed) health(group string, address netip.AddrPort) dataplane.Health {
	for _, t := range b.daemon.Stats().Targets {
		if t.Group == b.groups[group] && t.Address == address {
			return t.Health
		}
	}
	return dataplane.Unchecked
}

// flow finds the dataplane's record of a connection by the client's address.
func (b *Bed) flow(ctx context.Context, client netip.AddrPort) (found dataplane.FlowInfo, ok bool) {
	err := b.daemon.Flows(ctx, func(f dataplane.FlowInfo) bool {
		if f.Endpoint != "" && f.Client == client {
			found, ok = f, true
		}
		return !ok
	})
	return found, ok && err == nil
}

// offloads says which offloads the ports use.
func (b *Bed) offloads() string {
	switch off := b.options.Offloads; {
	case off.Plain:
		return "plain devices without offload headers"
	case off.Offloads:
		return "off"
	case off.TSO:
		return "on, without that of TCP segmentation"
	case off.USO:
		return "on, without that of UDP segmentation"
	}
	return "on, where the kernel has them"
}

// vpc is one of demo.yaml.
func (b *Bed) vpc(name string) *lab.VPC {
	for i := range b.topology.VPCs {
		if b.topology.VPCs[i].Name == name {
			return &b.topology.VPCs[i]
		}
	}
	return nil
}

// address is that of an instance.
func (b *Bed) address(instance string) netip.Addr {
	for _, v := range b.topology.VPCs {
		for _, in := range v.Instances {
			if in.Name == instance {
				return in.Address
			}
		}
	}
	return netip.Addr{}
}

// address6 is the IPv6 address of an instance of a subnet that has such.
func (b *Bed) address6(instance string) netip.Addr {
	for _, v := range b.topology.VPCs {
		for _, in := range v.Instances {
			if in.Name == instance {
				return v.Subnet(in.Subnet).IPv6(in.Address)
			}
		}
	}
	return netip.Addr{}
}

// endpoint is the address of an interface endpoint of demo.yaml in a zone (0 or 1), with a port.
func (b *Bed) endpoint(endpoint, zone int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(b.topology.Endpoints[endpoint].ENIs[zone].Address, port)
}

// node is the address of the network load balancer's node in a zone (0 or 1).
func (b *Bed) node(zone int) netip.Addr { return b.topology.LoadBalancers[0].Nodes[zone].Address }

// Instances of demo.yaml.
var (
	clients = []string{"client-1", "client-2", "client-3", "client-4"}
	targets = []string{"target-1", "target-2", "target-3"}
)

// interfaceEndpoints is how many of demo.yaml's endpoints are of that type; they come first.
const interfaceEndpoints = 2

// Ports of demo.yaml, with the name of their target group.
const (
	portWeb      = 80
	portPlain    = 8080
	portLine     = 25
	portGreeting = 2525
)
