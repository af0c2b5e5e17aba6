// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

// ResetLen is the length in bytes of the packet that PutReset writes.
const ResetLen = IPv4MinLen + TCPMinLen

// resetTTL is the initial TTL that hosts commonly send with.
const resetTTL = 64

// PutReset writes to the first ResetLen bytes of dst the reset that answers the segment tcp of the packet ip, as a host
// without the connection sends it (RFC 9293 section 3.5.2): an IPv4 packet with addresses and ports swapped, DF and complete
// checksums. payloadLen is the segment's payload in bytes. Its sequence number is the one that the segment acknowledges;
// where it acknowledges nothing, it is zero and the reset acknowledges the segment, SYN and FIN counted. It returns
// ResetLen, or 0 when the segment is itself a reset, which is never answered. dst may be the memory of ip.
func PutReset(dst []byte, ip IPv4, tcp TCP, payloadLen int) int {
	flags := tcp.Flags()
	if flags&TCPRst != 0 {
		return 0
	}
	var seq, ack uint32
	var answer uint8 = TCPRst
	if flags&TCPAck != 0 {
		seq = tcp.Ack()
	} else {
		answer |= TCPAck
		ack = tcp.Seq() + uint32(payloadLen)
		if flags&TCPSyn != 0 {
			ack++
		}
		if flags&TCPFin != 0 {
			ack++
		}
	}
	src, to := ip.Dst(), ip.Src()
	sport, dport := tcp.DstPort(), tcp.SrcPort()

	t := TCP(dst[IPv4MinLen:ResetLen])
	clear(t)
	t.SetSrcPort(sport)
	t.SetDstPort(dport)
	t.SetSeq(seq)
	t.SetAck(ack)
	t.SetHeaderLen(TCPMinLen)
	t.SetFlags(answer)
	t.SetChecksum(Checksum(t, PseudoSum4(src, to, ProtoTCP, TCPMinLen)))
	IPv4(dst).Init(ResetLen, ProtoTCP, resetTTL, src, to)
	return ResetLen
}
