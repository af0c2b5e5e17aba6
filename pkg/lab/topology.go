// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"time"
)

// Topology describes a lab. Names are chosen by whoever writes it and are unique in the lab within their kind; those of
// VPCs and instances, which are nodes, and endpoints share one set. They are also the ids of the resources that stand for
// them; see Resources. Fields that are zero get defaults from Complete.
type Topology struct {
	// Name is the lab's: lower case letters, digits and hyphens.
	Name          string         `yaml:"name"`
	VPCs          []VPC          `yaml:"vpcs"`
	LoadBalancers []LoadBalancer `yaml:"load_balancers,omitempty"`
	TargetGroups  []TargetGroup  `yaml:"target_groups,omitempty"`
	Services      []Service      `yaml:"services,omitempty"`
	Endpoints     []Endpoint     `yaml:"endpoints,omitempty"`
	RouteTables   []RouteTable   `yaml:"route_tables,omitempty"`
	// Testing overrides timers that are too long to watch. It is shown by the daemon's status.
	Testing *Testing `yaml:"testing,omitempty"`
}

// VPC is an address space of its own; VPCs of one lab may have the same.
type VPC struct {
	Name string `yaml:"name"`
	// ID is the uid that Resources says: vpc- and 17 hexadecimal digits, made from the names of lab and VPC by default.
	ID string `yaml:"-"`
	// Account owns the VPC and what is in it: 12 digits, by default Provider for a VPC with load balancers and Consumer for
	// any other.
	Account string       `yaml:"account"`
	CIDR    netip.Prefix `yaml:"cidr"`
	// IPv6CIDR, if there is one, lets subnets have IPv6 addresses besides. Only GWLB endpoints carry them.
	IPv6CIDR *netip.Prefix `yaml:"ipv6_cidr,omitempty"`
	Subnets  []Subnet      `yaml:"subnets"`
	// Internet is the part of the internet that the VPC's internet gateway leads to in this lab: a prefix outside the
	// VPC, with instances that name it as their subnet. Nothing is translated on the way.
	Internet  *Subnet    `yaml:"internet,omitempty"`
	Instances []Instance `yaml:"instances,omitempty"`
}

// Subnet is a part of a VPC, in one zone.
type Subnet struct {
	// Name is unique in the VPC; that of its internet is Internet.
	Name string `yaml:"name"`
	// Zone is the zone id, such as use1-az1; the internet has none.
	Zone string       `yaml:"zone,omitempty"`
	CIDR netip.Prefix `yaml:"cidr"`
	// IPv6CIDR, a /64, gives everybody in the subnet an IPv6 address too, with the same number in it.
	IPv6CIDR *netip.Prefix `yaml:"ipv6_cidr,omitempty"`
	// Gateway is the router's address, by default the subnet's first.
	Gateway netip.Addr `yaml:"gateway"`
}

// Instance is a machine: a namespace with one interface.
type Instance struct {
	Name   string `yaml:"name"`
	Subnet string `yaml:"subnet"`
	// Address is by default the lowest that is free, from the subnet's fourth.
	Address netip.Addr `yaml:"address"`
	// MTU is that of the interface, 9001 by default.
	MTU int `yaml:"mtu"`
	// Run is what runs there from the start.
	Run []Run `yaml:"run,omitempty"`
}

// Run is one thing that an instance runs: a built-in server, an appliance or a command.
type Run struct {
	// Server is the built-in server's kind.
	Server Kind `yaml:"server,omitempty"`
	// Port is where the built-in server listens: 80 (http), 7 (echo) or 25 (banner) by default.
	Port uint16 `yaml:"port,omitempty"`
	// ProxyProtocol makes the built-in server require a PROXY protocol header on every connection.
	ProxyProtocol bool `yaml:"proxy_protocol,omitempty"`
	// Appliance takes packets from a gateway load balancer, and gives them back.
	Appliance *Appliance `yaml:"appliance,omitempty"`
	// Command is a program and its arguments.
	Command []string `yaml:"command,omitempty,flow"`
}

