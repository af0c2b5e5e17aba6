// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in an ICMP header (RFC 792).
const (
	icmpType     = 0
	icmpCode     = 1
	icmpChecksum = 2
)

// ICMPLen is the length in bytes of an ICMP header. Its last four bytes depend on the type.
const ICMPLen = 8

// Types of ICMP messages (RFC 792).
const (
	ICMPEchoReply    = 0
	ICMPUnreachable  = 3
	ICMPEchoRequest  = 8
	ICMPTimeExceeded = 11
	ICMPParameter    = 12
)

// ICMPFragNeeded is the code of ICMPUnreachable that reports a next hop's MTU (RFC 1191 section 4).
const ICMPFragNeeded = 4

// ICMP is an ICMP message.
type ICMP []byte

// Type is the type of the message.
func (m ICMP) Type() uint8 { return m[icmpType] }

// Code is the code within the type.
func (m ICMP) Code() uint8 { return m[icmpCode] }

// Checksum is the checksum field as it stands. It covers the message alone; there is no pseudo-header.
func (m ICMP) Checksum() uint16 { return binary.BigEndian.Uint16(m[icmpChecksum:]) }

// SetChecksum writes the checksum field.
func (m ICMP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(m[icmpChecksum:], c) }

// Payload is what follows the eight-byte header: in an error the head of the packet it is about.
func (m ICMP) Payload() []byte { return m[ICMPLen:] }

// IsError says whether the message reports on a packet that it quotes and whose sender should learn of it through a NAT
// (RFC 5508 section 3): unreachable, time exceeded or parameter problem. Redirect is meant for the local link and
// source quench is obsolete (RFC 6633); they are not errors here.
func (m ICMP) IsError() bool {
	t := m.Type()
	return t == ICMPUnreachable || t == ICMPTimeExceeded || t == ICMPParameter
}
