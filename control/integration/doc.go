// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package integration has no code but tests: the whole daemon between real kernels and real servers. Each test builds a
// consumer and a provider in namespaces of its own, with the same addresses on both sides, and runs a daemon between
// them in the test's process.
//
// The tests need root, network namespaces and /dev/net/tun, and some of them nginx, HAProxy, iperf3 or curl, which
// `make setup` installs. What is missing skips the test, or fails it with ISTHMUS_REQUIRE_PRIVILEGED=1. The loads are
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
package integration
