// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// offloaded is a TCP or UDP packet as a kernel hands it over unsegmented, to be cut into segments of size bytes of payload;
// with size 0 one packet whose checksum is partial.
func offloaded(pkt []byte, size int) *port.Buffer {
	var t wire.Tuple
	if !t.Parse(pkt) {
		panic("no packet")
	}
	buf := port.NewBuffer()
	buf.Set(pkttest.Partial(pkt))
	buf.Flags, buf.CsumStart = port.NeedsCsum, t.L4
	hdr, gso := int(t.L4)+wire.UDPLen, uint8(port.GSOUDP)
	buf.CsumOffset = 6
	if t.Proto == wire.ProtoTCP {
		hdr, buf.CsumOffset = int(t.L4)+wire.TCP(pkt[t.L4:]).HeaderLen(), 16
		if gso = port.GSOTCPv4; t.Version == 6 {
			gso = port.GSOTCPv6
		}
	}
	if size > 0 {
		buf.GSOType, buf.GSOSize, buf.HdrLen = gso, uint16(size), uint16(hdr)
	}
	return buf
}

// plain is a packet without offload fields.
func plain(pkt []byte) *port.Buffer {
	buf := port.NewBuffer()
	buf.Set(pkt)
	return buf
}

// segmented are the packets that a device makes of buffers.
func segmented(bufs ...*port.Buffer) (out [][]byte) {
	var seg port.Segmenter
	cut := port.NewBuffer()
	for _, b := range bufs {
		seg.Start(b)
		for seg.Next(cut) {
			out = append(out, bytes.Clone(cut.Bytes()))
		}
	}
	return out
}

// datagramsOf checks that what goes to an appliance is a GENEVE datagram, or several as the kernel takes them, and returns them.
func (b *bed) datagramsOf(buf *port.Buffer) [][]byte {
	b.Helper()
	pkt := buf.Bytes()
	payload := len(pkt) - geneveStart
	want := port.Offload{}
	if buf.GSOType != port.GSONone {
		want = port.Offload{Flags: port.NeedsCsum, GSOType: port.GSOUDP, HdrLen: geneveStart, GSOSize: buf.GSOSize, CsumStart: 20, CsumOffset: 6}
	}
	if buf.Offload != want || int(wire.IPv4(pkt).TotalLen()) != len(pkt) || int(wire.UDP(pkt[20:]).Length()) != len(pkt)-20 ||
		wire.Checksum(pkt[:20], 0) != 0 || !wire.IPv4(pkt).DontFragment() {
		b.Errorf("%d bytes: % x, %+v", len(pkt), pkt[:innerStart], buf.Offload)
	}
	list := segmented(buf)
	if n := len(list); payload > 65507 || n > 64 || buf.GSOType != port.GSONone && n < 2 {
		b.Errorf("a run of %d datagrams, %d bytes", n, payload)
	}
	for _, d := range list {
		if wire.UDP(d[20:]).Checksum() != 0 && ^udpSum(d) != 0 || slowSum(d[:20]) != 0xffff {
			b.Errorf("wrong checksum outside: % x", d[:innerStart])
		}
	}
	return list
}

// udpSum is the sum of the UDP datagram in an IPv4 packet without options, and of its pseudo-header.
func udpSum(pkt []byte) uint16 {
	n := len(pkt) - 20
	return slowSum(append(append(bytes.Clone(pkt[12:20]), 0, 17, byte(n>>8), byte(n)), pkt[20:]...))
}

// toAppliances injects buffers at the first endpoint, all in one batch as far as the port lets them, and returns what
// goes to appliances, as it leaves and as datagrams.
func (b *bed) toAppliances(bufs ...*port.Buffer) (runs []*port.Buffer, datagrams [][]byte) {
	b.Helper()
	if n := b.consumer.InjectBuffers(0, bufs...); n != len(bufs) {
		b.Fatalf("the port took %d of %d packets", n, len(bufs))
	}
	b.step(0)
	runs = b.provider.TakeBuffers(0)
	for _, r := range runs {
		datagrams = append(datagrams, b.datagramsOf(r)...)
	}
	return runs, datagrams
}

