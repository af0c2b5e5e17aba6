// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package lab builds a network to try endpoints in: VPCs with subnets, instances and services, in namespaces of its own
// on this machine. The lab of the command line, the integration tests and the bench are all made here.
//
// A Topology says what there is; Load reads one from a file. Up builds it under a directory, Down takes it away again,
// also when a crash left only a part. What is built:
//
//	a VPC          a namespace that routes between its subnets, named like the VPC
//	a subnet       a bridge in that namespace, which has the gateway's address
//	its internet   another bridge there, beyond the VPC's internet gateway
//	an instance    a namespace with one interface, eth0, on the bridge of its subnet
//	a route table  a routing table of the router, and rules: where a packet enters says which table it follows
//
// Nothing is made in the namespace of the host: a cable has one end in a VPC's namespace and the other in an instance's
// from the moment it exists. The interfaces of the dataplane are not made here either. Resources says which there are: one
// TAP on the bridge of each subnet that has an ENI, one TUN in the router for each GWLB endpoint. The daemon that is given
// the resources, or the State that they compile to, opens them, and puts the routes to GWLB endpoints into the tables of
// the router. A packet that a table leads into a TUN comes out of it again when an appliance has seen it, and then follows
// the table of the endpoint's subnet.
//
// The files:
//
//	topology.go    the nouns
//	load.go        YAML in and out
//	complete.go    defaults and rules of VPCs
//	balancing.go   those of load balancers, services and endpoints
//	addresses.go   which address is whose
//	ipv6.go        IPv6 addresses and what nodes need for them
//	routes.go      route tables
//	ids.go         what things are called: resources and devices
//	resources*.go  the topology as resources of accounts
//	state.go       the dataplane's view of them
//	dir.go         the lab's directory: paths, lock, list
//	up.go          building
//	update.go      what can change while the lab stands
//	down.go        removing
//	exec.go        commands inside a node
//	process.go     servers and daemons of a lab, and the records by which they are found again
//	proc.go        what /proc says about processes
//	server.go      the built-in servers
//	http.go        the built-in HTTP server
//	proxy.go       what they read from PROXY protocol headers
package lab
