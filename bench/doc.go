// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package bench compares the dataplane with its speed of light and with its peers, on one machine and with real traffic.
//
// A *scenario* says what the load is and what is measured. A *system* is what stands between the client's namespace
// and the server's: an interface endpoint, a GWLB endpoint with an appliance, or what can take the place of either. Client
// and server are the same programs, the same addresses and the same segment size (8460) for every system, and each round of each system builds everything anew: namespaces, devices, processes. The rounds of
// all systems are interleaved, and systems are compared round by round. README.md beside this file has the method.
//
// The files:
//
//	run.go          rounds, interleaved, and what becomes of a void one
//	round.go        one round of one system: up, load, warm-up, window, down
//	scenario.go     the scenarios: load and metrics
//	system.go       what a system is, the addresses, and one file for each system_*.go
//	tunnel.go       what isthmus and null share; router.go what systems of GWLB endpoints share
//	load.go         the load's specification; load_*.go are its clients and servers, header.go checks PROXY headers
//	process.go      child processes, parent's side; helper.go the child's side
//	system_daemon.go  the whole daemon and its API, for scenarios that no other system has a counterpart of
//	change.go       changes while packets pass; scale.go what a large fleet costs
//	report.go       report.json; summary.go its arithmetic; table.go the table; environment.go the machine
//
// Package bench/fleet has the large fleet, bench/steady the packets that pass meanwhile; the integration tests use both.
// Package bench/null has the copiers that bound what any dataplane between two TUN devices can do.
package bench
