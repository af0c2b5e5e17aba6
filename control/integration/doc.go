// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package integration has no code but tests: the whole daemon between real kernels and real servers. Each test builds a
// consumer and a provider in namespaces of its own, with the same addresses on both sides, and runs a daemon between
// them in the test's process.
//
// The tests need root, network namespaces and /dev/net/tun, and some of them nginx, HAProxy, iperf3, curl, nft or tshark,
// which `make setup` installs. What is missing skips the test, or fails it with ISTHMUS_REQUIRE_PRIVILEGED=1. The loads are
// sized for two processors and the race detector; -short makes them smaller, ISTHMUS_LONG=1 full size.
//
// The files beside the tests:
//
//	bed_test.go       a consumer, a provider and a daemon, on TUN devices
//	impair_test.go    wires that lose, double and reorder
//	capture_test.go   packets captured at a device, and injected past a kernel's TCP
//	watch_test.go     counters and connections of the kernels
//	program_test.go   programs inside a namespace
//	servers_test.go   nginx, HAProxy and go-proxyproto behind the endpoint
//	visit_test.go     clients that check what these servers answer
//	api_bed_test.go   a daemon that its API drives, and a fleet of services and endpoints
//	api_crash_*_test.go  clients that know what must be left of a daemon that is killed (main_test.go: that daemon)
//	peer_*_test.go    appliances that are not ours behind a GWLB endpoint
//	tshark_*_test.go  what another dissector says of our packets
//	gateway_bulk_*    much data through a GWLB endpoint, and what it costs
//	api_*_test.go     the daemon driven by its API
//
// The appliance that is always there is the kernel, which nft makes swap addresses. ISTHMUS_PEER_APPLIANCE names programs,
// with colons between them, that are run as appliances beside it, and ISTHMUS_PEER_WITHOUT what they cannot carry
// (peer_appliance_test.go says how). AWS's gwlbtun, version 3.0, passes.
package integration
