// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// What a fuzzed packet is made of besides its bytes.
const (
	fuzzBelong  = 1 << iota // give it the addresses, ports and nearby numbers of the open connection
	fuzzSums                // complete its checksums
	fuzzPartial             // leave the TCP checksum to the device
	fuzzGSO                 // make it a super-packet
	fuzzEarly               // the header goes alone
	fuzzSpoken              // the client has sent its first byte already
	fuzzWhole               // no fragment
)

// rig is a bed that serves many fuzzed packets, each with a new connection.
type rig struct {
	*bed
	node netip.AddrPort
	isn  uint32
}

func newRig(f *testing.F, early bool) *rig {
	st := newState()
	withProxy(st)
	if early {
		withEarlyProxy(st)
	}
	return &rig{bed: newBed(f, st, Config{}), isn: 0xfffffff0}
}

// renew opens a connection in place of the one before, far enough in time for its port to be free again one day.
func (r *rig) renew(t *testing.T, spoken bool) {
	r.TB = t
	r.isn += 1 << 20
	r.step(5 * time.Millisecond)
	syn := pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: r.isn, Flags: "S", Window: 64000, Options: []layers.TCPOption{pkttest.WScale(7)}}
	out, _ := r.fromClient(syn.Bytes())
	if len(out) != 1 {
		t.Fatalf("no connection; drops %v", r.drops())
	}
	r.node, _ = endsOf(pkttest.Decode(t, out[0]))
	answer := pkttest.TCP{Src: targetAddr, Dst: r.node, Seq: targetISN, Ack: r.isn + 1, Flags: "SA", Window: 65000, Options: []layers.TCPOption{pkttest.MSS(1460), pkttest.WScale(7)}}
	r.fromTarget(answer.Bytes())
	r.fromClient(pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: r.isn + 1, Ack: targetISN + 1, Flags: "A", Window: 500}.Bytes())
	if spoken {
		r.fromClient(pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: r.isn + 1, Ack: targetISN + 1, Flags: "PA", Window: 500, Payload: []byte("hello")}.Bytes())
	}
}

// belong makes the packet one from src to dst, as far as its bytes allow: IPv4 with its length, TCP or ICMP about the
// opposite direction, with numbers near those of the connection.
func (r *rig) belong(b []byte, src, dst netip.AddrPort) {
	if len(b) < 20 {
		return
	}
	ihl := int(b[0]&0xf) * 4
	if ihl < 20 || ihl > len(b) {
		ihl = 20
	}
	b[0] = 0x40 | byte(ihl/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if b[9] != 1 {
		b[9] = 6
	}
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	l4 := b[ihl:]
	if b[9] == 1 && len(l4) >= 36 {
		l4[0] = []byte{3, 11, 12, 8}[l4[0]%4]
		quoted := l4[8:]
		quoted[0], quoted[6], quoted[7], quoted[9] = 0x45, 0, 0, 6
		copy(quoted[12:], dst.Addr().AsSlice())
		copy(quoted[16:], src.Addr().AsSlice())
		binary.BigEndian.PutUint16(quoted[20:], dst.Port())
		binary.BigEndian.PutUint16(quoted[22:], src.Port())
		r.nearby(quoted[24:], r.isn)
	} else if b[9] == 6 && len(l4) >= 20 {
		binary.BigEndian.PutUint16(l4, src.Port())
		binary.BigEndian.PutUint16(l4[2:], dst.Port())
		if off := int(l4[12]>>4) * 4; off < 20 || off > len(l4) {
			l4[12] = l4[12]&0xf | 5<<4
		}
		seq, ack := r.isn, uint32(targetISN)
		if src == targetAddr {
			seq, ack = ack, seq
		}
		r.nearby(l4[4:], seq)
		r.nearby(l4[8:], ack)
	}
}

// nearby makes a number one near base, unless its highest bit is set.
func (r *rig) nearby(b []byte, base uint32) {
	if b[0] < 0x80 {
		binary.BigEndian.PutUint32(b, base+uint32(int32(int8(b[2])))+uint32(b[3])/2)
	}
}

// complete fills in the checksums of the packet, as far as it has headers for them.
func complete(b []byte) {
	l4, proto, ok := headersOf(b)
	if !ok {
		return
	}
	put := func(off int, sum uint16) { binary.BigEndian.PutUint16(b[off:], sum) }
	if proto == 1 && len(b) >= l4+28 {
		put(l4+8+10, 0)
		put(l4+8+10, ^slowSum(b[l4+8:l4+28]))
	}
	switch {
	case proto == 1 && len(b) >= l4+8:
		put(l4+2, 0)
		put(l4+2, ^slowSum(b[l4:]))
	case proto == 6 && len(b) >= l4+20:
		put(l4+16, 0)
		put(l4+16, ^tcpSum(b))
	}
	put(10, 0)
	put(10, ^slowSum(b[:l4]))
}

// headersOf is where the transport header of an IPv4 packet that is no fragment begins, and its protocol.
func headersOf(b []byte) (l4 int, proto byte, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 || int(b[0]&0xf)*4 < 20 || int(b[0]&0xf)*4 > len(b) ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return 0, 0, false
	}
	return int(b[0]&0xf) * 4, b[9], true
}