// fromAppliances injects buffers that have gone to appliances as what those return, and returns what leaves by the first
// endpoint, as it leaves and as packets.
func (b *bed) fromAppliances(bufs ...*port.Buffer) (runs []*port.Buffer, packets [][]byte) {
	b.Helper()
	for _, buf := range bufs {
		pkt := buf.Bytes()
		copy(pkt, hairpin(pkt[:20]))
	}
	if n := b.provider.InjectBuffers(0, bufs...); n != len(bufs) {
		b.Fatalf("the port took %d of %d packets", n, len(bufs))
	}
	b.step(0)
	runs = b.consumer.TakeBuffers(0)
	for _, r := range runs {
		checkMerged(b, r)
	}
	return runs, segmented(runs...)
}

// checkMerged checks that a packet for the endpoint's device keeps the rules of a port.
func checkMerged(tb testing.TB, buf *port.Buffer) {
	tb.Helper()
	pkt := buf.Bytes()
	var t wire.Tuple
	if !t.Parse(pkt) || int(t.End) != len(pkt) {
		tb.Errorf("%d bytes that are no packet: % x", len(pkt), pkt[:min(len(pkt), 60)])
		return
	}
	if buf.GSOType == port.GSONone {
		if buf.Offload != (port.Offload{}) {
			tb.Errorf("%s with %+v", pkttest.Describe(pkt), buf.Offload)
		}
		return
	}
	want := offloaded(pkt, int(buf.GSOSize))
	if buf.Offload != want.Offload || buf.Segments() < 2 {
		tb.Errorf("%s with %+v, want %+v", pkttest.Describe(pkt), buf.Offload, want.Offload)
	}
	if field := int(buf.CsumStart + buf.CsumOffset); !bytes.Equal(pkt[field:field+2], want.Bytes()[field:field+2]) {
		tb.Errorf("partial checksum %x, want %x", pkt[field:field+2], want.Bytes()[field:field+2])
	}
}

// wantInner checks that datagrams hold packets, in their order.
func wantInner(tb testing.TB, datagrams, packets [][]byte) {
	tb.Helper()
	inner := make([][]byte, len(datagrams))
	for i, d := range datagrams {
		inner[i] = d[innerStart:]
	}
	wantPackets(tb, inner, packets)
}

func wantPackets(tb testing.TB, got, want [][]byte) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Errorf("%d packets, want %d", len(got), len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			tb.Fatalf("packet %d of %d:\n%s", i, len(want), pkttest.Diff(want[i], got[i]))
		}
	}
}

// bulk is a TCP segment of n bytes from the client, or the one that an IPv6 client would send.
func bulk(n int) []byte {
	return fromHere(pkttest.TCP{Seq: 1000, Ack: 7, Flags: "PA", Window: 50, TOS: 0x28, Options: timestamps, Payload: []byte(long(n))}).Bytes()
}

func bulk6(n int) []byte {
	return between(pkttest.TCP{Seq: 1000, Ack: 7, Flags: "PA", Window: 50, TOS: 0xb8, Options: timestamps, Payload: []byte(long(n))}, client6Addr, server6Addr).Bytes()
}

// batchCase is a batch of packets that endpoints carry.
type batchCase struct {
	name string
	in   func() []*port.Buffer
	runs int // that go to appliances, 0 for any number
	back int // packets, merged ones as one, that leave again, 0 for any number
}

