// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in a TCP header (RFC 9293 section 3.1).
const (
	tcpSrcPort    = 0
	tcpDstPort    = 2
	tcpSeq        = 4
	tcpAck        = 8
	tcpDataOffset = 12
	tcpFlags      = 13
	tcpWindow     = 14
	tcpChecksum   = 16
	tcpUrgent     = 18
)

// TCPMinLen is the length in bytes of a TCP header without options.
const TCPMinLen = 20

// Bits of TCP.Flags.
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// TCP is a TCP header and whatever follows it. An ICMP error quotes as little as its first eight bytes: of such a view only
// the ports and the sequence number may be used.
type TCP []byte

// ParseTCP is b as a TCP segment: the data offset says 20 bytes or more, all of them within b. It does not verify the
// checksum and does not look at the options.
func ParseTCP(b []byte) (TCP, bool) {
	if len(b) < TCPMinLen {
		return nil, false
	}
	t := TCP(b)
	if n := t.HeaderLen(); n < TCPMinLen || n > len(t) {
		return nil, false
	}
	return t, true
}

// SrcPort is the source port.
func (t TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(t[tcpSrcPort:]) }

// DstPort is the destination port.
func (t TCP) DstPort() uint16 { return binary.BigEndian.Uint16(t[tcpDstPort:]) }

// Seq is the sequence number of the first payload byte, or of the SYN.
func (t TCP) Seq() uint32 { return binary.BigEndian.Uint32(t[tcpSeq:]) }

// Ack is the acknowledgement number, which means something when TCPAck is set.
func (t TCP) Ack() uint32 { return binary.BigEndian.Uint32(t[tcpAck:]) }

// HeaderLen is the length of the header in bytes, options included.
func (t TCP) HeaderLen() int { return int(t[tcpDataOffset]>>4) * 4 }

// Flags are the eight control bits.
func (t TCP) Flags() uint8 { return t[tcpFlags] }

// Window is the window field, not scaled.
func (t TCP) Window() uint16 { return binary.BigEndian.Uint16(t[tcpWindow:]) }

// Checksum is the checksum field as it stands, complete or partial.
func (t TCP) Checksum() uint16 { return binary.BigEndian.Uint16(t[tcpChecksum:]) }

// Urgent is the urgent pointer, relative to Seq, which means something when TCPUrg is set.
func (t TCP) Urgent() uint16 { return binary.BigEndian.Uint16(t[tcpUrgent:]) }

// Options are the bytes between the fixed header and the payload, as far as they lie within the view.
func (t TCP) Options() []byte { return t[TCPMinLen:max(t.optionsEnd(), TCPMinLen)] }

// optionsEnd is the end of the options as far as the view holds them.
func (t TCP) optionsEnd() int { return min(t.HeaderLen(), len(t)) }

// SetSrcPort writes the source port and leaves the checksum alone.
func (t TCP) SetSrcPort(p uint16) { binary.BigEndian.PutUint16(t[tcpSrcPort:], p) }

// SetDstPort writes the destination port and leaves the checksum alone.
func (t TCP) SetDstPort(p uint16) { binary.BigEndian.PutUint16(t[tcpDstPort:], p) }

// SetSeq writes the sequence number and leaves the checksum alone.
func (t TCP) SetSeq(n uint32) { binary.BigEndian.PutUint32(t[tcpSeq:], n) }

// SetAck writes the acknowledgement number and leaves the checksum alone.
func (t TCP) SetAck(n uint32) { binary.BigEndian.PutUint32(t[tcpAck:], n) }

// SetHeaderLen writes the length of the header in bytes, a multiple of 4 from 20 to 60. It clears the reserved bits, and
// the flag NS of RFC 3540 with them, and leaves the checksum alone.
func (t TCP) SetHeaderLen(n int) { t[tcpDataOffset] = uint8(n / 4 << 4) }

// SetFlags writes the eight control bits and leaves the checksum alone.
func (t TCP) SetFlags(f uint8) { t[tcpFlags] = f }

// SetWindow writes the window field and leaves the checksum alone.
func (t TCP) SetWindow(w uint16) { binary.BigEndian.PutUint16(t[tcpWindow:], w) }

// SetChecksum writes the checksum field.
func (t TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(t[tcpChecksum:], c) }

// SetUrgent writes the urgent pointer and leaves the checksum alone.
func (t TCP) SetUrgent(p uint16) { binary.BigEndian.PutUint16(t[tcpUrgent:], p) }

// SeqAfter says whether a comes after b modulo 2^32 (RFC 9293 section 3.4).
func SeqAfter(a, b uint32) bool { return int32(a-b) > 0 }

// SeqBefore says whether a comes before b modulo 2^32. Of two numbers 2^31 apart it calls each before the other.
func SeqBefore(a, b uint32) bool { return int32(a-b) < 0 }
