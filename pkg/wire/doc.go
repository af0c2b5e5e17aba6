// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire reads and writes packet headers where they lie. A header is a byte slice with methods: nothing is decoded
// into a struct and encoded again, so a field that is not named is a field that is not changed, and nothing allocates.
//
// # Views
//
// A view borrows the bytes it was made from and is valid as long as they are. A view may be longer than its header: the
// payload may follow. The Parse functions say what they check; a view made by conversion, as in TCP(b), has been
// checked by nobody, and a method that reads past its end panics. Numbers are in host byte order at the API, addresses are
// arrays. Views have no locks: one goroutine at a time writes the bytes.
//
// # Checksums
//
// A plain Set method writes its field alone. Rewrite (IPv4) and Patch (TCP) methods also repair the checksum that covers
// the field, incrementally. A transport checksum is in one of two forms. A complete one covers pseudo-header, header and
// payload. A partial one is what a device with checksum offload hands over (VIRTIO_NET_HDR_F_NEEDS_CSUM): the folded sum of
// the pseudo-header alone, not complemented, to which the device adds the rest. Editing a header changes the first and
// not the second, which is what the argument full of the Patch methods is about; Seed16 and Seed32 repair a partial
// checksum when an address or the length changes.
//
// # Files
//
//	checksum.go   sums and incremental updates
//	sum_amd64.go sum_amd64.s sum_other.go  long sums by AVX2, where there is some
//	eth.go arp.go Ethernet II frames, ARP for IPv4
//	ipv4.go ipv6.go ipv6ext.go fragment.go the network layer
//	tcp.go tcpopt.go tcppatch.go  TCP: fields, options, edits with the checksum repaired
//	udp.go icmp.go icmpv6.go the other transports
//	rst.go        the reset that answers a segment
//	tuple.go      addresses, protocol and ports of any packet, or of one that an error quotes
//	geneve.go     Geneve of any sender
//	geneveaws.go  Geneve as AWS writes it
//	proxyv2.go    the PROXY protocol header as AWS writes it
package wire
