// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"
	"time"
)

// State is everything the dataplane is told: a whole configuration that is validated, compiled and published, or
// refused, as one. It is immutable once handed over; nothing in it may be shared with later writers.
type State struct {
	// Revision identifies the state; the dataplane reports the one it runs.
	Revision uint64
	// HashKey keys the flow hashes and the choice of targets. It is part of the state so that a restart chooses alike.
	HashKey [16]byte

	VPCs          []VPC
	Ports         []Port
	LoadBalancers []LoadBalancer
	TargetGroups  []TargetGroup
	Services      []EndpointService
	Endpoints     []Endpoint
	// SecurityGroups are those that endpoints name.
	SecurityGroups []SecurityGroup

	// Testing overrides timers whose smallest legal value is too long for a demonstration. Nil outside labs.
	Testing *Testing
}

// Testing overrides single timers, for labs only. A zero field overrides nothing.
type Testing struct {
	// TCPIdle replaces the idle timeout of every listener.
	TCPIdle time.Duration
	// HealthInterval and HealthTimeout replace those of every health check.
	HealthInterval, HealthTimeout time.Duration
}

// VPC is one address space. Addresses of different VPCs may overlap; they never meet.
type VPC struct {
	ID    string // vpc-...
	CIDRs []netip.Prefix
}

// PortKind is the kind of a port's device.
type PortKind uint8

// Kinds of port devices.
const (
	TUN PortKind = iota + 1 // layer 3 device inside a namespace
	TAP                     // layer 2 device on a Linux bridge
)

// String is the kind's name in configuration and output.
func (k PortKind) String() string {
	switch k {
	case TUN:
		return "tun"
	case TAP:
		return "tap"
	}
	return "unknown"
}

// Port attaches a VPC to the dataplane by a device in a network namespace.
type Port struct {
	ID   string // unique in the state
	VPC  string // ID of the VPC whose traffic passes here
	Kind PortKind
	// Netns is the path of the namespace the device is in, for example /run/netns/consumer.
	Netns string
	// Device is the name of the interface that is created, at most 15 bytes.
	Device string

	// Addresses and Routes are set on a TUN device: the namespace's own addresses, and the prefixes that it reaches
	// through the device (those of ENIs).
	Addresses, Routes []netip.Prefix
	// TableRoutes are routes through a TUN device in tables of the namespace that its maker leads packets to.
	TableRoutes []TableRoute

	// Bridge is the bridge a TAP device joins. Subnet is what is on link there; Gateway, inside Subnet, is the next hop
	// for all else.
	Bridge  string
	Subnet  netip.Prefix
	Gateway netip.Addr
}

// TableRoute is a route in a routing table of a port's namespace.
type TableRoute struct {
	Destination netip.Prefix
	Table       uint32 // the kernel's number; 0 is the main table
}

// ENI is one elastic network interface: an address in a zone, reached through one or more ports of its VPC.
type ENI struct {
	Address netip.Addr
	// Zone is the zone id, the name both sides of an endpoint agree on (use1-az1).
	Zone  string
	Ports []string // IDs of ports
}

// LoadBalancerType says what a load balancer hands to its targets.
type LoadBalancerType uint8

// Types of load balancers.
const (
	Network LoadBalancerType = iota // connections, to servers
	Gateway                         // packets in GENEVE, to appliances
)

// String is the type's name in configuration and output.
func (t LoadBalancerType) String() string {
	if t == Gateway {
		return "gateway"
	}
	return "network"
}

// LoadBalancer is a load balancer: a node in each of its zones, and listeners. A gateway load balancer has exactly one
// listener, with port 0, which takes all that its endpoints are handed.
type LoadBalancer struct {
	ID   string
	VPC  string
	Type LoadBalancerType
	// MTU is the longest inner packet of a gateway load balancer in bytes, where it is to be less than 8500 because the
	// network to its appliances carries less than 8568; 0 means 8500.
	MTU int
	// CrossZone lets the node of a zone use the targets of all zones, not only its own.
	CrossZone bool
	Nodes     []ENI
	Listeners []Listener
}

