// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// gatewayTwin is the rules of inspected flows written down a second time, with a map and without any haste: which packets
// are one flow, which appliance it goes to, what moves it and what ends it, and what may come back.
type gatewayTwin struct {
	*bed
	r, queues *rand.Rand // what happens; and where the kernel delivers it, which must not matter
	log       []string
	trace     []string // what became of each packet

	kind       vpc.Stickiness
	rebalance  bool
	resetIdle  bool
	resetSick  bool
	resetGone  bool
	crossZone  bool
	endpoints  []twinEndpoint
	appliances []twinAppliance
	flows      map[string]*inspectedFlow
	flying     []tunnelled // packets that appliances hold
	headers    []tunnelled // what they have seen, to return under old headers
	counts     map[string]int
	datagrams  uint16 // fragmented so far
}

// twinEndpoint is a GWLB endpoint; its generation is 0 while it is removed.
type twinEndpoint struct {
	id, vpc, zone, port string
	addr                netip.Addr
	gen, last           int
	number              uint64
}

type twinAppliance struct {
	zone                           string
	inState, draining, ended, sick bool
	left                           int // how often it has left the state
}

// inspectedFlow is a flow. Directions are 0 for the lower end's packets, 1 for the other's.
type inspectedFlow struct {
	target, previous int // appliances; -1 for none
	previousLeft     int // how often that one had left the state when the flow moved away
	cookie           uint32
	source           [2]byte // outer port
	seen             time.Duration
	idle             time.Duration
	isn              [2]uint32
	ends             [2]endRef
	ended            bool
}

// endRef is an endpoint as a flow knows it.
type endRef struct {
	endpoint, gen int
	set           bool
}

// tunnelled is a packet that an appliance has got.
type tunnelled struct {
	pkt       []byte
	inner     []byte
	key       string
	direction int
	appliance int
	later     bool // a fragment without ports
}

const twinZone2Endpoint = "vpce-0bbbbbbbbbbbbbbbb"

// newGatewayTwin has two endpoints in a zone, one in another, and one of another VPC with the same addresses.
func newGatewayTwin(t *testing.T, seed uint64, workers int) *gatewayTwin {
	w := &gatewayTwin{r: rand.New(rand.NewPCG(seed, 11)), queues: rand.New(rand.NewPCG(seed, uint64(workers))), flows: map[string]*inspectedFlow{}, counts: map[string]int{}}
	w.kind = vpc.Stickiness(w.r.IntN(3))
	w.crossZone = w.r.IntN(2) == 0
	if w.rebalance = w.r.IntN(2) == 0; w.kind == vpc.FiveTuple {
		w.resetIdle = w.r.IntN(2) == 0
		w.resetSick = !w.rebalance && w.r.IntN(2) == 0
		w.resetGone = !w.rebalance && w.r.IntN(2) == 0
	}
	w.endpoints = []twinEndpoint{
		{id: endpointID, vpc: "vpc-c", zone: zone, port: "consumer", addr: endpointAddr.Addr(), number: gwlbNumber},
		{id: edgeID, vpc: "vpc-c", zone: zone, port: "edge", addr: edgeAddr, number: edgeNumber},
		{id: twinZone2Endpoint, vpc: "vpc-c", zone: zone2, port: "zone-2", addr: netip.MustParseAddr("10.0.2.8"), number: 0xbbbbbbbbbbbbbbbb},
		{id: strangerID, vpc: "vpc-s", zone: zone, port: "stranger", addr: endpointAddr.Addr(), number: 0xaaaaaaaaaaaaaaaa},
	}
	for i := range w.endpoints {
		w.endpoints[i].gen, w.endpoints[i].last = 1, 1
	}
	for i := range 5 {
		w.appliances = append(w.appliances, twinAppliance{zone: []string{zone, zone2}[i%2], inState: true})
	}
	st := gatewayState()
	withEdge(st)
	withStranger(st)
	st.Ports = append(st.Ports, vpc.Port{ID: "zone-2", VPC: "vpc-c", Kind: vpc.TUN, Netns: "/c", Device: "c2"})
	lb := &st.LoadBalancers[0]
	lb.CrossZone, lb.Listeners[0].ResetOnIdle = w.crossZone, w.resetIdle
	lb.Nodes = append(lb.Nodes, vpc.ENI{Address: netip.MustParseAddr("10.0.1.11"), Zone: zone2, Ports: []string{"provider"}})
	g := &st.TargetGroups[0]
	g.Stickiness, g.Rebalance, g.ResetOnUnhealthy, g.ResetOnDeregistration = w.kind, w.rebalance, w.resetSick, w.resetGone
	w.bed = newBed(t, st, Config{Workers: workers})
	w.publish()
	return w
}