// Appliance says how `isthmus appliance` runs.
type Appliance struct {
	// Mode is hairpin (default), or tun, in which packets pass the instance's kernel and whatever is set up there.
	Mode string `yaml:"mode"`
	// HealthPort is where health checks are answered, 80 by default.
	HealthPort uint16 `yaml:"health_port"`
	// Drop has rules: packets that one of them matches do not come back, such as "tcp dst port 23".
	Drop []string `yaml:"drop,omitempty"`
}

// Modes of appliances.
const (
	Hairpin = "hairpin"
	TUN     = "tun"
)

// LoadBalancer is a load balancer. Its name is its id.
type LoadBalancer struct {
	Name string `yaml:"name"`
	// Type is network (default) or gateway.
	Type string `yaml:"type"`
	VPC  string `yaml:"vpc"`
	// MTU is the longest inner packet of a gateway load balancer, where that is to be less than 8500 bytes.
	MTU       int  `yaml:"mtu,omitempty"`
	CrossZone bool `yaml:"cross_zone,omitempty"`
	// Nodes are by default one in the first subnet of each zone of the VPC.
	Nodes     []ENI      `yaml:"nodes"`
	Listeners []Listener `yaml:"listeners"`
}

// ENI is an address of the dataplane in a subnet.
type ENI struct {
	Subnet string `yaml:"subnet"`
	// Address is by default the lowest that is free, from the subnet's fourth.
	Address netip.Addr `yaml:"address"`
}

// Listener takes connections on a port of a load balancer. That of a gateway load balancer is its only one, takes
// everything, and has no port.
type Listener struct {
	Port        uint16 `yaml:"port,omitempty"`
	TargetGroup string `yaml:"target_group"`
	// IdleTimeout is 350s by default.
	IdleTimeout Duration `yaml:"idle_timeout"`
	// ResetOnIdle has a gateway load balancer answer TCP segments of expired and unknown flows with RST.
	ResetOnIdle bool `yaml:"send_tcp_reset_on_idle_timeout,omitempty"`
}

// TargetGroup is a set of targets in one VPC. Its name is its id.
type TargetGroup struct {
	Name string `yaml:"name"`
	// VPC is by default that of the targets, or of the load balancer that uses the group.
	VPC             string        `yaml:"vpc"`
	ProxyProtocolV2 ProxyProtocol `yaml:"proxy_protocol_v2,omitempty"`
	HealthCheck     HealthCheck   `yaml:"health_check"`
	// DeregistrationDelay is 300s by default.
	DeregistrationDelay       *Duration `yaml:"deregistration_delay"`
	TerminateOnDeregistration bool      `yaml:"terminate_on_deregistration,omitempty"`
	// TerminateOnUnhealthy is true by default, except behind a gateway load balancer, whose groups have the three
	// settings that follow instead.
	TerminateOnUnhealthy *bool `yaml:"terminate_on_unhealthy"`
	// Stickiness is five_tuple (default), source_ip_dest_ip_proto or source_ip_dest_ip.
	Stickiness string `yaml:"stickiness,omitempty"`
	// TargetFailover is no_rebalance (default) or rebalance.
	TargetFailover string       `yaml:"target_failover,omitempty"`
	SendTCPReset   SendTCPReset `yaml:"send_tcp_reset,omitempty"`
	Targets        []Target     `yaml:"targets"`
}

// SendTCPReset says which flows of a failed appliance are answered with RST.
type SendTCPReset struct {
	OnUnhealthy      bool `yaml:"on_unhealthy,omitempty"`
	OnDeregistration bool `yaml:"on_deregistration,omitempty"`
}

// ProxyProtocol says whether and where targets receive a PROXY protocol v2 header.
type ProxyProtocol struct {
	Enabled bool `yaml:"enabled,omitempty"`
	// HeaderPlacement is on_first_ack_with_payload (default) or on_first_ack.
	HeaderPlacement string `yaml:"header_placement,omitempty"`
}

