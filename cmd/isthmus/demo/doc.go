// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package demo shows that the daemon keeps the rules of the AWS PrivateLink guide. Run builds the lab of demo.yaml, with a
// daemon, servers and appliances inside this process, has a provider and a consumer drive the daemon through its API, makes
// real connections from the namespaces of instances, and prints one line for each rule. Nothing is left when it returns.
//
// The files:
//
//	run.go       Options, Run: the table of results
//	checks.go    which checks there are, and which rule each one shows
//	bed.go       the lab, its daemon and its servers, up and down
//	fleet.go     its appliances, and what they have seen of a flow
//	api.go       the accounts, what they tell the daemon, and taking it back
//	endpoints.go endpoints that checks make: their lives
//	state.go     what demo.yaml says, and the daemon's counters
//	talk.go      connections of instances
//	datagram.go  UDP of instances
//	raw.go       packets that no socket would send, and what a socket keeps to itself
//	check_*.go   the checks
//
// A check is a function that looks at a Bed and returns the figure that it saw, or an error that says which rule was
// broken and how. Checks run one after another. What one changes is taken back after it: what demo.yaml says is applied
// again, and what a check has made beside that is deleted by whoever made it (Bed.after). A check of a rule of the API
// looks at packets, too: it is to fail if the rule holds for records only. To add one, write the function and add it to the
// table.
package demo
