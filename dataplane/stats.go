// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Traffic counts packets and layer 3 bytes, a super-packet as one packet. In is toward the dataplane, Out away from it.
type Traffic struct {
	PacketsIn, BytesIn, PacketsOut, BytesOut uint64
}

// Role says which side of the service an ENI is on.
type Role uint8

// Roles of ENIs.
const (
	RoleNone            Role = iota
	RoleEndpoint             // interface endpoint, consumer side
	RoleNode                 // load balancer node, provider side
	RoleProbe                // health checker's way to one target
	RoleGatewayEndpoint      // GWLB endpoint, a next hop in the consumer's VPC
	RoleGatewayNode          // GWLB node, the outer source of GENEVE
)

// String is the role's name in metrics and output.
func (r Role) String() string {
	return [...]string{"none", "endpoint", "node", "probe", "gateway-endpoint", "gateway-node"}[r]
}

// ENIStats are the counters of one ENI. They start at 0 when the ENI appears and are lost when it goes.
type ENIStats struct {
	Role    Role
	Owner   string // ID of the endpoint or load balancer
	VPC     string
	Zone    string
	Address netip.Addr
	Traffic
	// Drops counts packets addressed to the ENI that went no further, by reason. Those that its endpoint's bandwidth had no
	// room for are counted at the endpoint's ENI both ways.
	Drops [NumReasons]uint64
}

// TargetStats are the counters of one target of one group.
type TargetStats struct {
	TargetID
	Zone     string
	Health   Health
	Draining bool
	Traffic  // from the dataplane's view: Out toward the target
	// ActiveFlows are open now, NewFlows have been opened since the target appeared.
	ActiveFlows, NewFlows uint64
	// PortAllocationErrors counts connections refused because no source port toward the target was free.
	PortAllocationErrors uint64
}

// FlowStats count what became of connections.
type FlowStats struct {
	Active, Max uint64
	New         uint64
	Expired     uint64 // idle too long, half-open too long, or done closing
	// ClientResets and TargetResets are RST segments received and passed on; OwnResets those the dataplane made itself.
	ClientResets, TargetResets, OwnResets uint64
	PortAllocationErrors                  uint64
	HeadersSent                           uint64 // PROXY headers written, repetitions included
	MSSClamped                            uint64
}

// WorkerStats count the turns of one worker.
type WorkerStats struct {
	Turns, Batches, Packets uint64
	Strays                  uint64 // packets received by this worker and handed to their owner
	Sleeps                  uint64
}

// PortStats are the counters of one port.
type PortStats struct {
	ID string
	port.Stats
}

// Stats is one reading of all counters. Each number is exact; numbers read a moment apart may not add up.
type Stats struct {
	Revision uint64
	Drops    [NumReasons]uint64
	ENIs     []ENIStats
	Targets  []TargetStats
	Ports    []PortStats
	Flows    FlowStats
	Workers  []WorkerStats
}

// FlowInfo describes one flow to a person or a program: a connection, or a flow through GWLB endpoints, which appliances
// inspect.
type FlowInfo struct {
	Worker       int
	LoadBalancer string
	Zone         string
	NodeAddress  netip.AddrPort // source the target sees
	Target       netip.AddrPort // or appliance; the zero value where an inspected flow has lost it
	State        flow.State
	Idle         uint32 // milliseconds since the last packet
	Protocol     uint8  // IP protocol; 0 where an inspected flow is told by addresses alone

	// Of a connection.
	Endpoint        string // ID of the endpoint, "" for a health check
	Client          netip.AddrPort
	EndpointAddress netip.AddrPort
	Proxy           bool
	BytesOut        uint64 // toward the target
	BytesIn         uint64 // toward the client

	// Of an inspected flow.
	Inspected bool
	Kind      vpc.Stickiness // what makes packets the flow; FiveTuple for TCP and UDP only
	Cookie    uint32         // names the flow to the appliance; never 0
	Ends      [2]FlowEnd
}

// FlowEnd is one of the two ends of an inspected flow; the first is that with the smaller address.
type FlowEnd struct {
	Address  netip.AddrPort // port 0 where flows are told without ports
	Endpoint string         // ID of the GWLB endpoint that packets of this end came to last, "" where there is none
	Bytes    uint64         // inner layer 3 bytes that this end has sent
}
