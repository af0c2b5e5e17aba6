// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// In the early placement the header is a segment of its own, with nothing of the client's in it whose retransmission
// would repair its loss. So the worker repeats it itself: first after earlyFirst milliseconds, then after twice as
// long each time, until the target acknowledges it or it has been repeated earlyRepeats times.
const (
	earlyFirst   = 200
	earlyRepeats = 6
	earlyPending = 4096 // most headers waiting for their acknowledgement on one worker; a further one is sent once
)

// early is one header that waits for its acknowledgement.
type early struct {
	handle  uint32
	isn     uint32 // recognises the flow, since the handle may have been given to another
	due     uint32
	window  uint16
	repeats uint8
	ts      bool
	tsval   uint32 // of the client, host order
	tsecr   uint32
}

// announceEarly sends the header behind the ACK that p is, and remembers to repeat it. The ACK itself goes first.
func (w *worker) announceEarly(p *packet) {
	tcp := p.tcp()
	one := early{handle: p.handle, isn: p.flow.ISN, due: w.now + earlyFirst, window: tcp.Window()}
	if off, length, ok := tcp.FindOption(wire.OptTimestamps); ok && length == 10 {
		one.ts, one.tsval, one.tsecr = true, be32(tcp[off+2:]), be32(tcp[off+6:])
	}
	p.flow.Flags |= flow.ProxySent
	w.after = append(w.after, one)
	if len(w.pending) < earlyPending {
		w.pending = append(w.pending, one)
	}
}

// sendEarly sends the headers that announceEarly left for after the batch's own packets.
func (w *worker) sendEarly() {
	for i := range w.after {
		if w.owed(&w.after[i]) { // a later packet of the batch may have ended the flow, or begun another
			w.emitHeader(&w.after[i])
		}
	}
	w.after = w.after[:0]
}

// repeatEarly repeats the headers that are due, as many as there are buffers for, and forgets those that are done with.
func (w *worker) repeatEarly() {
	w.repeated = w.now
	for i := 0; i < len(w.pending); {
		one := &w.pending[i]
		switch {
		case !w.owed(one):
			w.pending[i] = w.pending[len(w.pending)-1]
			w.pending = w.pending[:len(w.pending)-1]
			continue
		case int32(w.now-one.due) >= 0 && w.spares < spareSize:
			one.repeats++
			one.due = w.now + earlyFirst<<one.repeats
			w.emitHeader(one)
		}
		i++
	}
	w.transmit()
}

// owed says whether the header has still to be acknowledged, by a flow that still lives.
func (w *worker) owed(one *early) bool {
	e := w.flows.At(one.handle)
	return e.State != flow.Free && e.State != flow.Reset && e.ISN == one.isn && e.Flags&flow.ProxySent != 0 && e.Ended == 0 &&
		one.repeats < earlyRepeats && headerOwed(e, e.AckTarget) > 0 && w.view.verdict(e) == Unexplained
}

// emitHeader builds the segment that carries the header alone and sends it.
func (w *worker) emitHeader(one *early) {
	e := w.flows.At(one.handle)
	buf := w.spare()
	if buf == nil {
		w.total.live[totalDrops+int(OutOfBuffers)]++
		return // the next repetition makes up for it
	}
	hl := wire.IPv4MinLen + wire.TCPMinLen
	if one.ts {
		hl += 12
	}
	buf.Reset()
	b := buf.SetLen(hl + headerLen)
	tcp := wire.TCP(b[wire.IPv4MinLen:])
	clear(tcp[:hl-wire.IPv4MinLen])
	tcp.SetHeaderLen(hl - wire.IPv4MinLen)
	tcp.SetSrcPort(e.ClientPort)
	tcp.SetDstPort(e.ListenerPort)
	tcp.SetSeq(firstByte(e))
	tcp.SetAck(e.AckClient)
	tcp.SetFlags(wire.TCPPsh | wire.TCPAck)
	tcp.SetWindow(one.window)
	if one.ts { // without it the target would take the segment for an old one (RFC 7323 section 5)
		copy(tcp[wire.TCPMinLen:], []byte{wire.OptNOP, wire.OptNOP, wire.OptTimestamps, 10})
		putBE32(tcp[wire.TCPMinLen+4:], one.tsval)
		putBE32(tcp[wire.TCPMinLen+8:], one.tsecr)
	}
	w.putHeader(b[hl:], e)
	src, dst := unmapped(e.Client), unmapped(w.view.enis[e.Endpoint.Slot].addr)
	tcp.SetChecksum(wire.Checksum(tcp, wire.PseudoSum4(src, dst, wire.ProtoTCP, uint16(len(tcp)))))
	wire.IPv4(b).Init(len(b), wire.ProtoTCP, ownTTL, src, dst)
	p := packet{buf: buf, flow: e, handle: one.handle, l4: wire.IPv4MinLen, body: uint16(hl), payload: headerLen,
		proto: wire.ProtoTCP, role: RoleEndpoint, tcpFlags: tcp.Flags()}
	p.key.ENI = e.Endpoint.Slot
	w.total.live[totalHeaders]++
	_ = w.translate(&p) && w.send(&p)
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func putBE32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
}
