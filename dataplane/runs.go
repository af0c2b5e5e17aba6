// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// A run is a super-packet in the making on a vector: datagrams, or segments, that could be cut from one packet, in the
// order in which they came. It is begun by its first member, in whose place on the vector it stands, and closed by one
// that must be its last. Nothing waits for a run: transmit sends it at the end of the batch.
//
// Members of one stream keep their order: one that cannot join its stream's run begins a new one, behind it.
type run struct {
	head  *port.Buffer
	key   runKey
	tos   uint8 // outer: of all members
	size  int   // payload bytes of every member but the last
	bytes int   // payload bytes of all
	count int
	hdr   int // bytes of headers in front of the first payload
	last  bool
	seq   uint32 // TCP: number that the next member must have
	flags uint8  // TCP: PSH and FIN of the last member
}

// runKey tells the streams of a vector apart.
type runKey struct {
	port   uint16
	kind   runKind
	stream uint32 // outer: target and source port; inner: handle of the flow
	sub    uint32 // outer: node; inner: ports
}

type runKind uint8

const (
	outerRun runKind = iota + 1 // GENEVE datagrams to one appliance
	innerTCP                    // segments of one direction of a flow
	innerUDP
)

const (
	runsSearched = 8     // newest runs that a member looks through for its own
	runsMost     = 512   // runs on the vectors of a batch
	outerMost    = 65507 // payload bytes of a UDP super-packet
	membersMost  = 64    // members of a run: what every kernel that knows UDP segmentation accepts

	// headersMost is how long the headers of a member are at most: GENEVE, and the longest IPv4 and TCP headers.
	headersMost = wire.GeneveAWSLen + 60 + 60
)

// openRun is the newest run of a stream that is still open, or nil.
func (w *worker) openRun(key *runKey) *run {
	for i := len(w.runs) - 1; i >= max(0, len(w.runs)-runsSearched); i-- {
		if r := &w.runs[i]; r.key == *key {
			if r.last {
				return nil
			}
			return r
		}
	}
	return nil
}

// beginRun puts head on its vector as the first member of a run.
func (w *worker) beginRun(r run) {
	w.enqueue(r.key.port, r.head)
	w.runs = append(w.runs, r)
}

// makeRoom sees to it that the means of the batch suffice for one more member, or one packet of the worker's own, so that
// spare is not nil, by sending what there is. It is called between two members only: transmit takes all borrowed memory
// back. So a super-packet may have as many segments as it likes.
func (w *worker) makeRoom() {
	if len(w.runs) == runsMost || w.spares == spareSize || w.arena.used+headersMost > arenaSize {
		w.transmit()
	}
}

// finishRuns writes the headers of all runs as their lengths have become.
func (w *worker) finishRuns() {
	for i := range w.runs {
		w.runs[i].finish()
	}
	w.runs = w.runs[:0]
}

func (r *run) finish() {
	if r.count == 1 && r.key.kind != outerRun {
		return // the packet is as it came
	}
	b := r.head.Bytes()
	total := r.hdr + r.bytes
	l4 := r.l4()
	pseudo := setLength(b, l4, total)
	switch {
	case r.key.kind == innerTCP:
		tcp := wire.TCP(b[l4:])
		tcp.SetFlags(tcp.Flags() | r.flags)
		tcp.SetChecksum(wire.Fold(pseudo))
		r.super(l4, 16, tcpType(b))
	case r.count > 1:
		udp := wire.UDP(b[l4:])
		udp.SetLength(uint16(total - l4))
		udp.SetChecksum(wire.Fold(pseudo))
		r.super(l4, 6, port.GSOUDP)
	default: // one GENEVE datagram: its checksum may be zero, and IPv4's is set
		udp := wire.UDP(b[l4:])
		udp.SetLength(uint16(total - l4))
		udp.SetChecksum(0)
	}
}

// l4 is the offset of the transport header, which has no options or extension headers before it.
func (r *run) l4() int {
	if r.head.Bytes()[0]>>4 == 6 {
		return wire.IPv6Len
	}
	return wire.IPv4MinLen
}

// super marks the head as a super-packet.
func (r *run) super(l4, csum int, gso uint8) {
	r.head.Offload = port.Offload{Flags: port.NeedsCsum, GSOType: gso, HdrLen: uint16(r.hdr), GSOSize: uint16(r.size),
		CsumStart: uint16(l4), CsumOffset: uint16(csum)}
}

func tcpType(b []byte) uint8 {
	if b[0]>>4 == 6 {
		return port.GSOTCPv6
	}
	return port.GSOTCPv4
}

// setLength makes the IP header in b one of a packet of total bytes, and returns the sum of its pseudo-header for a
// transport header at l4.
func setLength(b []byte, l4, total int) uint32 {
	proto := uint8(wire.ProtoUDP)
	if b[0]>>4 == 6 {
		ip := wire.IPv6(b)
		proto = ip.NextHeader()
		ip.SetPayloadLen(total - wire.IPv6Len)
		return wire.PseudoSum6(ip.Src(), ip.Dst(), proto, uint32(total-l4))
	}
	ip := wire.IPv4(b)
	proto = ip.Protocol()
	ip.SetTotalLen(total)
	ip.SetChecksum(ip.CalcChecksum())
	return wire.PseudoSum4(ip.Src(), ip.Dst(), proto, uint16(total-l4))
}

// add appends a member of size payload bytes, whose parts are borrowed until the vectors are transmitted.
func (r *run) add(size int, parts ...[]byte) {
	for _, part := range parts {
		if len(part) > 0 {
			r.head.AddTail(part)
		}
	}
	r.bytes += size
	r.count++
	r.last = size < r.size || r.count == membersMost
}

// takes says whether a member of size payload bytes may join: none is longer than the first, and the whole stays a packet.
func (r *run) takes(size, most int) bool {
	return size <= r.size && r.bytes+size <= most
}

// arena is memory for headers that go between the payloads of a batch.
type arena struct {
	mem  []byte
	used int
}

// arenaSize holds the headers of a batch of super-packets whose segments are of a usual length.
const arenaSize = 512 << 10

// take lends n bytes until reset; nil means that there is no room.
func (a *arena) take(n int) []byte {
	if a.used+n > len(a.mem) {
		return nil
	}
	b := a.mem[a.used : a.used+n : a.used+n]
	a.used += n
	return b
}

func (a *arena) reset() { a.used = 0 }
