// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// twin is the rules of connections written down a second time, with maps and without any haste: who may open one, how
// long each state lasts, what ends it, and which ports are free.
type twin struct {
	*bed
	r     *rand.Rand
	log   []string
	flows map[netip.AddrPort]*twinFlow // by client
	rests map[twinPort]time.Duration   // ports by when their connection closed at the earliest

	endpoint           int // generation of the endpoint, 0 while there is none
	generations        int
	inState            map[int]bool // targets by number
	draining           map[int]bool
	ended, unhealthy   map[int]bool
	opened, exhausted  int
	refused, forwarded int
}

type twinPort struct {
	target int
	port   uint16
}

type twinFlow struct {
	client     netip.AddrPort
	isn        uint32
	target     int
	port       uint16
	endpoint   int
	state      flow.State
	seen       time.Duration
	synAck     bool
	finC, finT bool
	dead       bool // the dataplane has answered a packet of it with RST
}

const (
	twinTargets = 3
	twinClients = 6
	twinPorts   = 6 // NAT ports of each target that are left
)

// TestConnectionsFollowTheRules lets random things happen and compares what becomes of every packet.
func TestConnectionsFollowTheRules(t *testing.T) {
	var opened, exhausted, refused, forwarded int
	for seed := range uint64(60) {
		w := newTwin(t, seed)
		for range 400 {
			w.anything()
			if t.Failed() {
				t.Fatalf("seed %d, step %d: %s", seed, len(w.log), w.log[max(0, len(w.log)-30):])
			}
		}
		w.compareFlows()
		opened, exhausted, refused, forwarded = opened+w.opened, exhausted+w.exhausted, refused+w.refused, forwarded+w.forwarded
	}
	t.Logf("%d connections opened, %d times no port, %d segments refused, %d forwarded", opened, exhausted, refused, forwarded)
	if opened == 0 || exhausted == 0 || refused == 0 || forwarded == 0 {
		t.Error("the test is too tame")
	}
}

func newTwin(t *testing.T, seed uint64) *twin {
	st := newState()
	withTargets(twinTargets)(st)
	w := &twin{bed: newBed(t, st, Config{MaxFlows: 64}), r: rand.New(rand.NewPCG(seed, 7)), flows: map[netip.AddrPort]*twinFlow{}, rests: map[twinPort]time.Duration{},
		endpoint: 1, generations: 1, inState: map[int]bool{0: true, 1: true, 2: true},
		draining: map[int]bool{}, ended: map[int]bool{}, unhealthy: map[int]bool{}}
	worker := w.engine.workers[0]
	for i := range twinTargets {
		pair := flow.Pair{Node: worker.view.enis[0].node.Slot, Target: targetN(i).Addr().As16(), TargetPort: targetN(i).Port()}
		for range flow.NATCount - twinPorts {
			worker.leases.Lease(pair, 0)
		}
	}
	return w
}

func (w *twin) note(format string, v ...any) {
	w.log = append(w.log, fmt.Sprintf("\n%v: ", w.now)+fmt.Sprintf(format, v...))
}

// anything lets something happen.
func (w *twin) anything() {
	switch n := w.r.IntN(100); {
	case n < 90:
		w.sleep(time.Millisecond)
		client := netip.AddrPortFrom(clientAddr.Addr(), uint16(1000+w.r.IntN(twinClients)))
		if f := w.flows[client]; f != nil && w.r.IntN(2) == 0 {
			w.fromTargetOf(f)
		} else {
			w.fromClientAt(client)
		}
	case n < 98:
		w.sleep([]time.Duration{50, 50, 1900, 1900, 1900, 5000, 29_000, 31_000, 59_000, 61_000, 340_000, 351_000}[w.r.IntN(12)] * time.Millisecond)
	default:
		w.changeView()
	}
}

// sleep lets time pass; the worker wakes at least once a second.
func (w *twin) sleep(d time.Duration) {
	if d > time.Second {
		w.note("%v pass", d)
	}
	for ; d > 0; d -= min(d, time.Second) {
		w.step(min(d, time.Second))
	}
}

// lifetime is how long a connection lives without a packet.
func (f *twinFlow) lifetime() time.Duration {
	switch f.state {
	case flow.Established:
		return 350 * time.Second
	case flow.Closing:
		return 60 * time.Second
	case flow.Reset:
		return 2 * time.Second
	}
	return 30 * time.Second
}

func (w *twin) lapsed(f *twinFlow) bool { return w.now-f.seen >= f.lifetime() }

// close forgets a connection. Its port rests from when it closed, or when its time ran out.
func (w *twin) close(f *twinFlow) {
	at := w.now
	switch {
	case f.state == flow.Closing || f.state == flow.Reset:
		at = f.seen
	case w.lapsed(f):
		at = f.seen + f.lifetime()
	}
	w.rests[twinPort{f.target, f.port}] = at
	delete(w.flows, f.client)
}

// mayGoOn says whether the state of the world lets a connection live.
func (w *twin) mayGoOn(f *twinFlow) bool {
	failOpen := w.inState[f.target] && w.failsOpen()
	if f.endpoint != w.endpoint || w.unhealthy[f.target] && !failOpen ||
		w.ended[f.target] && (w.draining[f.target] || !w.inState[f.target]) {
		f.dead = true // once refused it stays so
	}
	return !f.dead
}

func (w *twin) failsOpen() bool {
	for i := range twinTargets {
		if w.inState[i] && !w.draining[i] && !w.unhealthy[i] {
			return false
		}
	}
	return true
}

// takesNew says whether a target gets new connections.
func (w *twin) takesNew(i int) bool {
	return w.inState[i] && !w.draining[i] && (!w.unhealthy[i] || w.failsOpen())
}

