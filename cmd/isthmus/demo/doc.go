// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package demo shows that the dataplane keeps the rules of the AWS PrivateLink guide. Run builds the lab of demo.yaml,
// with a daemon, servers and appliances inside this process, makes real connections from the namespaces of instances, and prints
// one line for each rule. Nothing is left when it returns.
//
// The files:
//
//	run.go      Options, Run: the table of results
//	checks.go   which checks there are, and which rule each one shows
//	bed.go      the lab, its daemon and its servers, up and down
//	fleet.go    its appliances, and what they have seen of a flow
//	state.go    changing the daemon's configuration and reading its counters
//	talk.go     connections of instances
//	datagram.go UDP of instances
//	raw.go      packets that no socket would send, and what a socket keeps to itself
//	check_*.go  the checks
//
// A check is a function that looks at a Bed and returns the figure that it saw, or an error that says which rule was
// broken and how. Checks run one after another; what one changes in the configuration is taken back after it. To add
// one, write the function and add it to the table.
package demo
