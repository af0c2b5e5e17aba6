// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

// Lengths in bytes of the packets that PutReset and PutReset6 write.
const (
	ResetLen  = IPv4MinLen + TCPMinLen
	Reset6Len = IPv6Len + TCPMinLen
)

// resetTTL is the initial TTL or hop limit that hosts commonly send with.
const resetTTL = 64

// PutReset writes to the first ResetLen bytes of dst the reset that answers the segment tcp of the packet ip, as a host
// without the connection sends it (RFC 9293 section 3.5.2): an IPv4 packet with addresses and ports swapped, DF and complete
// checksums. payloadLen is the segment's payload in bytes. Its sequence number is the one that the segment acknowledges;
// where it acknowledges nothing, it is zero and the reset acknowledges the segment, SYN and FIN counted. It returns
// ResetLen, or 0 when the segment is itself a reset, which is never answered. dst may be the memory of ip.
func PutReset(dst []byte, ip IPv4, tcp TCP, payloadLen int) int {
	r, ok := resetFor(tcp, payloadLen)
	if !ok {
		return 0
	}
	src, to := ip.Dst(), ip.Src()
	t := r.put(dst[IPv4MinLen:ResetLen])
	t.SetChecksum(Checksum(t, PseudoSum4(src, to, ProtoTCP, TCPMinLen)))
	IPv4(dst).Init(ResetLen, ProtoTCP, resetTTL, src, to)
	return ResetLen
}

// PutReset6 is PutReset over IPv6. It writes Reset6Len bytes, whatever extension headers ip has.
func PutReset6(dst []byte, ip IPv6, tcp TCP, payloadLen int) int {
	r, ok := resetFor(tcp, payloadLen)
	if !ok {
		return 0
	}
	src, to := ip.Dst(), ip.Src()
	t := r.put(dst[IPv6Len:Reset6Len])
	t.SetChecksum(Checksum(t, PseudoSum6(src, to, ProtoTCP, TCPMinLen)))
	IPv6(dst).Init(TCPMinLen, ProtoTCP, resetTTL, src, to)
	return Reset6Len
}

// reset is the header of a reset that is still to be written, so that it may be written over the segment it answers.
type reset struct {
	srcPort, dstPort uint16
	seq, ack         uint32
	flags            uint8
}

// resetFor is the reset that answers a segment. It is not ok when nothing does.
func resetFor(tcp TCP, payloadLen int) (r reset, ok bool) {
	flags := tcp.Flags()
	if flags&TCPRst != 0 {
		return reset{}, false
	}
	r = reset{srcPort: tcp.DstPort(), dstPort: tcp.SrcPort(), flags: TCPRst}
	if flags&TCPAck != 0 {
		r.seq = tcp.Ack()
		return r, true
	}
	r.flags |= TCPAck
	r.ack = tcp.Seq() + uint32(payloadLen)
	if flags&TCPSyn != 0 {
		r.ack++
	}
	if flags&TCPFin != 0 {
		r.ack++
	}
	return r, true
}

// put writes the header to b, which has just its length, with the checksum zero.
func (r *reset) put(b []byte) TCP {
	t := TCP(b)
	clear(t)
	t.SetSrcPort(r.srcPort)
	t.SetDstPort(r.dstPort)
	t.SetSeq(r.seq)
	t.SetAck(r.ack)
	t.SetHeaderLen(TCPMinLen)
	t.SetFlags(r.flags)
	return t
}
