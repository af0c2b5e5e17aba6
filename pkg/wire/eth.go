// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in an Ethernet II frame (RFC 894).
const (
	ethDst  = 0
	ethSrc  = 6
	ethType = 12
)

// EtherLen is the length in bytes of an Ethernet header without a VLAN tag.
const EtherLen = 14

// Values of the EtherType field.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeIPv6 = 0x86dd
)

// Ethernet is an Ethernet II header and whatever follows it.
type Ethernet []byte

// Dst is the destination MAC address.
func (e Ethernet) Dst() [6]byte { return [6]byte(e[ethDst:]) }

// Src is the source MAC address.
func (e Ethernet) Src() [6]byte { return [6]byte(e[ethSrc:]) }

// EtherType is the protocol of the payload; a value below 0x0600 is a length (IEEE 802.3) and no protocol.
func (e Ethernet) EtherType() uint16 { return binary.BigEndian.Uint16(e[ethType:]) }

// SetDst writes the destination MAC address.
func (e Ethernet) SetDst(a [6]byte) { *(*[6]byte)(e[ethDst:]) = a }

// SetSrc writes the source MAC address.
func (e Ethernet) SetSrc(a [6]byte) { *(*[6]byte)(e[ethSrc:]) = a }

// SetEtherType writes the protocol of the payload.
func (e Ethernet) SetEtherType(t uint16) { binary.BigEndian.PutUint16(e[ethType:], t) }