// HealthCheck says how targets are checked; its defaults are those of vpc.HealthCheck.
type HealthCheck struct {
	// Protocol is TCP (default), HTTP, HTTPS or NONE.
	Protocol string `yaml:"protocol"`
	// Port is by default that of the target, or 80 where the target is an appliance.
	Port               uint16   `yaml:"port,omitempty"`
	Path               string   `yaml:"path,omitempty"`
	Interval           Duration `yaml:"interval,omitempty"`
	Timeout            Duration `yaml:"timeout,omitempty"`
	HealthyThreshold   int      `yaml:"healthy_threshold,omitempty"`
	UnhealthyThreshold int      `yaml:"unhealthy_threshold,omitempty"`
}

// Target is an instance that takes connections, or an appliance; its address and zone are the instance's.
type Target struct {
	Instance string `yaml:"instance"`
	// Port is 6081 by default where the target is an appliance.
	Port uint16 `yaml:"port"`
}

// Service offers load balancers, all of one account, to endpoints. The accounts that have endpoints of it in the topology
// are allowed to.
type Service struct {
	Name string `yaml:"name"`
	// ID is the uid that Resources says: vpce-svc- and 17 hexadecimal digits, made from the names of lab and service by
	// default.
	ID            string   `yaml:"-"`
	LoadBalancers []string `yaml:"load_balancers"`
	// AcceptanceRequired lets endpoints wait until somebody accepts them. A lab does without by default, as services
	// outside labs do not, so that it works as soon as it stands.
	AcceptanceRequired bool `yaml:"acceptance_required,omitempty"`
	// AllowedPrincipals may have endpoints besides: ARNs, or "*".
	AllowedPrincipals []string `yaml:"allowed_principals,omitempty"`
}

// Endpoint leads from a VPC to a service.
type Endpoint struct {
	Name string `yaml:"name"`
	// ID is the uid that Resources says: vpce- and 17 hexadecimal digits, made from the names of lab and endpoint by default.
	ID string `yaml:"-"`
	// Type is Interface or GatewayLoadBalancer, as the service's load balancers have it.
	Type    string `yaml:"type"`
	Service string `yaml:"service"`
	VPC     string `yaml:"vpc"`
	// ENIs are by default one in the first subnet of each zone where the service has a load balancer node. An endpoint of
	// type GatewayLoadBalancer has one only.
	ENIs []ENI `yaml:"enis"`
}

// RouteTable says where packets go that come from subnets of a VPC, GWLB endpoints there included, or that enter the VPC
// from outside. Subnets without one know the way to everything in the VPC and to its internet.
type RouteTable struct {
	Name string `yaml:"name"`
	VPC  string `yaml:"vpc"`
	// Subnets are those whose packets follow the table.
	Subnets []string `yaml:"subnets,omitempty,flow"`
	// Edge is internet for the table of what enters by the internet gateway.
	Edge string `yaml:"edge,omitempty"`
	// Routes add to the one that every table has, of the VPC's cidr to local.
	Routes []Route `yaml:"routes"`
}

// Route is an entry of a route table: of those that contain an address, the one with the longest destination counts.
type Route struct {
	Destination netip.Prefix `yaml:"destination"`
	// Via is the name of a GWLB endpoint or an instance in the VPC, internet, or local.
	Via string `yaml:"via"`
}

// Words of route tables.
const (
	Internet = "internet" // also the name of the subnet there
	Local    = "local"
)

// Testing overrides timers; zero overrides nothing.
type Testing struct {
	IdleTimeout         Duration `yaml:"idle_timeout,omitempty"`
	HealthCheckInterval Duration `yaml:"health_check_interval,omitempty"`
	HealthCheckTimeout  Duration `yaml:"health_check_timeout,omitempty"`
}

// Duration is a time.Duration that is written with its unit (350s, 1.5s, 5m).
type Duration time.Duration

// Defaults of a topology beside those that depend on other fields.
const (
	DefaultMTU                 = 9001
	DefaultIdleTimeout         = 350 * time.Second
	DefaultDeregistrationDelay = 300 * time.Second
)

// Accounts of VPCs that name none.
const (
	Provider = "444455556666" // of those with load balancers
	Consumer = "111122223333"
)