// Listener takes TCP connections on a port of the load balancer, and so of its endpoints.
type Listener struct {
	Port        uint16
	TargetGroup string
	// IdleTimeout ends an established connection without traffic: 60 to 6000 s, 350 s by default. On a gateway load
	// balancer it is that of TCP flows, and can be changed for groups with five-tuple stickiness only.
	IdleTimeout time.Duration
	// ResetOnIdle has a gateway load balancer answer TCP segments of expired and unknown flows with RST instead of
	// dropping them in silence (send_tcp_reset.on_idle_timeout).
	ResetOnIdle bool
}

// Stickiness says which packets go to the same appliance.
type Stickiness uint8

// Kinds of stickiness of a gateway load balancer's target group.
const (
	FiveTuple  Stickiness = iota // addresses, protocol and ports; ThreeTuple for all but TCP and UDP
	ThreeTuple                   // addresses and protocol (source_ip_dest_ip_proto)
	TwoTuple                     // addresses (source_ip_dest_ip)
)

// String is the attribute's value as AWS spells it, with a name for its absence.
func (s Stickiness) String() string {
	return [...]string{"five_tuple", "source_ip_dest_ip_proto", "source_ip_dest_ip"}[s]
}

// TargetGroup is a set of targets that share how connections are handed to them.
type TargetGroup struct {
	ID            string
	VPC           string
	ProxyProtocol ProxyProtocol
	HealthCheck   HealthCheck
	// DeregistrationDelay is how long a draining target keeps its connections where they are to be closed at all:
	// 0 to 3600 s, 300 s by default.
	DeregistrationDelay time.Duration
	// TerminateOnDeregistration ends the connections of a draining target when DeregistrationDelay has passed; otherwise
	// they go on until they end or idle out.
	TerminateOnDeregistration bool
	// TerminateOnUnhealthy answers connections of an unhealthy target with RST at their next packet, unless the group
	// fails open. On by default.
	TerminateOnUnhealthy bool
	// Stickiness, Rebalance and the two resets are for target groups of gateway load balancers; the two Terminate fields and
	// ProxyProtocol are not.
	Stickiness Stickiness
	// Rebalance moves the flows of a target that has become unhealthy, or whose deregistration delay has passed, to others
	// (target_failover); otherwise they stay with it.
	Rebalance bool
	// ResetOnUnhealthy and ResetOnDeregistration answer the next TCP segment of such flows with RST; they need
	// five-tuple stickiness and exclude Rebalance.
	ResetOnUnhealthy, ResetOnDeregistration bool
	Targets                                 []Target
}

// Placement says where the PROXY protocol header goes.
type Placement uint8

// Placements of the PROXY protocol header.
const (
	// FirstPayload prepends the header to every segment that starts at the client's first byte.
	FirstPayload Placement = iota
	// FirstACK sends the header alone after the ACK that ends the handshake, for servers that speak first.
	FirstACK
)

// String is the attribute's value as AWS spells it.
func (p Placement) String() string {
	if p == FirstACK {
		return "on_first_ack"
	}
	return "on_first_ack_with_payload"
}

// ProxyProtocol says whether and where targets receive a PROXY protocol v2 header.
type ProxyProtocol struct {
	Enabled   bool
	Placement Placement
}

// Target is an address and port that takes connections.
type Target struct {
	Address netip.Addr
	Port    uint16
	Zone    string
	// Draining targets keep their connections and get no new ones.
	Draining bool
	// DrainingSince is when that began, for the deregistration delay; zero: when it is first told.
	DrainingSince time.Time
}

// CheckProtocol is the protocol of a health check.
type CheckProtocol uint8

// Protocols of health checks.
const (
	CheckNone CheckProtocol = iota // no checks: targets count as healthy
	CheckTCP
	CheckHTTP
	CheckHTTPS // certificates are not verified
)

