// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces and what is in them: links, addresses, routes, queueing disciplines, sysctls
// and sockets. It is the only package that speaks netlink.
//
// A network namespace is an attribute of a thread, and goroutines move between threads. Do is the one door: it runs a
// function on a thread of its own inside a namespace, and lets that thread die when it cannot be taken back. What a
// function does there must stay on the goroutine it was called on; a goroutine it starts runs somewhere else. A socket
// belongs to the namespace of the thread that made it, for good, so Dial and Listen enter only for the moment of
// creation and hand out connections that any goroutine may use.
//
// The files:
//
//	ns.go       handles: open, create at a path, anonymous, remove
//	do.go       threads
//	dial.go     sockets
//	link.go     veth pairs, bridges and the properties of links
//	address.go  addresses and routes
//	route.go    routes of any table
//	rule.go     rules that lead to routing tables
//	path.go     how an address is reached
//	nat.go      what translates addresses
//	port.go     the settings of a TUN or TAP device that has just been opened
//	sysctl.go   settings under /proc/sys/net
//	snmp.go     the kernel's protocol counters
//
// A nil *NS stands for the namespace of the calling process throughout. Everything may be called concurrently.
package netns
