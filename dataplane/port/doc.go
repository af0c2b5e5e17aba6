// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package port is where packets come and go: TUN and TAP devices, memory, capture files, and an impairing port around
// any of them. Above it there is only layer 3, in batches of Buffers.
//
// # Files
//
//   - port.go, buffer.go: the interface, and the memory of one packet with the offload fields beside it.
//   - device.go, tun.go, tap.go: opening; queue.go and sender.go: a queue's reads and writes; offload.go: the
//     virtio_net_hdr before each packet, and the rules a received packet is held to; plain.go: devices without it.
//   - link.go, neigh.go, arp.go: layer 2 of a TAP: the workers' side, the table's owner, and its protocol.
//   - segment.go: super-packets cut, and partial checksums completed, in software.
//   - selftest.go: what the kernel does right, tried out once for the process.
//   - steer.go: which queue the kernel gives a packet to; thread.go: which processor a worker runs on.
//   - poller.go: what a worker sleeps on.
//   - mem.go, pcap.go, impair.go, and stored.go beneath them: ports without the kernel.
//
// # Offloads
//
// Super-packets pass unsplit, which is what decides the throughput: on the machine of the measurements below a batch
// that goes out, through the kernel's forwarding and in again takes 4.8 us a packet of 46 bytes, 6.2 us a packet of 8500,
// 9.9 us a super-packet of seven times 8460, and 46 us for the same seven one by one. Receive guarantees for each packet
// that its length is that of its IP header, that HdrLen, CsumStart and CsumOffset are right, and that a partial checksum
// is the transport header's own. Send cuts or completes what the device does not take. A super-packet that the kernel
// refuses with EINVAL, against its own rules, is cut and sent again.
//
// The offload header lies in the headroom, directly before the packet, so that one read or write moves both. readv
// and writev with a header of their own cost 260 ns more a pair (4.9 and 4.6 us), and vectors to keep.
//
// IFF_NAPI is never set (a write takes 40 to 70 % longer) and TUNSETSNDBUF never called (small TAP packets lose the
// kernel's cheaper way). With one queue a device is not made IFF_MULTI_QUEUE.
//
// # A socket in place of a port
//
// A GWLB node could be UDP sockets of the kernel's with UDP_SEGMENT and UDP_GRO (BenchmarkGatewayNode). They are cheaper: of
// a datagram out and back the TUN costs 1.35 to 1.42 times as much CPU at 8500 bytes in super-packets (1.7 and 1.2 us), 1.4
// to 1.7 times at 64 bytes (130 and 90 ns), and 1.25 to 1.45 times where each datagram is of another flow. (Linux 6.18, over
// a veth, a busy machine; the ratios are of runs that took turns.) We keep the port for what they cannot do: a datagram's
// source port is its socket's, so that every source port needs a socket and a descriptor, and one that another process has
// cannot be used; and their address must be the kernel's. A raw socket has neither limit, but takes no super-packets: 1.1 to
// 1.5 times the TUN's cost at 8500 bytes and ten times at 64. It is cheaper, 0.3 to 0.4 times, for datagrams that go singly,
// because 64 of them go in one call.
//
// # Kernel memory
//
// A device with IFF_MULTI_QUEUE has 256 transmit queues whatever is opened, and its default queueing discipline a queue
// of its own for each: 3.6 to 6.7 MiB of slab a device. With the root discipline noqueue, set before the device comes
// up, it is 0.25 MiB with txqueuelen 500 or 1000 and 0.31 MiB with 4000; a device of one queue takes 0.04 to 0.08 MiB.
// (Linux 6.18, 2 queues, 40 devices.) Those are settings of the link, and pkg/netns makes them.
//
// # Concurrency
//
// One worker owns queue q of every port. Nothing on its way takes a lock that another worker takes, allocates, or waits:
// a queue has a lock that is taken once a batch, and which only Close, FD and Steer contend for; ARP and packets without
// a next hop are handed over through bounded queues to the goroutine that owns the neighbour table. System calls that
// do not block bypass the Go scheduler, which saves about 26 ns each; they keep the processor for as long as the
// kernel's receive path runs in our write.
package port
