// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// ICMPv6Len is the length in bytes of an ICMPv6 header. Its last four bytes depend on the type. The first four are as in ICMP.
const ICMPv6Len = 8

// Types of ICMPv6 messages (RFC 4443).
const (
	ICMPv6Unreachable  = 1
	ICMPv6TooBig       = 2
	ICMPv6TimeExceeded = 3
	ICMPv6Parameter    = 4
	ICMPv6EchoRequest  = 128
	ICMPv6EchoReply    = 129
)

// ICMPv6 is an ICMPv6 message.
type ICMPv6 []byte

// Type is the type of the message.
func (m ICMPv6) Type() uint8 { return m[icmpType] }

// Code is the code within the type.
func (m ICMPv6) Code() uint8 { return m[icmpCode] }

// Checksum is the checksum field as it stands. Unlike ICMP's it covers the pseudo-header, see PseudoSum6.
func (m ICMPv6) Checksum() uint16 { return binary.BigEndian.Uint16(m[icmpChecksum:]) }

// SetChecksum writes the checksum field.
func (m ICMPv6) SetChecksum(c uint16) { binary.BigEndian.PutUint16(m[icmpChecksum:], c) }

// Payload is what follows the eight-byte header: in an error the head of the packet it is about.
func (m ICMPv6) Payload() []byte { return m[ICMPv6Len:] }

// IsError says whether the message reports on a packet that it quotes. All types below 128 do (RFC 4443 section 2.1), also
// those that have no meaning yet.
func (m ICMPv6) IsError() bool { return m.Type() < 128 }
