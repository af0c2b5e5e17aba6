// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package resource holds what accounts own and the rules of the guide about it: who may create, change, accept, reject and
// delete what, in which state an endpoint is, and what the dataplane is told about it. It does no I/O, knows no clock of
// its own and no protocol: callers hand in the time and new identifiers, and keep what has changed.
//
//	types.go       the resources, one struct each
//	kind.go        their kinds, and the forms of identifiers
//	set.go         Set: all resources, for readers
//	tx*.go         Tx: changes to a Set: create, update, delete, restore, check, commit
//	lifecycle.go   Tx: accept, reject, what the dataplane has done, what is due
//	targets.go     Tx: register and deregister targets
//	rules_*.go     the rules about each kind
//	addresses.go   addresses of ENIs: who has which, and which is free
//	access.go      who may see and change what; principals
//	quotas.go      how many of each there may be
//	compile.go     Compile: a Set as the vpc.State that the dataplane runs
//	model.go       resources and their indexes, on trees that never change (tree.go)
//	error.go       Error: a broken rule, with the code that users of EC2 know
//
// Resources are immutable once they are in a Set: a change puts another one in the old one's place. Names of types and
// fields are neutral where other clouds have the same thing; identifiers have the form of AWS.
//
// Where a rule is already one of the dataplane's states (ranges of timers, health checks, attributes of target groups),
// a State with nothing but the resource is validated, so that each such rule is written once.
//
// # Decisions
//
// A service may be deleted, and a load balancer detached from it, once no endpoint is attached, which is to say that none
// waits for acceptance, is pending or available; those that were rejected, have failed or expired may outlive it. A load
// balancer's node cannot go from a zone in which endpoints are attached, whichever load balancer serves them: the
// dataplane chooses that.
//
// The addresses of endpoints that are members of a security group are not among what a rule that refers to the group lets
// in: endpoints open no connections, and a packet that claims to come from one is dropped anyway.
//
// Routes lead to a GWLB endpoint in whatever state it is, also when it was rejected: traffic that was to be inspected
// stops, and is not let past the appliances.
package resource
