// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"time"
)

// Topology describes a lab. Names are chosen by whoever writes it and are unique in the lab within their kind; those of
// VPCs and instances, which are nodes, and endpoints share one set. Fields that are zero get defaults from Complete.
type Topology struct {
	// Name is the lab's: lower case letters, digits and hyphens.
	Name          string         `yaml:"name"`
	VPCs          []VPC          `yaml:"vpcs"`
	LoadBalancers []LoadBalancer `yaml:"load_balancers,omitempty"`
	TargetGroups  []TargetGroup  `yaml:"target_groups,omitempty"`
	Services      []Service      `yaml:"services,omitempty"`
	Endpoints     []Endpoint     `yaml:"endpoints,omitempty"`
	// Testing overrides timers that are too long to watch. It is shown by the daemon's status.
	Testing *Testing `yaml:"testing,omitempty"`
}

// VPC is an address space of its own; VPCs of one lab may have the same.
type VPC struct {
	Name string `yaml:"name"`
	// ID is vpc- and 17 hexadecimal digits, made from the names of lab and VPC by default.
	ID        string       `yaml:"id"`
	CIDR      netip.Prefix `yaml:"cidr"`
	Subnets   []Subnet     `yaml:"subnets"`
	Instances []Instance   `yaml:"instances,omitempty"`
}

// Subnet is a part of a VPC, in one zone.
type Subnet struct {
	// Name is unique in the VPC.
	Name string `yaml:"name"`
	// Zone is the zone id, such as use1-az1.
	Zone string       `yaml:"zone"`
	CIDR netip.Prefix `yaml:"cidr"`
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

// Run is one server of an instance: a built-in one or a command, not both.
type Run struct {
	// Server is the built-in server's kind.
	Server Kind `yaml:"server,omitempty"`
	// Port is where the built-in server listens: 80 (http), 7 (echo) or 25 (banner) by default.
	Port uint16 `yaml:"port,omitempty"`
	// ProxyProtocol makes the built-in server require a PROXY protocol header on every connection.
	ProxyProtocol bool `yaml:"proxy_protocol,omitempty"`
	// Command is a program and its arguments.
	Command []string `yaml:"command,omitempty,flow"`
}

// LoadBalancer is a network load balancer. Its name is its id.
type LoadBalancer struct {
	Name      string `yaml:"name"`
	VPC       string `yaml:"vpc"`
	CrossZone bool   `yaml:"cross_zone,omitempty"`
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

// Listener takes connections on a port of a load balancer.
type Listener struct {
	Port        uint16 `yaml:"port"`
	TargetGroup string `yaml:"target_group"`
	// IdleTimeout is 350s by default.
	IdleTimeout Duration `yaml:"idle_timeout"`
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
	// TerminateOnUnhealthy is true by default.
	TerminateOnUnhealthy *bool    `yaml:"terminate_on_unhealthy"`
	Targets              []Target `yaml:"targets"`
}

// ProxyProtocol says whether and where targets receive a PROXY protocol v2 header.
type ProxyProtocol struct {
	Enabled bool `yaml:"enabled,omitempty"`
	// HeaderPlacement is on_first_ack_with_payload (default) or on_first_ack.
	HeaderPlacement string `yaml:"header_placement,omitempty"`
}

// HealthCheck says how targets are checked; its defaults are those of vpc.HealthCheck.
type HealthCheck struct {
	// Protocol is TCP (default), HTTP or NONE.
	Protocol           string   `yaml:"protocol"`
	Port               uint16   `yaml:"port,omitempty"`
	Path               string   `yaml:"path,omitempty"`
	Interval           Duration `yaml:"interval,omitempty"`
	Timeout            Duration `yaml:"timeout,omitempty"`
	HealthyThreshold   int      `yaml:"healthy_threshold,omitempty"`
	UnhealthyThreshold int      `yaml:"unhealthy_threshold,omitempty"`
}

// Target is an instance that takes connections; its address and zone are the instance's.
type Target struct {
	Instance string `yaml:"instance"`
	Port     uint16 `yaml:"port"`
	Draining bool   `yaml:"draining,omitempty"`
}

// Service offers load balancers to endpoints.
type Service struct {
	Name string `yaml:"name"`
	// ID is vpce-svc- and 17 hexadecimal digits, made from the names of lab and service by default.
	ID            string   `yaml:"id"`
	LoadBalancers []string `yaml:"load_balancers"`
}

// Endpoint leads from a VPC to a service.
type Endpoint struct {
	Name string `yaml:"name"`
	// ID is vpce- and 17 hexadecimal digits, made from the names of lab and endpoint by default.
	ID      string `yaml:"id"`
	Service string `yaml:"service"`
	VPC     string `yaml:"vpc"`
	// ENIs are by default one in the first subnet of each zone where the service has a load balancer node.
	ENIs []ENI `yaml:"enis"`
}

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
