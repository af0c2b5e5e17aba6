// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// growSum accounts for n bytes added to the TCP segment at an even offset: added is their sum, with that of any header
// word that changed with them.
func (p *packet) growSum(n int, added uint32) {
	tcp := p.tcp()
	if p.full() {
		tcp.SetChecksum(^wire.Fold(uint32(^tcp.Checksum()) + uint32(wire.Fold(added)) + uint32(n)))
		return
	}
	tcp.SetChecksum(wire.Fold(uint32(tcp.Checksum()) + uint32(n)))
}

// shrinkSum accounts for n bytes removed from the end or, at an even offset, from inside the segment; removed is
// their sum.
func (p *packet) shrinkSum(n int, removed uint32) {
	tcp := p.tcp()
	if p.full() {
		c := wire.Update16(tcp.Checksum(), wire.Fold(removed), 0)
		tcp.SetChecksum(wire.Update16(c, uint16(n), 0))
		return
	}
	tcp.SetChecksum(wire.Seed16(tcp.Checksum(), uint16(n), 0))
}

// trimFront removes the first n bytes of the payload; the segment then starts n numbers later.
func (p *packet) trimFront(n int) {
	hl := int(p.body)
	b := p.buf.Bytes()
	gone := b[hl : hl+n]
	sum := wire.Sum(gone, 0)
	if n%2 != 0 { // what follows changes its parity: recompute instead of patching
		p.resum(n)
	} else {
		p.shrinkSum(n, sum)
	}
	copy(b[n:n+hl], b[:hl])
	b = p.buf.Pull(n)
	wire.IPv4(b).RewriteTotalLen(len(b))
	p.seq += uint32(n)
	p.payload -= uint32(n)
	p.tcp().PatchSeq(p.seq, p.full())
	if p.tcpFlags&wire.TCPUrg != 0 {
		p.moveUrgent(n)
	}
	if p.buf.GSOType != port.GSONone && p.payload <= uint32(p.buf.GSOSize) {
		p.buf.GSOType, p.buf.GSOSize, p.buf.HdrLen = port.GSONone, 0, 0
	}
}

// moveUrgent makes the urgent pointer, which counts from the segment's number, right again after that has moved up by n.
func (p *packet) moveUrgent(n int) {
	tcp := p.tcp()
	left := max(int(tcp.Urgent())-n, 0)
	tcp.PatchUrgent(uint16(left), p.full())
	if left == 0 {
		p.setFlags(p.tcpFlags &^ wire.TCPUrg)
	}
}

// resum sets the checksum to what it will be without the first n payload bytes, for an odd n. An error in the
// checksum is kept: the new one is wrong by the same difference.
func (p *packet) resum(n int) {
	tcp := p.tcp()
	if !p.full() {
		p.shrinkSum(n, 0)
		return
	}
	rest := p.buf.Bytes()[int(p.body)+n:]
	all := wire.Fold(wire.Sum(p.buf.Bytes()[p.body:], 0))
	c := wire.Update16(tcp.Checksum(), all, wire.Fold(wire.Sum(rest, 0)))
	tcp.SetChecksum(wire.Update16(c, uint16(n), 0))
}

// splitFront sends the PROXY header and the first bytes of a super-packet that has no room for the header as a segment
// of their own, and leaves the rest in p, behind it. One segment's worth is split off, so that the header does not
// straddle two.
func (w *worker) splitFront(p *packet) bool {
	limit := p.segmentLimit()
	n := (min(max(int(p.buf.GSOSize), headerLen+2), limit) - headerLen) &^ 1
	p.buf.GSOSize = uint16(min(int(p.buf.GSOSize), limit))
	buf := w.spare()
	if buf == nil {
		return false
	}
	front := *p
	front.buf = buf
	hl := int(p.body)
	buf.Set(p.buf.Bytes()[:hl+n])
	buf.Offload = port.Offload{Flags: p.buf.Flags, CsumStart: p.buf.CsumStart, CsumOffset: p.buf.CsumOffset}
	front.payload = uint32(n)
	front.cutTo(p)
	if !w.insertHeader(&front) || !w.translate(&front) || !w.send(&front) {
		return false
	}
	flags := p.tcpFlags &^ wire.TCPCwr
	p.trimFront(n)
	p.setFlags(flags)
	p.tcp().PatchSeq(seqToTarget(p.flow, p.seq, p.payload, flags), p.full())
	return true
}

// cutTo corrects the headers of a front part that was copied from whole: lengths, and the flags that belong to the
// last part only.
func (p *packet) cutTo(whole *packet) {
	tcp := p.tcp()
	if p.full() {
		tail := whole.buf.Bytes()[int(p.body)+int(p.payload):]
		p.shrinkSum(len(tail), wire.Sum(tail, 0))
	} else {
		p.shrinkSum(int(whole.payload-p.payload), 0)
	}
	p.ip().RewriteTotalLen(p.buf.Len())
	p.setFlags(tcp.Flags() &^ (wire.TCPFin | wire.TCPPsh))
}

// setFlags replaces the TCP flags and accounts for them in the checksum.
func (p *packet) setFlags(f uint8) {
	tcp := p.tcp()
	if old := tcp.Flags(); old != f {
		tcp.Patch(13, []byte{f}, p.full())
		p.tcpFlags = f
	}
}