// String is the protocol's name in configuration and output.
func (p CheckProtocol) String() string {
	return [...]string{"NONE", "TCP", "HTTP", "HTTPS"}[p]
}

// HealthCheck says how targets are checked. Ranges are the same for network and gateway load balancers, defaults differ:
// the second of two is that of gateway load balancers.
type HealthCheck struct {
	Protocol CheckProtocol
	Port     uint16        // 0: the target's own port ("traffic-port"), which appliances have none for; default 0, 80
	Path     string        // HTTP and HTTPS; default "/"
	Interval time.Duration // 5 to 300 s, default 30 s, 10 s
	Timeout  time.Duration // 2 to 120 s, default 10 s for TCP and HTTPS and 6 s for HTTP, 5 s for all
	// HealthyThreshold and UnhealthyThreshold are how many results in a row change the state: 2 to 10, default 5 and 2.
	HealthyThreshold, UnhealthyThreshold int
	// MatchLow and MatchHigh bound the HTTP and HTTPS status codes that count as success, inclusive; default 200 to 399.
	MatchLow, MatchHigh int
}

// EndpointService offers load balancers to endpoints of other VPCs.
type EndpointService struct {
	ID            string // vpce-svc-...
	LoadBalancers []string
}

// EndpointType is the type of an endpoint, which is that of its service's load balancers.
type EndpointType uint8

// Types of endpoints.
const (
	Interface           EndpointType = iota // clients connect to its addresses
	GatewayLoadBalancer                     // routes have it as their next hop
)

// String is the type's name in configuration and output, as AWS spells it.
func (t EndpointType) String() string {
	if t == GatewayLoadBalancer {
		return "GatewayLoadBalancer"
	}
	return "Interface"
}

// Endpoint leads from a consumer VPC to a service: ENIs, for an interface endpoint at most one a zone, for a gateway load
// balancer endpoint exactly one. The ENI of the latter is either alone on a TUN port, and then is the next hop of all that
// is routed into that device, or on TAP ports, and then is a next hop by its address.
type Endpoint struct {
	ID   string // vpce- and 17 hexadecimal digits
	Type EndpointType
	// Generation tells lives of an endpoint apart: with another one it is another endpoint, and flows of the earlier one end.
	Generation uint32
	Service    string
	VPC        string
	ENIs       []ENI
	// SecurityGroups are IDs of the groups that say who may open a connection to an interface endpoint: whoever one of them
	// lets in. Filtered without any is everybody refused; a GWLB endpoint is never filtered.
	SecurityGroups []string
	// Filtered has SecurityGroups asked at all. Without it everybody is let in.
	Filtered bool
	// Bandwidth limits the endpoint in each of its zones.
	Bandwidth Bandwidth
}

// Bandwidth limits the layer 3 bytes that pass through an endpoint in one zone, both directions together. The zero value
// sets no limit. What is over the limit is dropped, never queued.
type Bandwidth struct {
	// Rate is what passes for ever, in bits a second. 0: no limit.
	Rate uint64
	// Burst is what passes for as long as BurstTime after a quiet time, in bits a second: at least Rate.
	Burst uint64
	// BurstTime is how long Burst passes after a time in which nothing did. What is saved up is never more.
	BurstTime time.Duration
}

// SecurityGroup says who may open connections to the endpoints that name it. Groups are stateful: packets of connections
// that were let in are not asked again, also when the rules have changed since.
type SecurityGroup struct {
	ID      string // sg-...
	Ingress []SecurityRule
}

// SecurityRule lets connections in. References to other groups have been replaced by the addresses of their members.
type SecurityRule struct {
	// FromPort and ToPort bound the ports of listeners, inclusive. 0 and 65535: all.
	FromPort, ToPort uint16
	// Sources are the clients; IPv4 and IPv6.
	Sources []netip.Prefix
}