var batchCases = []batchCase{
	{"one segment", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(100), 0)} }, 1, 1},
	{"IPv4 bulk", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(65000), 1448)} }, 2, 1},
	{"IPv4 bulk of longest segments", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(65000), 8448)} }, 2, 1},
	{"IPv6 bulk", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk6(65000), 1428)} }, 2, 1},
	{"IPv6 bulk of longest segments", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk6(65000), 8428)} }, 2, 1},
	{"as long as can be", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(65535-52), 1448)} }, 2, 1},
	{"64 segments", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(64*500), 500)} }, 1, 1},
	{"65 segments", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(64*500+1), 500)} }, 2, 2},
	{"tail of full length", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(3000), 1000), offloaded(bulk(100), 0)} }, 1, 2},
	{"tail that is shorter closes", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(3001), 1000), offloaded(bulk(1000), 0)} }, 2, 0},
	{"longer one begins anew", func() []*port.Buffer { return []*port.Buffer{offloaded(bulk(500), 0), offloaded(bulk(501), 0)} }, 2, 2},
	{"UDP", func() []*port.Buffer {
		return []*port.Buffer{offloaded(pkttest.UDP(clientAddr, serverAddr, []byte(long(20000))), 1400)}
	}, 1, 1},
	{"UDP over IPv6", func() []*port.Buffer {
		return []*port.Buffer{offloaded(pkttest.UDP(client6Addr, server6Addr, []byte(long(20000))), 1400)}
	}, 1, 1},
	{"plain UDP", func() []*port.Buffer {
		return []*port.Buffer{plain(datagram), plain(datagram), plain(datagram), offloaded(datagram, 0), plain(datagram)}
	}, 1, 1},
	{"options in the IP header", func() []*port.Buffer {
		return []*port.Buffer{withIPOptions(offloaded(bulk(5000), 1400), 8)}
	}, 1, 4},
	{"congestion window reduced", func() []*port.Buffer {
		buf := offloaded(fromHere(pkttest.TCP{Seq: 1, Flags: "CA", Payload: []byte(long(5000))}).Bytes(), 1400)
		buf.GSOType |= port.GSOECN
		return []*port.Buffer{buf}
	}, 1, 2},
	{"pure acknowledgements between", func() []*port.Buffer {
		a, b := bulk(3000), fromHere(pkttest.TCP{Seq: 4000, Ack: 9, Flags: "A"}).Bytes()
		return []*port.Buffer{offloaded(a, 1000), plain(b), plain(b), offloaded(a, 1000)}
	}, 0, 4},
	{"fragments between", func() []*port.Buffer {
		list := []*port.Buffer{plain(datagram)}
		for _, f := range pkttest.Fragment(pkttest.UDP(clientAddr, serverAddr, []byte(long(3000))), 1480) {
			list = append(list, plain(f))
		}
		return append(list, plain(datagram))
	}, 0, 5},
	{"GRE", func() []*port.Buffer {
		gre := pkttest.GRE(clientAddr.Addr(), serverAddr.Addr(), datagram)
		return []*port.Buffer{plain(gre), plain(gre), plain(gre)}
	}, 1, 3},
	{"wrong checksums stay wrong", func() []*port.Buffer {
		wrong := pkttest.UDP(clientAddr, serverAddr, []byte("hellp"))
		wrong[26] ^= 1
		return []*port.Buffer{plain(datagram), plain(wrong), plain(datagram)}
	}, 1, 3},
	{"classes of service keep their order", func() []*port.Buffer {
		var list []*port.Buffer
		for i := range 9 {
			d := pkttest.UDP(clientAddr, serverAddr, fmt.Appendf(nil, "number %d", i))
			d[1] = byte(i%2) << 5
			d[10], d[11] = 0, 0
			sum := ^slowSum(d[:20])
			d[10], d[11] = byte(sum>>8), byte(sum)
			list = append(list, plain(d))
		}
		return list
	}, 9, 9},
}

// TestBatches sends batches out and back: each packet is what it was, in its order, and travels in as few super-packets as
// it should.
func TestBatches(t *testing.T) {
	for _, c := range batchCases {
		t.Run(c.name, func(t *testing.T) {
			for _, split := range []bool{false, true} {
				b := newBed(t, gatewayState(), Config{})
				b.open()
				want := segmented(c.in()...)
				runs, datagrams := b.toAppliances(c.in()...)
				wantInner(t, datagrams, want)
				if c.runs != 0 && len(runs) != c.runs {
					t.Errorf("%d runs went to appliances, want %d", len(runs), c.runs)
				}
				if split { // as a kernel without GRO delivers them
					runs = nil
					for _, d := range datagrams {
						runs = append(runs, plain(d))
					}
				}
				back, packets := b.fromAppliances(runs...)
				wantPackets(t, withoutIDs(packets), withoutIDs(want))
				if c.back != 0 && len(back) != c.back {
					t.Errorf("%d packets came back, want %d", len(back), c.back)
				}
				if drops := b.drops(); len(drops) > 0 {
					t.Errorf("drops %v", drops)
				}
			}
		})
	}
}

// withoutIDs are packets whose identification, where DF makes it meaningless, is zero: it may count up from that of the first
// packet that they were merged with.
func withoutIDs(list [][]byte) (out [][]byte) {
	for _, p := range list {
		p = bytes.Clone(p)
		if ip := wire.IPv4(p); p[0]>>4 == 4 && ip.DontFragment() {
			ip.SetChecksum(wire.Update16(ip.Checksum(), ip.ID(), 0))
			ip.SetID(0)
		}
		out = append(out, p)
	}
	return out
}

// open begins the TCP flows of bulk and bulk6.
func (b *bed) open() {
	b.toAppliances(plain(fromHere(syn).Bytes()), plain(between(syn, client6Addr, server6Addr).Bytes()))
}

