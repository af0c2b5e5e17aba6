// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package resource holds what accounts own and the rules of the guide about it: who may create, change, accept, reject and
// delete what, in which state an endpoint is, and what the dataplane is told about it. It does no I/O, knows no clock of
// its own and no protocol: callers hand in the time and new identifiers, and keep what has changed.
//
//	types.go    the resources, one struct each
//	set.go      Set: all resources, for readers
//	tx.go       Tx: changes to a Set, with every rule that they must keep
//	compile.go  Compile: a Set as the vpc.State that the dataplane runs
//	error.go    Error: a broken rule, with the code that users of EC2 know
//
// Resources are immutable once they are in a Set: a change puts another one in the old one's place. Names of types and
// fields are neutral where other clouds have the same thing; identifiers have the form of AWS.
package resource
