// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Kind is a kind of resources. Kinds are in the order in which a file of resources can be created.
type Kind uint8

// Kinds of resources.
const (
	KindAccount Kind = iota + 1
	KindVPC
	KindSubnet
	KindSecurityGroup
	KindTargetGroup
	KindLoadBalancer
	KindEndpointService
	KindEndpoint
	KindAttachment
	KindRouteTable
)

// Key names a resource among all. References from one resource to another of the same account are ids alone.
type Key struct {
	Kind    Kind
	Account string // 12 digits; of an account, its own
	// ID is what its creator chose, or the UID. For an account it is that of Account.
	ID string
}

// Meta is what every resource has.
type Meta struct {
	Key
	// UID is the identifier of AWS's form that is given once and never again: vpc-, subnet-, sg-, tg-, lb-, vpce-svc-, vpce-,
	// eni-attach-, rtb- and 17 hexadecimal digits. That of an account is its number.
	UID  string
	Tags map[string]string
	// Created and Updated are set by the Tx.
	Created, Updated time.Time
	// Manifest names the file that was applied to make the resource, which may prune it; empty for others.
	Manifest string
	// Revision is that of the store when the resource was changed last: 0 before it is kept. Set.Commit sets it.
	Revision uint64
}

// Resource is one of the types below, by pointer.
type Resource interface {
	// Metadata is the resource's own Meta. It must not be changed through a resource that is in a Set.
	Metadata() *Meta
	rules
}

// Metadata makes Meta's owner a Resource.
func (m *Meta) Metadata() *Meta { return m }

// Account is a party: it owns resources. Operators make accounts.
type Account struct {
	Meta
	DisplayName string
	// Zones maps the account's names of zones to zone ids: two accounts may call the same zone differently. A name that is
	// not in it is a zone id itself.
	Zones map[string]string
	// Quotas overrides DefaultQuotas; zero fields override nothing.
	Quotas Quotas
}

// Quotas bound what an account may have.
type Quotas struct {
	VPCs                  int // per account
	SubnetsPerVPC         int
	EndpointsPerVPC       int // interface and GWLB endpoints together
	SecurityGroupsPerVPC  int
	SecurityGroupsPerENI  int
	RulesPerSecurityGroup int
	LoadBalancers         int // per account
	TargetGroups          int // per account
	TargetsPerGroup       int
	ListenersPerLB        int
	EndpointServices      int // per account
	RoutesPerTable        int
	TagsPerResource       int
}

// VPC is one address space. It is made with a default security group, which lets in whoever is in the same group.
type VPC struct {
	Meta
	CIDRs []netip.Prefix
	// DefaultSecurityGroup is the id of the group that endpoints without another one are in. The Tx sets it.
	DefaultSecurityGroup string
}

// Subnet is a part of a VPC in one zone. Its first four addresses and its last one are never given to ENIs.
type Subnet struct {
	Meta
	VPC  string
	CIDR netip.Prefix
	Zone string // name of the zone, as the account calls it
	// ZoneID is what both parties of an endpoint agree on. The Tx sets it.
	ZoneID string
}

// Attachment is a device of ours by which ENIs of a subnet are reached: on a bridge, which is the subnet itself, or in a
// namespace whose kernel is the client, the server or the router.
type Attachment struct {
	Meta
	Subnet string
	// Netns is the path of the namespace. It and what is in it belong to its maker.
	Netns string
	// Device is the interface that is made there, at most 15 bytes; chosen from the UID when left out.
	Device string

	// Bridge is the bridge that the device joins (a TAP); empty for a device in the namespace itself (a TUN).
	Bridge string
	// Gateway is the next hop for what is not in the subnet, on a bridge; invalid: there is none.
	Gateway netip.Addr
	// Addresses are those of the namespace's own, with their prefix length, without a bridge.
	Addresses []netip.Prefix

	// Endpoint restricts the attachment to the ENI of one GWLB endpoint, whose next hop the device then is. Without it all
	// interface endpoints and nodes in the subnet are reached through it, and, on a bridge, GWLB endpoints too.
	Endpoint string
}

// SecurityGroup says who may connect to the interface endpoints in it. It is stateful.
type SecurityGroup struct {
	Meta
	VPC         string
	Description string
	Ingress     []Rule
	// Members are the addresses of interfaces in the group that are not endpoints: instances are no resources here.
	Members []netip.Prefix
	// Default is the group that was made with its VPC: it cannot be deleted. The Tx sets it.
	Default bool
}

