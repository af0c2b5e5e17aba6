// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package keeper keeps all resources: in memory, where the rules are, and in a store, where nothing is lost. It tells the
// dataplane what to do and the API what has changed, and knows no protocol.
//
//	keeper.go    Keeper: opening, reading
//	do.go        Do: a change, from the request to the disk and into memory
//	requests.go  requests that have had their effect, so that one that comes again has none
//	feed.go      what has changed lately, for whoever watches
//	run.go       Run: the newest resources to the dataplane, and what follows when it runs them
//	refusal.go   finding the endpoints because of which the dataplane refuses a state
//	status.go    what is desired and what is applied
//
// # What is true when
//
// A change is first made to a copy of the resources, then written to the store, together with the record of its request
// in one transaction, and becomes visible when the store has it on disk. Hence memory never has what the disk has not,
// and a keeper that is opened again goes on from where another one was killed: states that wait for the dataplane
// (pending, deleting) are resources like others, and Run takes up whatever it finds.
//
// The keeper is the only writer of its keys, which begin with resources/ and requests/. Each compare-and-swap says so, so
// that a second writer is found out instead of lost.
package keeper
