// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// unannounce
//
// Expects: a tracked segment, or a quoting ICMP error, from the target.
// Does: where the target receives a PROXY header, takes it out of what the target says of the client's stream:
// acknowledgement, SACK blocks, window, and the number an ICMP error quotes.
// Drops: nothing.
// See: seqmap.go; RFC 2018, RFC 2883 (SACK), RFC 5508 (ICMP).
func (w *worker) unannounce(p *packet) bool {
	e := p.flow
	if e.Flags&flow.Proxy == 0 || p.quote != 0 { // what is quoted is translated whole, by translateReply
		return true
	}
	if p.tcpFlags&wire.TCPSyn != 0 {
		p.blankOptions()
	}
	tcp := p.tcp()
	if p.tcpFlags&wire.TCPAck == 0 {
		return true
	}
	owed := headerOwed(e, p.ack)
	ack := ackToClient(e, p.ack)
	if ack != p.ack {
		tcp.PatchAck(ack, p.full())
	}
	if owed > 0 && p.tcpFlags&wire.TCPRst == 0 {
		narrow(p, tcp, owed)
	}
	if p.body-p.l4 > wire.TCPMinLen {
		mapSACK(p, tcp, ack)
	}
	return true
}

// narrow takes the bytes of the header that the target has still to receive off its window, so that the client does
// not send beyond it: Linux drops what ends outside the offered window. In a SYN-ACK the window is never scaled.
func narrow(p *packet, tcp wire.TCP, owed uint32) {
	if p.tcpFlags&wire.TCPSyn == 0 && p.flow.Flags&flow.WindowScale != 0 {
		shift := p.flow.TargetShift
		owed = (owed + 1<<shift - 1) >> shift
	}
	if win := uint32(tcp.Window()); win > 0 {
		tcp.PatchWindow(uint16(win-min(win, owed)), p.full())
	}
}

// mapSACK converts the edges of SACK blocks. It removes blocks that are about the header alone, and one that would start
// at the acknowledged number because only the header is missing before it: senders ignore that, or take it for a reason
// not to send again the first byte, and the header with it. ack is the acknowledgement as the client sees it.
func mapSACK(p *packet, tcp wire.TCP, ack uint32) {
	off, length, ok := tcp.FindOption(wire.OptSACK)
	if !ok || length < 10 || (length-2)%8 != 0 || length > 34 {
		return
	}
	var out [34]byte
	n := 2
	for i := 2; i < length; i += 8 {
		left, right := be32(tcp[off+i:]), be32(tcp[off+i+4:])
		l, r := ackToClient(p.flow, left), ackToClient(p.flow, right)
		if !wire.SeqAfter(r, l) || l == ack && wire.SeqAfter(left, p.ack) {
			continue
		}
		putBE32(out[n:], l)
		putBE32(out[n+4:], r)
		n += 8
	}
	out[0], out[1] = wire.OptSACK, byte(n)
	if n == 2 {
		out[0], out[1] = wire.OptNOP, wire.OptNOP
	}
	for i := n; i < length; i++ {
		out[i] = wire.OptNOP
	}
	tcp.Patch(off, out[:length], p.full())
}
