// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in a UDP header (RFC 768).
const (
	udpSrcPort  = 0
	udpDstPort  = 2
	udpLength   = 4
	udpChecksum = 6
)

// UDPLen is the length in bytes of a UDP header.
const UDPLen = 8

// UDP is a UDP header and whatever follows it.
type UDP []byte

// ParseUDP is b as a datagram, cut to its length field, which says eight bytes or more, all of them within b. It does not
// verify the checksum.
func ParseUDP(b []byte) (UDP, bool) {
	if len(b) < UDPLen {
		return nil, false
	}
	u := UDP(b)
	n := int(u.Length())
	if n < UDPLen || n > len(u) {
		return nil, false
	}
	return u[:n], true
}

// PutUDP writes a header without a checksum, which is its checksum field zero, to the first UDPLen bytes of dst. length is
// that of header and payload in bytes, at most 65535.
func PutUDP(dst []byte, srcPort, dstPort uint16, length int) {
	u := UDP(dst)
	u.SetSrcPort(srcPort)
	u.SetDstPort(dstPort)
	u.SetLength(uint16(length))
	u.SetChecksum(0)
}

// SrcPort is the source port.
func (u UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(u[udpSrcPort:]) }

// DstPort is the destination port.
func (u UDP) DstPort() uint16 { return binary.BigEndian.Uint16(u[udpDstPort:]) }

// Length is the length field, header and payload in bytes.
func (u UDP) Length() uint16 { return binary.BigEndian.Uint16(u[udpLength:]) }

// Checksum is the checksum field as it stands. Over IPv4 zero says that the sender computed none, and stays zero; a
// checksum that comes out as zero is sent as 0xffff, which is the same number to a receiver (RFC 768).
func (u UDP) Checksum() uint16 { return binary.BigEndian.Uint16(u[udpChecksum:]) }

// SetSrcPort writes the source port and leaves the checksum alone.
func (u UDP) SetSrcPort(p uint16) { binary.BigEndian.PutUint16(u[udpSrcPort:], p) }

// SetDstPort writes the destination port and leaves the checksum alone.
func (u UDP) SetDstPort(p uint16) { binary.BigEndian.PutUint16(u[udpDstPort:], p) }

// SetLength writes the length of header and payload in bytes and leaves the checksum alone.
func (u UDP) SetLength(n uint16) { binary.BigEndian.PutUint16(u[udpLength:], n) }

// SetChecksum writes the checksum field as given: replacing zero by 0xffff is the caller's, who knows which of the two
// meanings of zero is meant.
func (u UDP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(u[udpChecksum:], c) }
