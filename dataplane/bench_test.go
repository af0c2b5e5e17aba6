// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// replayBed is a bed with established flows whose ports replay data segments of them for ever: out from the consumer's
// side, or in from the provider's.
func replayBed(tb testing.TB, flows, size int, proxy, inward bool) *bed {
	st := newState()
	st.TargetGroups[0].ProxyProtocol.Enabled = proxy
	b := newBed(tb, st, Config{MaxFlows: max(flows, 1<<10)})
	var out, in []*port.Buffer
	payload := make([]byte, size-40)
	for i := range flows {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 4, byte(i >> 14)}), uint16(1024+i&0x3fff))
		isn := uint32(i) * 77
		node := b.connect(client, isn, 8960)
		first := pkttest.TCP{Src: client, Dst: endpointAddr, Seq: isn + 1, Ack: 9001, Flags: "PA", Window: 500, Payload: []byte("GET")}
		b.fromClient(first.Bytes())
		out = append(out, partial(pkttest.TCP{Src: client, Dst: endpointAddr, Seq: isn + 4, Ack: 9001, Flags: "PA", Window: 500, Payload: payload}))
		in = append(in, partial(pkttest.TCP{Src: targetAddr, Dst: node, Seq: 9001, Ack: isn + 104, Flags: "PA", Window: 500, Payload: payload}))
	}
	if inward {
		out = nil
	} else {
		in = nil
	}
	b.ports = map[string]port.Port{
		"consumer": port.NewMem(port.MemConfig{Name: "consumer", Discard: true, Replay: out}),
		"provider": port.NewMem(port.MemConfig{Name: "provider", Discard: true, Replay: in}),
	}
	b.apply(st)
	return b
}

// partial is a packet as a kernel with checksum offload hands it over.
func partial(p pkttest.TCP) *port.Buffer {
	buf := port.NewBuffer()
	buf.Set(pkttest.Partial(p.Bytes()))
	buf.Offload = port.Offload{Flags: port.NeedsCsum, CsumStart: 20, CsumOffset: 16}
	return buf
}

func BenchmarkRoute(b *testing.B) {
	for _, c := range []struct {
		name          string
		flows         int
		proxy, inward bool
	}{
		{"toService/flows=1", 1, false, false},
		{"toService/flows=10000", 10000, false, false},
		{"toService/proxy/flows=1", 1, true, false},
		{"fromService/flows=1", 1, false, true},
		{"fromService/proxy/flows=1", 1, true, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			bed := replayBed(b, c.flows, 64, c.proxy, c.inward)
			w := bed.engine.workers[0]
			ready := []uint32{0, 1}
			b.ReportAllocs()
			b.ResetTimer()
			start := w.total.live[totalPackets]
			for w.total.live[totalPackets]-start < uint64(b.N) {
				w.turn(bed.now, ready)
				w.publish()
			}
		})
	}
}

// TestExceptionsAllocateNothing replays what does not just pass: a segment that is answered with RST, a first segment
// that is split, and one that is cut.
func TestExceptionsAllocateNothing(t *testing.T) {
	st := newState()
	withProxy(st)
	b := newBed(t, st, Config{})
	b.connect(clientAddr, clientISN, 8960)
	unknown := atEndpoint(data(1, 2, "hello"))
	unknown.Src = manyClient(1)
	replay := []*port.Buffer{
		full(unknown),
		super(pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(65400))}, 8360),
		full(pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(8460))}),
	}
	b.ports = map[string]port.Port{
		"consumer": port.NewMem(port.MemConfig{Name: "consumer", Discard: true, Replay: replay}),
		"provider": port.NewMem(port.MemConfig{Name: "provider", Discard: true}),
	}
	b.applyPorts(st)
	w := b.engine.workers[0]
	ready := []uint32{0, 1}
	if n := testing.AllocsPerRun(100, func() { w.turn(b.now, ready); w.publish() }); n != 0 {
		t.Errorf("%v allocations a turn, want none", n)
	}
	if f := b.engine.Stats().Flows; f.OwnResets < 100 || f.HeadersSent < 200 {
		t.Fatalf("flows %+v", f)
	}
}

func TestRoutesAllocateNothing(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		for _, inward := range []bool{false, true} {
			bed := replayBed(t, 8, 500, proxy, inward)
			w := bed.engine.workers[0]
			ready := []uint32{0, 1}
			before := w.total.live[totalPackets]
			if n := testing.AllocsPerRun(100, func() { w.turn(bed.now, ready); w.publish() }); n != 0 {
				t.Errorf("proxy %v, inward %v: %v allocations a turn, want none", proxy, inward, n)
			}
			if w.total.live[totalPackets]-before < 100 {
				t.Fatal("no packets carried")
			}
			if drops := bed.drops(); len(drops) > 0 {
				t.Fatalf("drops %v", drops)
			}
		}
	}
}