// publish makes the world the engine's state.
func (w *gatewayTwin) publish() {
	st := clone(w.state)
	st.Endpoints = nil
	for _, e := range w.endpoints {
		if e.gen != 0 {
			st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: e.id, Type: vpc.GatewayLoadBalancer, Service: serviceID, VPC: e.vpc,
				ENIs: []vpc.ENI{{Address: e.addr, Zone: e.zone, Ports: []string{e.port}}}})
		}
	}
	st.TargetGroups[0].Targets = nil
	sick := map[TargetID]Health{}
	var ended []TargetID
	for i, a := range w.appliances {
		if a.inState {
			st.TargetGroups[0].Targets = append(st.TargetGroups[0].Targets,
				vpc.Target{Address: applianceN(i).Addr(), Port: 6081, Zone: a.zone, Draining: a.draining})
		}
		if a.sick {
			sick[fw(i)] = Unhealthy
		}
		if a.ended {
			ended = append(ended, fw(i))
		}
	}
	w.apply(st)
	if err := w.engine.SetHealth(sick); err != nil {
		w.Fatal(err)
	}
	if err := w.engine.EndDraining(ended); err != nil {
		w.Fatal(err)
	}
}

// changeView changes appliances or endpoints.
func (w *gatewayTwin) changeView() {
	if w.r.IntN(4) == 0 {
		e := &w.endpoints[w.r.IntN(len(w.endpoints))]
		if e.gen != 0 {
			e.gen = 0
		} else {
			e.last++
			e.gen = e.last
		}
	} else {
		a := &w.appliances[w.r.IntN(len(w.appliances))]
		switch w.r.IntN(5) {
		case 0:
			if a.inState = !a.inState; !a.inState {
				a.left++
			}
		case 1:
			a.draining = !a.draining
		case 2, 3:
			a.sick = !a.sick
		case 4:
			a.ended = true
		}
		a.ended = a.ended && (a.draining || !a.inState)
	}
	w.note("view: endpoints %v, appliances %v", w.endpoints, w.appliances)
	w.publish()
}

func (w *gatewayTwin) note(format string, v ...any) {
	w.log = append(w.log, fmt.Sprintf("\n%v: ", w.now)+fmt.Sprintf(format, v...))
}

// TestInspectionFollowsTheRules lets random things happen and compares what becomes of every packet, with one worker and
// with three, whatever queue the packets come on.
func TestInspectionFollowsTheRules(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(90) {
		var traces [][]string
		for _, workers := range []int{1, 3} {
			w := newGatewayTwin(t, seed, workers)
			for range 300 {
				w.anything()
				if t.Failed() {
					t.Fatalf("seed %d, %d workers, step %d: %s", seed, workers, len(w.log), w.log[max(0, len(w.log)-25):])
				}
			}
			w.compareGauges()
			traces = append(traces, w.trace)
			for what, n := range w.counts {
				total[what] += n
			}
		}
		if !slices.Equal(traces[0], traces[1]) {
			t.Fatalf("seed %d: one worker and three do not agree", seed)
		}
	}
	t.Logf("%v", total)
	for _, what := range []string{"begun", "moved", "reopened", "expired", "reset", "silent", "returned", "refused", "previous", "no target", "fragments", "other header"} {
		if total[what] < 20 {
			t.Errorf("only %d times %s: the test is too tame", total[what], what)
		}
	}
}

// anything lets something happen.
func (w *gatewayTwin) anything() {
	switch n := w.r.IntN(100); {
	case n < 55:
		w.step(time.Millisecond)
		w.sendPacket()
	case n < 60:
		w.sendFragments()
	case n < 84:
		w.returnPacket()
	case n < 93:
		w.sleep([]time.Duration{1, 5, 30, 60, 119, 120, 200, 349}[w.r.IntN(8)] * time.Second)
	default:
		w.changeView()
	}
}

