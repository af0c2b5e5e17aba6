// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import "bytes"

// Kind says what makes packets one flow: the stickiness of a Gateway Load Balancer's target group.
type Kind uint8

// Kinds of stickiness.
const (
	FiveTuple  Kind = iota // addresses, protocol and ports; ThreeTuple for all protocols but TCP and UDP
	ThreeTuple             // addresses and protocol
	TwoTuple               // addresses
)

// IP protocol numbers.
const (
	protoTCP = 6
	protoUDP = 17
)

// StickyKey identifies a flow through Gateway Load Balancer endpoints, the same for both directions: A is the smaller
// end. Fields that do not count in its Kind are zero. Make it with NewStickyKey.
type StickyKey struct {
	A, B         [16]byte // IPv4 in its IPv4-mapped IPv6 form
	APort, BPort uint16   // host byte order
	Scope        uint16   // slot that stands for service, zone and consumer VPC: addresses mean nothing without it
	Proto        uint8    // IP protocol
	Kind         Kind     // never FiveTuple but for TCP and UDP
}

// NewStickyKey is the key of a packet, from its addresses and ports (zero, or anything, where it has none). Reverse says
// that the packet goes from B to A. Ends of the same address are ordered by port where ports count; a packet from an end
// to itself goes from A to B.
func NewStickyKey(kind Kind, scope uint16, proto uint8, src, dst [16]byte, sport, dport uint16) (k StickyKey, reverse bool) {
	if kind == FiveTuple && proto != protoTCP && proto != protoUDP {
		kind = ThreeTuple
	}
	if kind != FiveTuple {
		sport, dport = 0, 0
	}
	if kind == TwoTuple {
		proto = 0
	}
	if order := bytes.Compare(src[:], dst[:]); order > 0 || order == 0 && sport > dport {
		return StickyKey{A: dst, B: src, APort: dport, BPort: sport, Scope: scope, Proto: proto, Kind: kind}, true
	}
	return StickyKey{A: src, B: dst, APort: sport, BPort: dport, Scope: scope, Proto: proto, Kind: kind}, false
}

// HashSticky is the keyed hash of a key; what is said at Hash holds for it. StickyTable takes the high 32 bits.
func (k HashKey) HashSticky(key *StickyKey) uint64 {
	return k.pair(&key.A, &key.B, uint64(key.APort)|uint64(key.BPort)<<16|uint64(key.Scope)<<32|
		uint64(key.Proto)<<48|uint64(key.Kind)<<56)
}
