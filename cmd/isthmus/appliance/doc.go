// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package appliance is an inspection appliance behind a Gateway Load Balancer: it takes packets out of GENEVE, looks at
// them, and puts what may pass back under the header it came under. It serves labs as their appliance and tests as the
// dataplane's peer, so of the dataplane's packet code it shares pkg/wire alone.
//
// Two modes:
//
//	hairpin  every datagram goes back as it came, outer addresses swapped, both UDP ports kept
//	tun      inner packets appear on a TUN device, so that the host's firewall, NAT and routes apply to them; what the
//	         kernel sends into the device goes back under the header of its flow
//
// The files, in the order in which a packet meets them:
//
//	receive.go   the socket on port 6081, in batches
//	inspect.go   GENEVE header, options, inner packet, rules
//	flows.go     what is remembered of a flow
//	rules.go     rules to drop by
//	hairpin.go   hairpin mode
//	tunnel.go    tun mode
//	device.go    the TUN device, and routes to and from it
//	merge.go     TCP segments to super-packets, on the way to the kernel
//	cut.go       super-packets of the kernel to segments
//	send.go      answers, in batches
//	sockets.go   sockets that answers leave by
//
// # Sockets
//
// The answer's UDP source port is the one the load balancer chose for the flow, its destination 6081: an ordinary socket on
// 6081 cannot send it. Two can: a raw socket that writes its own IP and UDP header, one datagram each, and a socket bound to
// the flow's port, which takes super-packets (UDP_SEGMENT) but costs about 9 µs to make. Measured on Linux 6.18, into a TUN:
// 2.8 µs a datagram of 100 bytes raw, 2.5 µs bound and connected; of 8,528 bytes 3.4 µs raw, 4.1 µs bound, and 4.4 µs for seven
// of them as one super-packet. So single datagrams go raw, whatever their flow, many a call; and a flow gets a bound socket once two
// datagrams or more of it stand behind each other. Where another process has the port, the raw socket does it all.
//
// A super-packet that the dataplane writes to a device in this host's namespace reaches a socket with UDP_GRO whole, its
// segment size beside it; so does one that comes over a veth. Without UDP_GRO the kernel cuts it first, at 0.5 µs a datagram.
//
// # Limits
//
// In tun mode with one device, packets of two VPCs with the same addresses cannot be told apart once they have passed the
// kernel. A tuple that is a live flow of one endpoint is refused from another then (conflict), so that none ever gets
// another's packets. A device name with %d in it gives each endpoint a device of its own, and no such conflict; but what the
// host itself sends, such as the errors and resets of its firewall, then has no device that it could be meant for.
package appliance