// What becomes of a packet.
const (
	passes = iota
	opens
	answered // with RST
	vanishes
	answeredOrVanishes // depends on when expiry comes by
)

func (w *twin) fromClientAt(client netip.AddrPort) {
	f := w.flows[client]
	flags := []string{"S", "S", "A", "A", "A", "FA", "R"}[w.r.IntN(7)]
	p := pkttest.TCP{Src: client, Dst: endpointAddr, Seq: clientISN + 1, Ack: targetISN + 1, Flags: flags}
	if f != nil {
		p.Seq = f.isn + 1
	}
	if flags == "S" {
		p.Ack = 0
		if p.Seq--; f == nil || w.r.IntN(3) == 0 {
			p.Seq = w.r.Uint32()
		}
	}
	if f != nil && w.lapsed(f) && w.endpoint != 0 {
		w.close(f)
		f = nil
	}
	want := w.expectFromClient(f, p)
	w.note("client %v sends %s seq %d; want %d", client, flags, p.Seq, want)
	out, back := w.fromClient(p.Bytes())
	w.judge(want, p, f, out, back)
}

// expectFromClient says what has to become of a segment of the client, and follows it.
func (w *twin) expectFromClient(f *twinFlow, p pkttest.TCP) int {
	answer := answered
	if p.Flags == "R" {
		answer = vanishes
	}
	switch {
	case w.endpoint == 0 && (f == nil || w.lapsed(f)):
		return min(answer+2, answeredOrVanishes)
	case w.endpoint == 0:
		return answer
	case p.Flags == "S" && (f == nil || f.isn != p.Seq):
		return opens
	case f == nil || !w.mayGoOn(f) || f.state == flow.Reset:
		return answer
	}
	switch p.Flags {
	case "R":
		f.state, f.seen = flow.Reset, w.now
		return passes
	case "S":
		return passes
	case "FA":
		f.finC = true
	}
	if f.state == flow.Opening && f.synAck {
		f.state = flow.Established
	}
	w.touch(f)
	return passes
}

func (w *twin) touch(f *twinFlow) {
	if f.state == flow.Closing {
		return
	}
	if f.finC && f.finT {
		f.state = flow.Closing
	}
	if f.state != flow.Opening {
		f.seen = w.now
	}
}

func (w *twin) fromTargetOf(f *twinFlow) {
	flags := []string{"SA", "SA", "A", "A", "FA", "R", "S"}[w.r.IntN(7)]
	p := pkttest.TCP{Src: targetN(f.target), Dst: netip.AddrPortFrom(nodeAddr, f.port), Seq: targetISN + 1, Ack: f.isn + 1, Flags: flags}
	want := answered
	switch {
	case flags == "S":
		want = vanishes
	case w.lapsed(f) || !w.mayGoOn(f) || f.state == flow.Reset:
		if flags == "R" {
			want = vanishes
		}
	case flags == "R":
		f.state, f.seen, want = flow.Reset, w.now, passes
	case flags == "SA":
		f.synAck, want = true, passes
	default:
		f.finT = f.finT || flags == "FA"
		w.touch(f)
		want = passes
	}
	if flags != "S" && w.lapsed(f) {
		w.close(f)
	}
	w.note("target of %v sends %s; want %d", f.client, flags, want)
	in, back := w.fromTarget(p.Bytes())
	w.judge(want, p, f, in, back)
}

// changeView changes the state or the health of targets.
func (w *twin) changeView() {
	i := w.r.IntN(twinTargets)
	switch w.r.IntN(6) {
	case 0:
		if w.endpoint == 0 {
			w.generations++
			w.endpoint = w.generations
		} else {
			w.endpoint = 0
		}
	case 1:
		w.inState[i] = !w.inState[i]
	case 2, 3:
		w.draining[i] = !w.draining[i]
	case 4:
		w.unhealthy[i] = !w.unhealthy[i]
	case 5:
		w.ended = map[int]bool{i: w.draining[i] || !w.inState[i]}
	}
	w.ended[i] = w.ended[i] && (w.draining[i] || !w.inState[i]) // a target that is back starts anew
	w.note("view: endpoint %d, in state %v, draining %v, ended %v, unhealthy %v", w.endpoint, w.inState, w.draining, w.ended, w.unhealthy)
	w.publish()
}

func (w *twin) publish() {
	st := clone(w.state)
	st.Endpoints = nil
	if w.endpoint != 0 {
		st.Endpoints = newState().Endpoints
	}
	g := &st.TargetGroups[0]
	g.Targets = nil
	sick := map[TargetID]Health{}
	var ended []TargetID
	for i := range twinTargets {
		if w.inState[i] {
			g.Targets = append(g.Targets, vpc.Target{Address: targetN(i).Addr(), Port: targetN(i).Port(), Zone: zone, Draining: w.draining[i]})
		}
		if w.unhealthy[i] {
			sick[webTarget(i)] = Unhealthy
		}
		if w.ended[i] {
			ended = append(ended, webTarget(i))
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

// compareFlows compares the connections that are listed with the twin's.
func (w *twin) compareFlows() {
	listed := map[netip.AddrPort]FlowInfo{}
	err := w.engine.Flows(context.Background(), func(f FlowInfo) bool {
		listed[f.Client] = f
		return true
	})
	if err != nil {
		w.Error(err)
	}
	for client, f := range w.flows {
		info, ok := listed[client]
		if w.lapsed(f) {
			continue
		}
		state := f.state
		if !w.mayGoOn(f) {
			state = flow.Reset
		}
		if !ok || info.State != state || info.Target != targetN(f.target) || f.endpoint == w.endpoint && info.NodeAddress.Port() != f.port {
			w.Errorf("%+v is listed as %+v", f, info)
		}
	}
}
