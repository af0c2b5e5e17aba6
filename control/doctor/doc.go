// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package doctor finds out what keeps Isthmus from working well on a machine, and which command mends it. Nothing it does
// changes the machine: what has to be tried out is tried in a namespace that goes away again.
//
//	finding.go    what was found, what could not be looked at, and how both are told
//	examine.go    Examine: all checks, in order
//	machine.go    the kernel and the process: devices, privileges, offloads, steering
//	limits.go     descriptors, inotify, the clock
//	socket.go     a daemon's socket, and the daemon behind it
//	store.go      the store's file
//	namespace.go  a namespace that somebody names
//	port.go       what is around a port. The daemon looks at that for itself, and warns of it in its status
//
// A daemon knows what its ports are for, and may look where the caller may not. So what is around the ports of a running
// daemon comes from its status, as texts that Parse takes apart again.
package doctor
