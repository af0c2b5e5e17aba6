// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Besides the bits of fuzzBelong and so on, of which fuzzEarly and fuzzSpoken mean nothing here, a mode says:
const (
	fuzzThree = fuzzEarly  // three-tuple stickiness; on the way back, that three workers share the work
	fuzzTwo   = fuzzSpoken // two-tuple stickiness; on the way back, that the bytes are changes of a good packet
)

// gatewayRig is a bed that serves many fuzzed packets.
type gatewayRig struct {
	*bed
	good [][]byte // packets of living flows as appliances return them: TCP, UDP and ICMP, then TCP and UDP of IPv6
}

func newGatewayRig(f *testing.F, workers int, kind vpc.Stickiness) *gatewayRig {
	st := gatewayState()
	withStickiness(kind)(st)
	withRebalance(st)
	b := newBed(f, st, Config{Workers: workers})
	for _, id := range []string{"consumer", "provider"} { // deep enough for a super-packet of the shortest segments
		b.ports[id] = port.NewMem(port.MemConfig{Name: id, Queues: workers, Depth: 1 << 12})
	}
	b.apply(clone(st))
	b.consumer, b.provider = b.mem("consumer"), b.mem("provider")
	return &gatewayRig{bed: b}
}

// refresh has the flows of good live.
func (r *gatewayRig) refresh(t *testing.T) {
	r.TB = t
	r.step(500 * time.Millisecond)
	r.good = r.good[:0]
	for _, pkt := range [][]byte{fromHere(syn).Bytes(), datagram, pkttest.ICMPEcho(clientAddr.Addr(), serverAddr.Addr(), 1, 1, []byte("ping")),
		between(syn, client6Addr, server6Addr).Bytes(), pkttest.UDP(client6Addr, server6Addr, []byte("hello"))} {
		r.consumer.Inject(0, pkt)
		r.step(0)
		out := r.takeAll(r.provider)
		if len(out) != 1 {
			t.Fatalf("%d packets went out, drops %v", len(out), r.drops())
		}
		r.good = append(r.good, hairpin(out[0].Bytes()))
	}
}

// offloadAny gives the buffer the offload fields that the mode asks for, within the rules that every port keeps.
func offloadAny(pkt []byte, mode uint8, size uint16) *port.Buffer {
	buf := plain(pkt)
	var t wire.Tuple
	if mode&(fuzzPartial|fuzzGSO) == 0 || !t.Parse(pkt) || t.Frag.IsFragment() || int(t.End) != len(pkt) || t.Version == 6 && t.L4 != 40 {
		return buf
	}
	l4 := pkt[t.L4:]
	hdr, csum, gso := int(t.L4)+wire.UDPLen, 6, uint8(port.GSOUDP)
	switch t.Proto {
	case wire.ProtoTCP:
		tcp, ok := wire.ParseTCP(l4)
		if !ok {
			return buf
		}
		hdr, csum, gso = int(t.L4)+tcp.HeaderLen(), 16, port.GSOTCPv4
		if t.Version == 6 {
			gso = port.GSOTCPv6
		}
	case wire.ProtoUDP:
	default:
		return buf
	}
	n := len(l4)
	addrs := pkt[12:20]
	if t.Version == 6 {
		addrs = pkt[8:40]
	}
	pseudo := append(bytes.Clone(addrs), 0, t.Proto, byte(n>>8), byte(n))
	binary.BigEndian.PutUint16(buf.Bytes()[int(t.L4)+csum:], slowSum(pseudo))
	buf.Flags, buf.CsumStart, buf.CsumOffset = port.NeedsCsum, t.L4, uint16(csum)
	if size = max(size, uint16((len(pkt)-hdr)/300)); mode&fuzzGSO != 0 && size > 0 && len(pkt)-hdr > int(size) { // more segments tell nothing new
		buf.GSOType, buf.GSOSize, buf.HdrLen = gso, size, uint16(hdr)
	}
	return buf
}

