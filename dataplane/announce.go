// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// announce
//
// Expects: a tracked segment from the client.
// Does: where the target group has PROXY protocol on, prepends the header to every segment that starts at the client's
// first byte and shifts the numbers of all later ones by its length; or, in the early placement, sends the header
// alone behind the ACK that ends the handshake.
// Drops: Malformed, when a checksum that has to be recomputed is wrong; MSSTooSmall; OutOfBuffers.
// See: seqmap.go; PROXY protocol specification section 2.2; AWS NLB target group attributes.
func (w *worker) announce(p *packet) bool {
	e := p.flow
	if e.Flags&flow.Proxy == 0 {
		return true
	}
	if p.tcpFlags&wire.TCPSyn != 0 {
		p.stripSYN()
		return true
	}
	first := firstByte(e)
	end := p.seq + p.payload
	switch {
	case p.payload > 0 && p.seq == first:
		return w.prepend(p)
	case p.payload > 0 && wire.SeqBefore(p.seq, first) && wire.SeqAfter(end, first):
		p.trimFront(int(first - p.seq))
		return w.prepend(p)
	case p.seq == first && p.tcpFlags&wire.TCPFin != 0 && e.Flags&flow.ProxySent == 0:
		// A stream that ends before its first byte: there will be no header, and the FIN's number must not be taken
		// for one behind it.
		e.Flags &^= flow.Proxy | flow.ProxyEarly
		return true
	}
	if seq := seqToTarget(e, p.seq, p.payload, p.tcpFlags); seq != p.seq {
		p.tcp().PatchSeq(seq, p.full())
	}
	if e.Flags&(flow.ProxyEarly|flow.ProxySent) == flow.ProxyEarly && e.State == flow.Established && p.seq == first {
		w.announceEarly(p)
	}
	return true
}

// stripSYN removes from a SYN what would put data or numbers of the client's before the header: TCP Fast Open with
// its payload (the client sends it again after the handshake, RFC 7413 section 3), and MPTCP, whose sequence maps
// the header would break.
func (p *packet) stripSYN() {
	p.blankOptions()
	if p.payload > 0 {
		body := p.buf.Bytes()[p.body:]
		p.shrinkSum(len(body), wire.Sum(body, 0))
		p.ip().RewriteTotalLen(int(p.body))
		p.buf.SetLen(int(p.body))
		p.buf.GSOType, p.buf.GSOSize, p.buf.HdrLen = port.GSONone, 0, 0
		p.payload = 0
	}
}

// blankOptions overwrites the options of a SYN or SYN-ACK that a shifted stream cannot keep.
func (p *packet) blankOptions() {
	tcp := p.tcp()
	for it := tcp.IterOptions(); ; {
		kind, off, length, ok := it.Next()
		if !ok {
			return
		}
		fastOpen := kind == wire.OptFastOpen ||
			kind == wire.OptExperimental && length >= 4 && tcp[off+2] == 0xf9 && tcp[off+3] == 0x89 // RFC 7413 appendix A
		if fastOpen || kind == wire.OptMPTCP {
			tcp.PatchBlank(off, length, p.full())
		}
	}
}

// prepend puts the header in front of the payload. Headers move, payload does not.
func (w *worker) prepend(p *packet) bool {
	if p.flow.TargetMSS < minProxyMSS {
		return w.drop(p, MSSTooSmall)
	}
	if p.buf.Len()+headerLen > port.MaxPacket && !w.splitFront(p) {
		return w.drop(p, OutOfBuffers)
	}
	if p.seq == firstByte(p.flow) && !w.insertHeader(p) {
		return w.drop(p, Malformed)
	}
	return true
}

// insertHeader writes the header between the TCP header and the payload, and makes the packet a super-packet when one
// segment of it would be longer than the target takes, so that it is cut behind the header. False means that the
// packet's checksum is wrong and must not be replaced by a right one.
func (w *worker) insertHeader(p *packet) bool {
	hl := int(p.body)
	if !p.limitSegments() {
		return false
	}
	b := p.buf.Push(headerLen)
	copy(b, b[headerLen:headerLen+hl])
	header := b[hl : hl+headerLen]
	w.putHeader(header, p.flow)
	wire.IPv4(b).RewriteTotalLen(len(b))
	p.growSum(headerLen, wire.Sum(header, 0))
	if tcp := p.tcp(); tcp.Flags()&wire.TCPUrg != 0 {
		tcp.PatchUrgent(uint16(min(uint32(tcp.Urgent())+headerLen, 0xffff)), p.full())
	}
	p.flow.Flags |= flow.ProxySent
	w.total.live[totalHeaders]++
	return true
}

// putHeader writes the flow's PROXY header. It is made of nothing that changes while the flow lives, so that every copy
// is identical.
func (w *worker) putHeader(dst []byte, e *flow.Entry) {
	eni := &w.view.enis[e.Endpoint.Slot]
	wire.PutProxyV2(dst, e.Client, eni.addr, e.ClientPort, e.ListenerPort, eni.owner)
}

// segmentLimit is how much payload one segment of the packet may carry toward the target: its MSS less the options in
// the packet's headers (RFC 6691).
func (p *packet) segmentLimit() int {
	return int(p.flow.TargetMSS) - (int(p.body) - wire.IPv4MinLen - wire.TCPMinLen)
}

// limitSegments sees to it that no segment of the packet, grown by the header, is longer than the target takes, and that
// the first holds the header whole. It returns false when it would have to replace a wrong checksum.
func (p *packet) limitSegments() bool {
	limit := p.segmentLimit()
	switch {
	case p.buf.GSOType != port.GSONone:
		p.buf.GSOSize = uint16(min(max(int(p.buf.GSOSize), headerLen), limit))
		return true
	case int(p.payload)+headerLen <= limit:
		return true
	}
	if p.full() && !p.makePartial() {
		return false
	}
	p.buf.GSOType, p.buf.GSOSize, p.buf.HdrLen = port.GSOTCPv4, uint16(limit), p.body
	return true
}

// makePartial replaces a complete TCP checksum, after verifying it, by the sum of the pseudo-header.
func (p *packet) makePartial() bool {
	ip := p.ip()
	seg := p.buf.Bytes()[p.l4:]
	pseudo := wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoTCP, uint16(len(seg)))
	if p.buf.Flags&port.DataValid == 0 && wire.Checksum(seg, pseudo) != 0 {
		return false
	}
	wire.TCP(seg).SetChecksum(wire.Fold(pseudo))
	p.buf.Flags = port.NeedsCsum
	p.buf.CsumStart, p.buf.CsumOffset = p.l4, 16
	return true
}
