// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// load is what a benchmark replays: packets of each of some flows that endpoints carry.
type load struct {
	name  string
	flows int
	make  func(client netip.AddrPort) *port.Buffer
	// plain has the appliances' packets delivered one by one, as by a kernel without GRO.
	plain bool
}

func smallUDP(client netip.AddrPort) *port.Buffer {
	return plain(pkttest.UDP(client, serverAddr, make([]byte, 64-28)))
}

func bulkTCP(size int) func(netip.AddrPort) *port.Buffer {
	return func(client netip.AddrPort) *port.Buffer {
		p := pkttest.TCP{Src: client, Dst: serverAddr, Seq: 1, Ack: 1, Flags: "A", Window: 500, Options: timestamps, Payload: make([]byte, 65000)}
		return offloaded(p.Bytes(), size)
	}
}

var loads = []load{
	{"udp-64/flows=1", 1, smallUDP, false},
	{"udp-64/flows=64", 64, smallUDP, false},
	{"udp-64/flows=10000", 10000, smallUDP, false},
	{"udp-64/one-by-one/flows=1", 1, smallUDP, true},
	{"tcp-bulk-8448/flows=1", 1, bulkTCP(8448), false},
	{"tcp-bulk-1448/flows=1", 1, bulkTCP(1448), false},
	{"tcp-bulk-1448/one-by-one/flows=1", 1, bulkTCP(1448), true},
}

// loadBed is a bed whose ports replay the load for ever: from the endpoint's side, or from the appliances'.
func loadBed(tb testing.TB, l *load, inward bool, workers int) *bed {
	tb.Helper()
	st := gatewayState()
	b := newBed(tb, st, Config{Workers: workers, MaxFlows: max(2*l.flows, 1<<10) * workers})
	var out, in []*port.Buffer
	for i := range l.flows {
		client := manyClient(i)
		b.consumer.Inject(0, fromHere(pkttest.TCP{Src: client, Flags: "S"}).Bytes())
		b.step(0)
		b.takeAll(b.provider)
		out = append(out, l.make(client))
		b.consumer.InjectBuffers(0, out[i])
		b.step(0)
		for _, run := range b.takeAll(b.provider) {
			pkt := run.Bytes()
			copy(pkt, hairpin(pkt[:20]))
			if !l.plain {
				in = append(in, run)
				continue
			}
			for _, d := range segmented(run) {
				in = append(in, plain(d))
			}
		}
	}
	if inward {
		out = nil
	} else {
		in = nil
	}
	b.ports = map[string]port.Port{
		"consumer": port.NewMem(port.MemConfig{Name: "consumer", Queues: workers, Discard: true, Replay: out}),
		"provider": port.NewMem(port.MemConfig{Name: "provider", Queues: workers, Discard: true, Replay: in}),
	}
	b.apply(clone(st))
	return b
}

func BenchmarkGatewayRoute(b *testing.B) {
	for i := range loads {
		l := &loads[i]
		for _, inward := range []bool{false, true} {
			way := "/toAppliance"
			if inward {
				way = "/fromAppliance"
			}
			b.Run(l.name+way, func(b *testing.B) {
				bed := loadBed(b, l, inward, 1)
				w := bed.engine.workers[0]
				ready := []uint32{0, 1}
				from := bed.ports["consumer"]
				if inward {
					from = bed.ports["provider"]
				}
				b.ReportAllocs()
				b.ResetTimer()
				start := from.Stats()
				packets := w.total.live[totalPackets]
				for w.total.live[totalPackets]-packets < uint64(b.N) {
					w.turn(bed.now, ready)
					w.publish()
				}
				b.SetBytes(int64((from.Stats().RxBytes - start.RxBytes) / uint64(b.N)))
				if drops := bed.drops(); len(drops) > 0 {
					b.Fatalf("drops %v", drops)
				}
			})
		}
	}
}

// TestGatewayExceptionsAllocateNothing replays what does not just pass: segments that are answered with RST, flows that
// begin and end, fragments, and forged and other packets from an appliance.
func TestGatewayExceptionsAllocateNothing(t *testing.T) {
	st := gatewayState()
	withResetOnIdle(st)
	b := newBed(t, st, Config{})
	b.consumer.Inject(0, datagram)
	b.step(0)
	good := hairpin(b.provider.Take(0)[0])
	var out, in []*port.Buffer
	for _, pkt := range append(fragmentsOf(pkttest.UDP(clientAddr, serverAddr, []byte(long(100)))),
		fromHere(ack(1, 2)).Bytes(), between(ack(1, 2), client6Addr, server6Addr).Bytes(),
		between(syn, client6Addr, server6Addr).Bytes(), between(pkttest.TCP{Seq: 5, Flags: "S"}, client6Addr, server6Addr).Bytes()) {
		out = append(out, plain(pkt))
	}
	for _, pkt := range [][]byte{good, returned(hairpin(good), cookieTo(1)), returned(hairpin(good), endpointTo(1)), returned(hairpin(good), cutTo(50)),
		returned(hairpin(good), swapInner(pkttest.ICMPError(3, 1, routerAddr, clientAddr.Addr(), datagram[:28])))} {
		in = append(in, plain(pkt))
	}
	b.ports = map[string]port.Port{
		"consumer": port.NewMem(port.MemConfig{Name: "consumer", Discard: true, Replay: out}),
		"provider": port.NewMem(port.MemConfig{Name: "provider", Discard: true, Replay: in}),
	}
	b.apply(clone(st))
	w := b.engine.workers[0]
	ready := []uint32{0, 1}
	turn := func() {
		b.now += 500 * time.Millisecond
		w.turn(b.now, ready)
		w.publish()
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations a turn, want none", n)
	}
	for _, r := range []Reason{NotInspected, WrongCookie, WrongEndpoint, GeneveTruncated} {
		if b.dropped(r) < 100 {
			t.Errorf("drops %v", b.drops())
		}
	}
}

func TestGatewayRoutesAllocateNothing(t *testing.T) {
	for i := range loads {
		l := loads[i]
		l.flows = min(l.flows, 100)
		for _, inward := range []bool{false, true} {
			for _, workers := range []int{1, 2} {
				bed := loadBed(t, &l, inward, workers)
				ready := []uint32{0, 1}
				turn := func() {
					for _, w := range bed.engine.workers {
						w.turn(bed.now, ready)
						w.publish()
					}
				}
				for range 200 { // counters, vectors and tails grow to their size
					turn()
				}
				before := bed.engine.Stats().Workers[0].Packets
				if n := testing.AllocsPerRun(50, turn); n != 0 {
					t.Errorf("%s, inward %v, %d workers: %v allocations a turn, want none", l.name, inward, workers, n)
				}
				if bed.engine.Stats().Workers[0].Packets-before < 50 {
					t.Fatal("no packets carried")
				}
				drops := bed.drops()
				delete(drops, InboxFull.String()) // with more workers all else are strays
				if len(drops) > 0 {
					t.Errorf("%s: drops %v", l.name, drops)
				}
			}
		}
	}
}