// belongAny makes the packet one of a living flow as far as its bytes allow.
func belongAny(b []byte) {
	switch {
	case len(b) >= 40 && b[0]>>4 == 6:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		copy(b[8:], client6Addr.Addr().AsSlice())
		copy(b[24:], server6Addr.Addr().AsSlice())
		belongPorts(b[40:])
	case len(b) >= 20:
		b[0] = 0x45
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[12:], clientAddr.Addr().AsSlice())
		copy(b[16:], serverAddr.Addr().AsSlice())
		if b[9] == 6 || b[9] == 17 {
			belongPorts(b[20:])
		}
	}
}

func belongPorts(b []byte) {
	if len(b) >= 4 {
		binary.BigEndian.PutUint16(b, clientAddr.Port())
		binary.BigEndian.PutUint16(b[2:], serverAddr.Port())
	}
}

// FuzzToAppliance routes arbitrary packets through an endpoint.
func FuzzToAppliance(f *testing.F) {
	rigs := map[uint8]*gatewayRig{0: newGatewayRig(f, 1, vpc.FiveTuple), fuzzThree: newGatewayRig(f, 1, vpc.ThreeTuple),
		fuzzTwo: newGatewayRig(f, 1, vpc.TwoTuple), fuzzThree | fuzzTwo: newGatewayRig(f, 3, vpc.FiveTuple)}
	seedInner(f)
	f.Fuzz(func(t *testing.T, raw []byte, mode uint8, size uint16) {
		r := rigs[mode&(fuzzThree|fuzzTwo)]
		r.refresh(t)
		pkt := bytes.Clone(raw[:min(len(raw), port.MaxPacket)])
		if mode&fuzzBelong != 0 {
			belongAny(pkt)
		}
		if mode&fuzzWhole != 0 && len(pkt) > 7 && pkt[0]>>4 == 4 {
			pkt[6], pkt[7] = 0x40, 0
		}
		if mode&fuzzSums != 0 {
			complete(pkt)
		}
		buf := offloadAny(pkt, mode, size)
		in := segmented(buf)
		before := r.engine.Stats()
		r.mem("consumer").InjectBuffers(len(raw)%len(r.engine.workers), buf)
		r.step(0)
		after := r.engine.Stats()
		var out [][]byte
		for _, run := range r.takeAll(r.provider) {
			out = append(out, r.datagramsOf(run)...)
		}
		back := r.takeAll(r.consumer)
		drops := dropsBetween(&before, &after)
		resets := after.Flows.OwnResets - before.Flows.OwnResets
		if after.Drops[Unexplained] > 0 || uint64(len(back)) != resets || drops == 0 && len(out) != len(in) || drops > 0 && (drops != 1 || len(out) != 0 || resets > 1) {
			t.Fatalf("%d packets in, %d sent, %d back, %d dropped: %v", len(in), len(out), len(back), drops, r.drops())
		}
		if len(out) > 0 {
			for i := range in { // padding is cut
				if inner := out[i][innerStart:]; !bytes.HasPrefix(in[i], inner) || len(inner) < 20 {
					t.Fatalf("packet %d:\nin  % x\nout % x", i, in[i], inner)
				}
			}
		}
	})
}

func dropsBetween(before, after *Stats) (n uint64) {
	for r := range after.Drops {
		n += after.Drops[r] - before.Drops[r]
	}
	return n
}

// seedInner are the packets that fuzzing starts from.
func seedInner(f *testing.F) {
	list := [][]byte{fromHere(syn).Bytes(), bulk(3000), bulk6(3000), datagram, pkttest.UDP(client6Addr, server6Addr, []byte(long(2000))),
		pkttest.GRE(clientAddr.Addr(), serverAddr.Addr(), datagram), pkttest.ICMPEcho(client6Addr.Addr(), server6Addr.Addr(), 1, 1, []byte("ping")),
		pkttest.ICMPError(3, 1, routerAddr, clientAddr.Addr(), datagram[:28]), withIPOptions(plain(bulk(100)), 8).Bytes(),
		pkttest.Extend(bulk6(100), pkttest.Extension{Kind: 0}, pkttest.Extension{Kind: 60}), atEndpoint(syn).Bytes()}
	list = append(list, fragmentsOf(bulk(64))...)
	list = append(list, behindOptions(pkttest.UDP(client6Addr, server6Addr, []byte(long(64))))...)
	for i, pkt := range list {
		for _, mode := range []uint8{fuzzBelong | fuzzSums, fuzzPartial, fuzzGSO | fuzzPartial | fuzzBelong, 0} {
			f.Add(pkt, mode|uint8(i%4)*fuzzEarly, uint16(100+i*50))
		}
	}
}

