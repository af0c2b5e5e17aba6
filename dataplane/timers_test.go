// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// wrap is when engine time in milliseconds begins anew.
const wrap = 1 << 32 * time.Millisecond

// TestIdleTimeouts looks at the last millisecond of every timeout of an established connection, and the first one after.
func TestIdleTimeouts(t *testing.T) {
	for _, c := range []struct {
		name  string
		idle  time.Duration
		with  func(*vpc.State)
		start time.Duration
	}{
		{"default", 350 * time.Second, func(*vpc.State) {}, time.Second},
		{"shortest", 60 * time.Second, withIdle(60 * time.Second), time.Second},
		{"longest", 6000 * time.Second, withIdle(6000 * time.Second), time.Second},
		{"of a lab", 1500 * time.Millisecond, func(st *vpc.State) { st.Testing = &vpc.Testing{TCPIdle: 1500 * time.Millisecond} }, time.Second},
		{"while engine time wraps", 350 * time.Second, func(*vpc.State) {}, wrap - 5*time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newState()
			c.with(st)
			b := newBed(t, st, Config{})
			b.step(c.start - b.now)
			b.connect(clientAddr, clientISN, 8960)
			question := atEndpoint(data(firstSeq, targetISN+1, "hello")).Bytes()
			for range 3 {
				b.step(c.idle - time.Millisecond)
				if out, _ := b.fromClient(question); len(out) != 1 {
					t.Fatalf("ended too early; drops %v", b.drops())
				}
			}
			b.step(c.idle)
			out, back := b.fromClient(question)
			if len(out) != 0 || !pkttest.Decode(t, b.one(back)).TCP.RST {
				t.Errorf("ended too late; drops %v", b.drops())
			}
			if f := b.engine.Stats().Flows; f.Active != 0 || f.Expired != 1 {
				t.Errorf("flows %+v", f)
			}
		})
	}
}

func withIdle(d time.Duration) func(*vpc.State) {
	return func(st *vpc.State) { st.LoadBalancers[0].Listeners[0].IdleTimeout = d }
}

// TestExpiryIsAmortised lets very many connections run out at once: no turn closes more than its share, and all are gone
// in a few periods.
func TestExpiryIsAmortised(t *testing.T) {
	const flows = 3000
	b := newBed(t, newState(), Config{})
	s := &story{bed: b}
	openMany(flows, 80)(s)
	b.now += 31 * time.Second
	turns, most := 0, uint64(0)
	for left := b.engine.Stats().Flows.Active; left > 0; turns++ {
		b.engine.Turn(b.now)
		b.now += 10 * time.Millisecond
		now := b.engine.Stats().Flows.Active
		most = max(most, left-now)
		left = now
		if turns > 3*sweepPeriod/10 {
			t.Fatalf("%d connections are left after %d turns of 10 ms", left, turns)
		}
	}
	if most > sweepMost {
		t.Errorf("a turn closed %d connections, at most %d allowed", most, sweepMost)
	}
	if expired := b.engine.Stats().Flows.Expired; expired != flows {
		t.Errorf("%d connections expired, want %d", expired, flows)
	}
	t.Logf("%d connections were gone after %d turns, at most %d in one", flows, turns, most)
}

// TestExpiryKeepsUpWithShortTurns takes turns much shorter than an entry's share of time, which must add up.
func TestExpiryKeepsUpWithShortTurns(t *testing.T) {
	b := newBed(t, newState(), Config{})
	openMany(2, 80)(&story{bed: b})
	b.now += 31 * time.Second
	for range 2 * sweepPeriod {
		b.step(time.Millisecond)
	}
	if active := b.engine.Stats().Flows.Active; active != 0 {
		t.Errorf("%d connections are left", active)
	}
}

