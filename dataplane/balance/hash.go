// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// hashLen is the length of what Hash digests:
//
//	offset  0  protocol
//	offset  1  source address, IPv4 in its IPv4-mapped IPv6 form
//	offset 17  destination address, likewise
//	offset 33  source port, big-endian
//	offset 35  destination port, big-endian
//	offset 37  TCP sequence number, big-endian
const hashLen = 1 + 16 + 16 + 2 + 2 + 4

// Hash is what the target of a connection is chosen by: SipHash-2-4 of the packet that opens it, keyed with the hash
// key of the state (its halves in little-endian, as SipHash defines). These are the inputs a network load balancer
// documents for TCP: protocol, addresses, ports, and the sequence number of the SYN, so that a repeated SYN stays with
// its target while a client that uses a port again may meet another. For protocols without one isn is 0. Ports and isn
// are in host byte order. The result is stable across releases.
//
// Here the hash is SipHash, unlike in the flow table: it is taken once a connection, and clients see what becomes of
// it, namely which target answers.
func Hash(key [16]byte, proto uint8, src, dst [16]byte, sport, dport uint16, isn uint32) uint64 {
	var b [hashLen]byte
	b[0] = proto
	copy(b[1:], src[:])
	copy(b[17:], dst[:])
	binary.BigEndian.PutUint16(b[33:], sport)
	binary.BigEndian.PutUint16(b[35:], dport)
	binary.BigEndian.PutUint32(b[37:], isn)
	k0, k1 := halves(key)
	return siphash.Hash(k0, k1, b[:])
}

// halves are the two words of a SipHash key.
func halves(key [16]byte) (k0, k1 uint64) {
	return binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
}