// FuzzFromAppliance has an appliance return arbitrary packets, and good ones with changes, one at a time or many in one.
func FuzzFromAppliance(f *testing.F) {
	one, three := newGatewayRig(f, 1, vpc.FiveTuple), newGatewayRig(f, 3, vpc.FiveTuple)
	for i := range uint16(5) {
		for _, mode := range []uint8{fuzzTwo, fuzzTwo | fuzzGSO, fuzzTwo | fuzzGSO | fuzzThree, fuzzTwo | fuzzPartial, fuzzTwo | fuzzSums} {
			f.Add([]byte{0, 8, 9}, mode, i)
			f.Add([]byte{0, innerStart + 8, 63, 0, innerStart - 1, 1}, mode, i+5*3)
		}
	}
	f.Add(datagram, uint8(fuzzWhole|fuzzTwo), uint16(1))
	f.Add(pkttest.ICMPError(11, 0, routerAddr, clientAddr.Addr(), datagram), uint8(fuzzWhole|fuzzTwo), uint16(1))
	f.Add(pkttest.UDP(applianceN(0), targetAddr, []byte(long(60))), uint8(fuzzBelong|fuzzSums), uint16(0))
	f.Add(flaggedToNode(), uint8(fuzzBelong|fuzzSums), uint16(0))
	f.Fuzz(func(t *testing.T, raw []byte, mode uint8, which uint16) {
		r := one
		if mode&fuzzThree != 0 {
			r = three
		}
		r.refresh(t)
		r.giveBack(t, r.mutate(raw, mode, which), int(which)%len(r.engine.workers))
	})
}

func flaggedToNode() []byte {
	return pkttest.TCP{Src: applianceN(0), Dst: applianceN(1), Flags: "A"}.Bytes()
}

// mutate makes the packet that comes back: of the bytes, or of a good one with the inner packet replaced by them (fuzzWhole),
// or with single bytes changed, of which three say where and to what. With fuzzGSO it is a super-packet of such datagrams,
// every other one good.
func (r *gatewayRig) mutate(raw []byte, mode uint8, which uint16) *port.Buffer {
	good := r.good[int(which)%len(r.good)]
	pkt := bytes.Clone(raw[:min(len(raw), port.MaxPacket)])
	switch {
	case mode&fuzzTwo == 0:
		if mode&fuzzBelong != 0 && len(pkt) >= 20 {
			pkt[0] = 0x45
			binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
			copy(pkt[12:20], good[12:20])
			if len(pkt) >= 24 && pkt[9] == 17 {
				binary.BigEndian.PutUint16(pkt[22:], 6081)
			}
		}
		if mode&fuzzSums != 0 {
			complete(pkt)
		}
		return offloadAny(pkt, mode, which)
	case mode&fuzzWhole != 0:
		pkt = returned(hairpin(good), swapInner(pkt[:min(len(pkt), port.MaxPacket-innerStart)]))
	default:
		pkt = bytes.Clone(good)
		for ; len(raw) >= 3; raw = raw[3:] {
			if at := int(raw[0])<<8 | int(raw[1]); at < len(pkt) {
				pkt[at] = raw[2]
			}
		}
	}
	if mode&fuzzSums != 0 && len(pkt) > innerStart {
		complete(pkt[innerStart:])
	}
	if mode&fuzzGSO == 0 || len(pkt) <= geneveStart {
		return plain(pkt)
	}
	// No port hands over a super-packet whose own headers are wrong; source address and port may be any.
	pkt = returned(hairpin(append(slices.Concat(good[:12], pkt[12:16], good[16:20], pkt[20:22], good[22:geneveStart]), pkt[geneveStart:]...)))
	var list []*port.Buffer
	for i := range 2 + int(which>>8)%70 {
		d := pkt
		if i%2 == 0 && len(good) <= len(pkt) {
			d = append(bytes.Clone(good), make([]byte, len(pkt)-len(good))...)
		}
		if list = append(list, plain(d)); (i+2)*len(pkt) > 60000 {
			break
		}
	}
	for _, buf := range list { // the outer headers are one
		copy(buf.Bytes(), pkt[:geneveStart])
	}
	return joined(list)[0]
}

