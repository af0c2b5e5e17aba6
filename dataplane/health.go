// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "net/netip"

// TargetID names a target of a group in the calls between control and engine.
type TargetID struct {
	Group   string
	Address netip.AddrPort
}

// Health is what the health checker knows of a target.
type Health uint8

// Health of a target. Initial and Unchecked count as healthy until a check says otherwise.
const (
	Unchecked Health = iota
	Initial
	Healthy
	Unhealthy
)

// String is the state's name in metrics and output.
func (h Health) String() string {
	return [...]string{"unchecked", "initial", "healthy", "unhealthy"}[h]
}

// ProbePortID is the ID under which Apply takes the internal port that health checks enter by.
const ProbePortID = "probe"

// ProbeNet holds the addresses that name targets on the probe port: a connection of the health checker to one of them
// leaves with the address of a load balancer node for one target. The range is reserved for benchmarks between
// networks (RFC 2544) and seen in the daemon's own namespace only.
var ProbeNet = netip.MustParsePrefix("198.18.0.0/15")

// ProbeRoute tells the health checker where a target is found on the probe port. TCP connections to Via, on any port,
// reach the target's address on that same port.
type ProbeRoute struct {
	TargetID
	LoadBalancer string
	Zone         string     // of the node the check leaves from
	Node         netip.Addr // source address the target sees
	Via          netip.Addr
}