// Rule lets connections in. It has either CIDRs or a group.
type Rule struct {
	Protocol         string // "tcp", or "-1" for all
	FromPort, ToPort uint16 // inclusive; both 0: all
	CIDRs            []netip.Prefix
	Group            string // id of a security group of the same VPC, whose members are let in
	Description      string
}

// LoadBalancer has a node in each of its subnets, one a zone, and listeners.
type LoadBalancer struct {
	Meta
	VPC       string
	Type      vpc.LoadBalancerType
	CrossZone bool
	MTU       int // as in vpc.LoadBalancer
	Nodes     []SubnetAddress
	Listeners []vpc.Listener // TargetGroup is an id
}

// SubnetAddress is an ENI: an address of a subnet that lasts until its owner goes.
type SubnetAddress struct {
	Subnet string
	// Address is chosen by the Tx when it is invalid.
	Address netip.Addr
}

// TargetGroup is a set of targets that share how they are used.
type TargetGroup struct {
	Meta
	// Type is that of the load balancers that may use the group.
	Type vpc.LoadBalancerType
	// Group has the attributes and the targets. Its ID is empty; its VPC is an id of the same account, and its Targets are
	// those that are registered; none of them is Draining.
	Group vpc.TargetGroup
	// Draining are targets that were registered. The Tx keeps them until their delay has passed.
	Draining []DrainingTarget
}

// DrainingTarget keeps its connections and gets no new ones.
type DrainingTarget struct {
	vpc.Target
	Since time.Time
}

// EndpointService offers load balancers to endpoints of other accounts and VPCs.
type EndpointService struct {
	Meta
	LoadBalancers []string
	// AutoAccept makes endpoints available without being accepted.
	AutoAccept bool
	// Principals may create endpoints: ARNs of accounts (arn:aws:iam::111122223333:root), users and roles, or "*". The
	// owner's account always may.
	Principals []string

	// The Tx sets the rest.

	// Name is what consumers ask for: com.amazonaws.vpce.<region>.vpce-svc-<17 hexadecimal digits>.
	Name string
	Type vpc.EndpointType
	// ZoneIDs are those of the load balancers.
	ZoneIDs []string
}

// EndpointState is where an endpoint is in its life.
type EndpointState uint8

// States of endpoints, in AWS's words.
const (
	PendingAcceptance EndpointState = iota + 1 // waits for the provider; no packets pass
	Pending                                    // accepted; the dataplane does not run it yet
	Available                                  // packets pass
	Rejected                                   // by the provider, now or later
	Deleting                                   // by the consumer; the dataplane still runs it
	Deleted                                    // gone: no resource is in this state, but its last change says so
	Failed                                     // accepted, but the dataplane cannot run it
	Expired                                    // was not accepted in time
)

// Endpoint leads from a VPC to a service, of any account.
type Endpoint struct {
	Meta
	VPC string
	// Service is the name of the service.
	Service string
	Type    vpc.EndpointType
	// TypeOpen says that Type was left out and is to be that of the service. No endpoint in a Set has it.
	TypeOpen bool
	// ENIs has one subnet a zone, for a GWLB endpoint exactly one.
	ENIs           []SubnetAddress
	SecurityGroups []string // of an interface endpoint; the VPC's default group where none is named
	// Bandwidth overrides the default of its type in each zone; the zero value overrides nothing.
	Bandwidth vpc.Bandwidth
	// Creator is the ARN of the principal that made it, for the provider to see.
	Creator string

	// The Tx sets the rest.

	State EndpointState
	// Reason says why the state is what it is, for people.
	Reason string
	// StateSince is when the state was entered.
	StateSince time.Time
	// ServiceUID is the service's, which a name might outlive.
	ServiceUID string
	// Generation counts how often the endpoint was let in, so that the flows of an earlier time do not go on.
	Generation uint32
}

// RouteTable has routes to GWLB endpoints, which the daemon puts into a kernel routing table of the namespace that the
// endpoint's attachment is in.
type RouteTable struct {
	Meta
	VPC string
	// Table is the number of the kernel's routing table; 0 is the main one.
	Table  uint32
	Routes []Route
}

// Route sends what has no better route to a GWLB endpoint.
type Route struct {
	Destination netip.Prefix
	Endpoint    string // id of a GWLB endpoint of the same VPC
}