// TestInterleavedFlowsKeepTheirOrder sends many more flows at a time than a run is looked for among.
func TestInterleavedFlowsKeepTheirOrder(t *testing.T) {
	for _, flows := range []int{2, runsSearched, runsSearched + 1, 40} {
		b := newBed(t, gatewayState(), Config{})
		var in []*port.Buffer
		for i := range 200 {
			src := netip.AddrPortFrom(clientAddr.Addr(), uint16(3000+i%flows))
			in = append(in, plain(pkttest.UDP(src, serverAddr, fmt.Appendf(nil, "%05d%s", i, long(i*7%3*50)))))
		}
		runs, datagrams := b.toAppliances(in...)
		wantByFlow(t, datagrams, innerStart, in)
		if flows <= runsSearched && len(runs) > 150 {
			t.Errorf("%d flows went out in %d runs", flows, len(runs))
		}
		_, packets := b.fromAppliances(runs...)
		wantByFlow(t, packets, 0, in)
	}
}

// wantByFlow checks that each flow's packets are the same in the same order; they begin at an offset.
func wantByFlow(t *testing.T, got [][]byte, at int, want []*port.Buffer) {
	t.Helper()
	byPort := func(list [][]byte, at int) map[[2]byte][][]byte {
		m := map[[2]byte][][]byte{}
		for _, p := range list {
			key := [2]byte(p[at+20:])
			m[key] = append(m[key], p[at:])
		}
		return m
	}
	g, w := byPort(got, at), byPort(segmented(want...), 0)
	for key := range w {
		wantPackets(t, withoutIDs(g[key]), withoutIDs(w[key]))
	}
	if len(g) != len(w) {
		t.Errorf("%d flows, want %d", len(g), len(w))
	}
}

// TestForgedDatagramIsDroppedAlone forges one datagram of a super-packet that comes back.
func TestForgedDatagramIsDroppedAlone(t *testing.T) {
	for _, c := range []struct {
		at   int
		why  Reason
		name string
	}{{innerStart - 2, WrongCookie, "cookie"}, {geneveStart + 15, WrongEndpoint, "endpoint"}, {geneveStart, GeneveVersion, "version"},
		{geneveStart + 9, GeneveLayout, "layout"}, {innerStart + 21, WrongInner, "port"}, {innerStart + 3, Malformed, "length"}} {
		for nth := range 5 {
			b := newBed(t, gatewayState(), Config{})
			b.open()
			in := func() *port.Buffer { return offloaded(bulk(5000), 1000) }
			want := segmented(in())
			runs, _ := b.toAppliances(in())
			size := int(runs[0].GSOSize)
			runs[0].Bytes()[nth*size+c.at] ^= 0x40
			_, packets := b.fromAppliances(runs...)
			wantPackets(t, packets, append(want[:nth:nth], want[nth+1:]...))
			if b.dropped(c.why) != 1 || len(b.drops()) != 1 {
				t.Errorf("%s of datagram %d: drops %v", c.name, nth, b.drops())
			}
		}
	}
}

// TestMeansSufficeForTinySegments sends as many and as short segments at a time as there can be.
func TestMeansSufficeForTinySegments(t *testing.T) {
	for _, c := range []struct{ packets, segments, size int }{{64, 128, 48}, {64, 128, 8}, {1, 8185, 8}, {4, 65483, 1}} {
		st := gatewayState()
		b := newBed(t, st, Config{})
		b.ports["provider"] = port.NewMem(port.MemConfig{Name: "provider", Depth: 1 << 13})
		b.ports["consumer"] = port.NewMem(port.MemConfig{Name: "consumer", Depth: 1 << 13})
		b.apply(clone(st))
		b.consumer, b.provider = b.mem("consumer"), b.mem("provider")
		b.open()
		var in []*port.Buffer
		for range c.packets {
			in = append(in, offloaded(bulk(c.segments*c.size), c.size))
		}
		sent := 0
		b.consumer.InjectBuffers(0, in...)
		b.step(0)
		runs := b.provider.TakeBuffers(0)
		for _, r := range runs {
			sent += r.Segments()
		}
		if sent != c.packets*c.segments || len(b.drops()) > 0 {
			t.Fatalf("%+v: %d datagrams in %d runs, drops %v", c, sent, len(runs), b.drops())
		}
		wantInner(t, segmented(runs[len(runs)-1]), segmented(in[0])[c.segments-runs[len(runs)-1].Segments():])
		_, packets := b.fromAppliances(runs...)
		if len(packets) != sent || len(b.drops()) > 0 {
			t.Errorf("%+v: %d of %d segments came back, drops %v", c, len(packets), sent, b.drops())
		}
	}
}