// TestManyEarlyHeadersAreRepeated lets more headers be due at once than a worker has buffers of its own.
func TestManyEarlyHeadersAreRepeated(t *testing.T) {
	const flows = 3*spareSize + 5
	st := newState()
	withEarlyProxy(st)
	b := newBed(t, st, Config{})
	for i := range flows {
		b.connectEarly(t, i)
	}
	b.now += earlyFirst * time.Millisecond
	seen := map[uint16]int{}
	for range 10 {
		b.engine.Turn(b.now)
		b.now += time.Millisecond
		list := b.provider.Take(0)
		if len(list) > spareSize {
			t.Errorf("%d headers in one turn", len(list))
		}
		for _, pkt := range list {
			pkttest.Verify(t, pkt)
			p := pkttest.Decode(t, pkt)
			if len(p.Payload) != headerLen {
				t.Fatalf("sent %s", pkttest.Describe(pkt))
			}
			seen[uint16(p.TCP.SrcPort)]++
		}
	}
	if len(seen) != flows || len(b.drops()) > 0 {
		t.Errorf("%d of %d headers repeated, drops %v", len(seen), flows, b.drops())
	}
	for port, n := range seen {
		if n != 1 {
			t.Errorf("port %d: repeated %d times at once", port, n)
		}
	}
	if wait := b.engine.workers[0].patience(); wait > 2*earlyFirst*time.Millisecond {
		t.Errorf("the worker would sleep for %v", wait)
	}
}

// connectEarly opens the connection of the n-th of many clients, whose target receives its header alone.
func (b *bed) connectEarly(t *testing.T, n int) {
	t.Helper()
	p := syn
	p.Src, p.Dst = manyClient(n), endpointAddr
	out, _ := b.fromClient(p.Bytes())
	node, _ := endsOf(pkttest.Decode(t, b.one(out)))
	p = synAck
	p.Src, p.Dst = targetAddr, node
	b.fromTarget(p.Bytes())
	p = ack(firstSeq, targetISN+1)
	p.Src, p.Dst = manyClient(n), endpointAddr
	if out, _ = b.fromClient(p.Bytes()); len(out) != 2 {
		t.Fatalf("%d packets follow the handshake, want its ACK and the header", len(out))
	}
}

// TestEarlyHeadersBeyondTheList opens more connections than a worker remembers to repeat headers for: those beyond are
// sent once.
func TestEarlyHeadersBeyondTheList(t *testing.T) {
	st := newState()
	withEarlyProxy(st)
	b := newBed(t, st, Config{})
	b.connectEarly(t, 0)
	w := b.engine.workers[0]
	for len(w.pending) < earlyPending {
		w.pending = append(w.pending, w.pending[0])
	}
	b.connectEarly(t, 1)
	if len(w.pending) != earlyPending || cap(w.pending) != earlyPending {
		t.Errorf("%d headers are remembered, with room for %d", len(w.pending), cap(w.pending))
	}
}

// TestPortRestsAfterItsConnection leaves a single port and looks when it can be used again: 60 s after its connection has
// closed, the time of closing counted in.
func TestPortRestsAfterItsConnection(t *testing.T) {
	for _, c := range []struct {
		name  string
		close []pkttest.TCP // the first from the client, the second from the target
		after time.Duration
	}{
		{"closed by both", []pkttest.TCP{flagged("FA", firstSeq, targetISN+1), flagged("FA", targetISN+1, firstSeq+1)}, 60 * time.Second},
		{"reset", []pkttest.TCP{flagged("R", firstSeq, 0)}, 60 * time.Second},
		{"idle", nil, 350*time.Second + 60*time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, newState(), Config{})
			node := b.connect(clientAddr, clientISN, 1460)
			w := b.engine.workers[0]
			pair := flow.Pair{Node: w.view.enis[w.flows.At(0).Node.Slot].node.Slot, Target: targetAddr.Addr().As16(), TargetPort: targetAddr.Port()}
			for w.leases.InUse(pair) < flow.NATCount {
				w.leases.Lease(pair, 0)
			}
			for i, p := range c.close {
				if i == 0 {
					b.fromClient(atEndpoint(p).Bytes())
				} else {
					p.Src, p.Dst = targetAddr, node
					b.fromTarget(p.Bytes())
				}
			}
			next := atEndpoint(syn)
			next.Src = manyClient(1)
			closed := b.now
			for refused := uint64(1); ; refused++ {
				b.step(time.Second)
				out, _ := b.fromClient(next.Bytes())
				switch rested := b.now - closed; {
				case len(out) == 0 && rested > c.after+6*time.Second:
					t.Fatalf("no port after %v", rested)
				case len(out) == 0:
					if b.dropped(PortsExhausted) != refused {
						t.Fatalf("drops %v", b.drops())
					}
					continue
				case rested < c.after:
					t.Errorf("the port is in use again after %v", rested)
				}
				if src, _ := endsOf(pkttest.Decode(t, b.one(out))); src != node {
					t.Errorf("connected from %v, the port that is free is %v", src, node)
				}
				return
			}
		})
	}
}