// offload gives the buffer the offload fields that the mode asks for, within the rules that every port keeps.
func offload(buf *port.Buffer, mode uint8, size uint16) {
	b := buf.Bytes()
	l4, proto, ok := headersOf(b)
	if !ok || proto != 6 || len(b) < l4+20 || mode&(fuzzPartial|fuzzGSO) == 0 {
		return
	}
	hdr := l4 + int(b[l4+12]>>4)*4
	if hdr < l4+20 || hdr > len(b) {
		return
	}
	n := len(b) - l4
	pseudo := append(append([]byte(nil), b[12:20]...), 0, 6, byte(n>>8), byte(n))
	binary.BigEndian.PutUint16(b[l4+16:], slowSum(pseudo))
	buf.Flags, buf.CsumStart, buf.CsumOffset = port.NeedsCsum, uint16(l4), 16
	if mode&fuzzGSO != 0 && size > 0 && len(b)-hdr > int(size) {
		buf.GSOType, buf.GSOSize, buf.HdrLen = port.GSOTCPv4, size, uint16(hdr)
	}
}

// right says whether all checksums of a packet are right that a receiver would look at.
func right(b []byte) bool {
	l4, proto, ok := headersOf(b)
	if !ok || slowSum(b[:l4]) != 0xffff {
		return false
	}
	switch {
	case proto == 6 && len(b) >= l4+20:
		return tcpSum(b) == 0xffff
	case proto == 1:
		return slowSum(b[l4:]) == 0xffff
	}
	return true
}

func FuzzToService(f *testing.F) {
	late, early := newRig(f, false), newRig(f, true)
	seedSegments(f)
	f.Fuzz(func(t *testing.T, raw []byte, mode uint8, size uint16) {
		r := late
		if mode&fuzzEarly != 0 {
			r = early
		}
		r.renew(t, mode&fuzzSpoken != 0)
		r.throw(raw, mode, size, clientAddr, endpointAddr)
	})
}

func FuzzFromService(f *testing.F) {
	late, early := newRig(f, false), newRig(f, true)
	seedSegments(f)
	f.Fuzz(func(t *testing.T, raw []byte, mode uint8, size uint16) {
		r := late
		if mode&fuzzEarly != 0 {
			r = early
		}
		r.renew(t, mode&fuzzSpoken != 0)
		r.throw(raw, mode, size, targetAddr, r.node)
	})
}