// giveBack delivers a packet at the node and checks that each datagram in it is either sent on or dropped, with a reason,
// and that nothing is sent on that is not of a flow.
func (r *gatewayRig) giveBack(t *testing.T, buf *port.Buffer, queue int) {
	datagrams := uint64(buf.Segments())
	before := r.engine.Stats()
	r.provider.InjectBuffers(queue, buf)
	r.step(0)
	after := r.engine.Stats()
	leaves := r.takeAll(r.consumer)
	out := segmented(leaves...)
	back := uint64(len(r.takeAll(r.provider)))
	resets := after.Flows.OwnResets - before.Flows.OwnResets
	drops := dropsBetween(&before, &after)
	if whole := drops == 1 && len(out) == 0; after.Drops[Unexplained] > 0 || back != resets || !whole && drops+uint64(len(out)) != datagrams {
		t.Fatalf("%d datagrams, %d sent, %d dropped, %d back; %v", datagrams, len(out), drops, back, r.drops())
	}
	for _, run := range leaves {
		checkMerged(t, run)
	}
	var held [][]byte
	for _, d := range segmented(buf) {
		held = append(held, d[min(innerStart, len(d)):])
	}
	for _, pkt := range withoutIDs(out) {
		if !ofLivingFlow(pkt) {
			t.Fatalf("sent on: %s\n% x", pkttest.Describe(pkt), pkt)
		}
		known := false
		for _, h := range withoutIDs(atLeast(held, 20)) {
			known = known || bytes.HasPrefix(h, pkt)
		}
		if !known {
			t.Fatalf("sent on what no appliance returned: % x", pkt)
		}
	}
}

// atLeast are those of the packets that have n bytes.
func atLeast(list [][]byte, n int) (out [][]byte) {
	for _, p := range list {
		if len(p) >= n {
			out = append(out, p)
		}
	}
	return out
}

// ofLivingFlow says whether a packet is between the ends of the flows that there are, or an error that may be about one.
func ofLivingFlow(pkt []byte) bool {
	a, b, proto, l4 := clientAddr, serverAddr, pkt[9], int(pkt[0]&0xf)*4
	src, dst := pkt[12:16], pkt[16:20]
	if pkt[0]>>4 == 6 {
		a, b, proto, l4 = client6Addr, server6Addr, pkt[6], 40
		src, dst = pkt[8:24], pkt[24:40]
	}
	fromA := bytes.Equal(src, a.Addr().AsSlice()) && bytes.Equal(dst, b.Addr().AsSlice())
	fromB := bytes.Equal(src, b.Addr().AsSlice()) && bytes.Equal(dst, a.Addr().AsSlice())
	later := pkt[0]>>4 == 4 && (pkt[6]&0x1f != 0 || pkt[7] != 0)
	switch {
	case proto == 1 || proto == 58:
		return fromA || fromB || bytes.Equal(dst, a.Addr().AsSlice()) || bytes.Equal(dst, b.Addr().AsSlice())
	case proto != 6 && proto != 17: // extension headers, or a later fragment of IPv6
		return (fromA || fromB) && pkt[0]>>4 == 6
	case later:
		return fromA || fromB
	case fromA:
		return binary.BigEndian.Uint16(pkt[l4:]) == a.Port() && binary.BigEndian.Uint16(pkt[l4+2:]) == b.Port()
	case fromB:
		return binary.BigEndian.Uint16(pkt[l4:]) == b.Port() && binary.BigEndian.Uint16(pkt[l4+2:]) == a.Port()
	}
	return false
}