func (w *gatewayTwin) sleep(d time.Duration) {
	w.note("%v pass", d)
	for ; d > 0; d -= min(d, 10*time.Second) {
		w.step(min(d, 10*time.Second))
	}
}

// anyEnds are two ends of a flow: few, so that flows meet.
func (w *gatewayTwin) anyEnds() (src, dst netip.AddrPort) {
	here, there := clientAddr.Addr(), serverAddr.Addr()
	if w.r.IntN(4) == 0 {
		here, there = client6Addr.Addr(), server6Addr.Addr()
	}
	src = netip.AddrPortFrom(here, uint16(1000+w.r.IntN(2)))
	dst = netip.AddrPortFrom(there, uint16(80+w.r.IntN(2)))
	if w.r.IntN(2) == 0 {
		return dst, src
	}
	return src, dst
}

// sendPacket routes a packet through an endpoint.
func (w *gatewayTwin) sendPacket() {
	src, dst := w.anyEnds()
	p := passage{endpoint: w.r.IntN(len(w.endpoints)), src: src, dst: dst, proto: []int{6, 6, 6, 17, 1}[w.r.IntN(5)]}
	switch p.proto {
	case 6:
		p.flags = []string{"S", "S", "SA", "A", "A", "A", "FA", "R"}[w.r.IntN(8)]
		p.seq = uint32(1 + w.r.IntN(2))
		p.inner = pkttest.TCP{Src: src, Dst: dst, Seq: p.seq, Flags: p.flags, Payload: []byte("tcp")}.Bytes()
	case 17:
		p.inner = pkttest.UDP(src, dst, []byte("udp"))
	case 1:
		p.inner = pkttest.ICMPEcho(src.Addr(), dst.Addr(), 1, 1, []byte("ping"))
	}
	w.note("%s by %s", pkttest.Describe(p.inner), w.endpoints[p.endpoint].port)
	w.carry(&p)
}

// sendFragments routes a fragmented datagram, each fragment on some queue, and sometimes without its first.
func (w *gatewayTwin) sendFragments() {
	src, dst := w.anyEnds()
	w.datagrams++
	p := passage{endpoint: w.r.IntN(len(w.endpoints)), src: src, dst: dst, proto: 17, fragment: true}
	whole := pkttest.UDP(src, dst, []byte(long(80)))
	var list [][]byte
	if src.Addr().Is6() {
		list = pkttest.Fragment6(whole, 32, uint32(w.datagrams))
	} else {
		whole[4], whole[5] = byte(w.datagrams>>8), byte(w.datagrams)
		list = pkttest.Fragment(whole, 32)
	}
	first := w.r.IntN(3) > 0
	needed := w.kind == vpc.FiveTuple || w.kind == vpc.ThreeTuple && src.Addr().Is6()
	for i, f := range list {
		if i == 0 && !first {
			continue
		}
		p.inner, p.later, p.orphan = f, i > 0, i > 0 && needed && !first
		w.note("%s by %s", pkttest.Describe(f), w.endpoints[p.endpoint].port)
		w.counts["fragments"]++
		w.carry(&p)
	}
}

// deliver puts a packet on some queue of a port and returns what was sent, by port.
func (w *gatewayTwin) deliver(id string, pkt []byte) map[string][][]byte {
	w.mem(id).Inject(w.queues.IntN(len(w.engine.workers)), pkt)
	w.step(0)
	out := map[string][][]byte{}
	for id, p := range w.ports {
		for q := range p.Queues() {
			for _, buf := range p.(*port.Mem).TakeBuffers(q) {
				out[id] = append(out[id], segmented(buf)...)
			}
		}
	}
	return out
}

// compareGauges compares the number of flows, those aside that have ended without anybody noticing.
func (w *gatewayTwin) compareGauges() {
	w.sleep(30 * time.Second)
	live := uint64(0)
	for _, f := range w.flows {
		if !w.lapsed(f) && !w.deserted(f) {
			live++
		}
	}
	s := w.engine.Stats()
	at := uint64(0)
	for _, t := range s.Targets {
		at += t.ActiveFlows
	}
	if s.Flows.Active != live || at != live {
		w.Errorf("%d flows, %d at targets, want %d", s.Flows.Active, at, live)
	}
}