// throw delivers one fuzzed packet from src and checks that it is either sent or dropped, with a reason, and that what
// leaves is well-formed.
func (r *rig) throw(raw []byte, mode uint8, size uint16, src, dst netip.AddrPort) {
	pkt := append([]byte(nil), raw[:min(len(raw), port.MaxPacket)]...)
	if mode&fuzzBelong != 0 {
		r.belong(pkt, src, dst)
	}
	if mode&fuzzWhole != 0 && len(pkt) > 7 {
		pkt[6], pkt[7] = 0x40, 0
	}
	if mode&fuzzSums != 0 {
		complete(pkt)
	}
	buf := port.NewBuffer()
	buf.Set(pkt)
	offload(buf, mode, size)
	whole := port.NewMem(port.MemConfig{})
	whole.Send(0, []*port.Buffer{buf})
	in := whole.Take(0)

	before := r.engine.Stats()
	from := r.consumer
	if src == targetAddr {
		from = r.provider
	}
	from.InjectBuffers(0, buf)
	r.step(0)
	after := r.engine.Stats()
	r.conserved(&before, &after)

	l4, _, ok := headersOf(pkt)
	ok = ok && slowSum(pkt[:l4]) == 0xffff // cutting a super-packet repairs it
	for _, b := range in {
		ok = ok && right(b)
	}
	checkOffload(r.bed)
	for _, b := range append(r.provider.Take(0), r.consumer.Take(0)...) {
		if _, _, whole := headersOf(b); !whole || len(b) > EndpointMTU+100 {
			r.Fatalf("%d bytes were sent that are no packet: % x", len(b), b)
		}
		if ok && !right(b) {
			r.Fatalf("wrong checksum: %s\nin % x\nout % x", pkttest.Describe(b), pkt, b)
		}
	}
}

// conserved checks that exactly one packet more was sent or dropped, besides those that the dataplane makes itself.
func (r *rig) conserved(before, after *Stats) {
	var drops, sent uint64
	for reason := range after.Drops {
		drops += after.Drops[reason] - before.Drops[reason]
	}
	for i := range after.Ports {
		sent += after.Ports[i].TxPackets - before.Ports[i].TxPackets
	}
	resets := after.Flows.OwnResets - before.Flows.OwnResets
	headers := after.Flows.HeadersSent - before.Flows.HeadersSent
	if after.Drops[Unexplained] > 0 || drops > 1 || resets > drops || sent+drops-resets != 1 && (sent+drops-resets != 2 || headers == 0) {
		r.Fatalf("one packet in, %d sent, %d dropped, %d resets, %d headers; %v", sent, drops, resets, headers, r.drops())
	}
}

// seedSegments are the packets that fuzzing starts from.
func seedSegments(f *testing.F) {
	long := []byte(long(3000))
	for _, p := range []pkttest.TCP{
		syn, synAck, ack(firstSeq, targetISN+1), data(firstSeq, targetISN+1, "hello"), flagged("FA", firstSeq, targetISN+1),
		flagged("R", firstSeq, 0), sacking(behindSeq, behindSeq+3, behindSeq+9, firstSeq, behindSeq),
		{Flags: "AU", Urgent: 3, Payload: []byte("urgent"), Options: fortyBytes}, {Flags: "A", Payload: long}, {Flags: "S", Payload: long[:200]},
	} {
		for _, mode := range []uint8{fuzzBelong | fuzzSums, fuzzBelong | fuzzPartial | fuzzSpoken, fuzzBelong | fuzzGSO | fuzzEarly | fuzzSums, 0} {
			f.Add(atEndpoint(p).Bytes(), mode, uint16(1360))
		}
	}
	quoted := atEndpoint(data(firstSeq, targetISN+1, "hello")).Bytes()
	for _, typ := range []uint8{3, 11, 12, 8} {
		f.Add(pkttest.ICMPError(typ, 1, routerAddr, nodeAddr, quoted), uint8(fuzzBelong|fuzzSums|fuzzSpoken), uint16(0))
	}
	f.Add(pkttest.UDP(clientAddr, endpointAddr, []byte("datagram")), uint8(0), uint16(0))
	f.Add(pkttest.Fragment(quoted, 16)[1], uint8(fuzzBelong), uint16(0))
}
