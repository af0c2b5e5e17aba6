// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// slotOf is the slot of a port in the view.
func (b *bed) slotOf(id string) uint16 {
	b.Helper()
	for slot, p := range b.engine.view.Load().ports {
		if p.id == id {
			return uint16(slot)
		}
	}
	b.Fatalf("no port %s", id)
	return 0
}

// ownerOf is the worker that owns the flow of a packet received on a port.
func (b *bed) ownerOf(id string, pkt []byte) int {
	b.Helper()
	w := b.engine.workers[0]
	var p packet
	buf := port.NewBuffer()
	buf.Set(pkt)
	if !w.parse(&p, buf, b.slotOf(id)) {
		b.Fatalf("packet is refused as %v", p.reason)
	}
	return w.owner(&p)
}

// carryOn delivers a packet on a queue of a port and returns the one packet that leaves by another port, and on which queue.
func (b *bed) carryOn(from string, queue int, pkt []byte, to string) (out []byte, at int) {
	b.Helper()
	b.mem(from).Inject(queue, pkt)
	b.step(0)
	for q := range b.engine.workers {
		list := b.mem(to).Take(q)
		if len(list) == 0 {
			continue
		}
		if out != nil {
			b.Fatalf("more than one packet left by %s", to)
		}
		out, at = b.one(list), q
	}
	if out == nil {
		b.Fatalf("nothing left by %s; drops %v", to, b.drops())
	}
	return out, at
}

// TestStraysReachTheirOwner delivers the packets of many connections on any queue, both ways. Each connection stays with
// the worker that its packets and its NAT port name, and what comes out is right.
func TestStraysReachTheirOwner(t *testing.T) {
	for workers := 2; workers <= 4; workers++ {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			st := newState()
			withProxy(st)
			b := newBed(t, st, Config{Workers: workers})
			r := rand.New(rand.NewPCG(uint64(workers), 0))
			used := make([]int, workers)
			for i := range 60 {
				used[b.strayConnection(r, manyClient(i))]++
			}
			for id, n := range used {
				if n == 0 {
					t.Errorf("worker %d has no connection", id)
				}
			}
			strays := uint64(0)
			for _, w := range b.engine.Stats().Workers {
				strays += w.Strays
			}
			if drops := b.drops(); len(drops) > 0 || strays == 0 || b.engine.Stats().Flows.Active != 60 {
				t.Errorf("drops %v, %d strays, flows %+v", drops, strays, b.engine.Stats().Flows)
			}
		})
	}
}

// strayConnection takes a connection through its first packets on random queues and returns its owner.
func (b *bed) strayConnection(r *rand.Rand, client netip.AddrPort) int {
	b.Helper()
	any := func() int { return r.IntN(len(b.engine.workers)) }
	p := syn
	p.Src, p.Dst = client, endpointAddr
	owner := b.ownerOf("consumer", p.Bytes())
	out, queue := b.carryOn("consumer", any(), p.Bytes(), "provider")
	natPort := uint16(pkttest.Decode(b, out).TCP.SrcPort)
	if queue != owner || flow.Owner(natPort, len(b.engine.workers)) != owner {
		b.Errorf("connection of worker %d left on queue %d with port %d", owner, queue, natPort)
	}
	answer := synAck
	answer.Src, answer.Dst = targetAddr, netip.AddrPortFrom(nodeAddr, natPort)
	if _, queue = b.carryOn("provider", any(), answer.Bytes(), "consumer"); queue != owner {
		b.Errorf("the answer left on queue %d, want %d", queue, owner)
	}
	p = data(firstSeq, targetISN+1, "hello")
	p.Src, p.Dst = client, endpointAddr
	out, _ = b.carryOn("consumer", any(), p.Bytes(), "provider")
	if got := pkttest.Decode(b, out); len(got.Payload) != 105 || !bytes.HasSuffix(got.Payload, []byte("hello")) {
		b.Errorf("the target gets %s", pkttest.Describe(out))
	}
	icmp := pkttest.ICMPError(3, 1, routerAddr, nodeAddr, out[:28])
	if out, queue = b.carryOn("provider", any(), icmp, "consumer"); queue != owner {
		b.Errorf("the ICMP error left on queue %d, want %d", queue, owner)
	}
	if got := pkttest.Decode(b, out); got.ICMP == nil || !got.IP.DstIP.Equal(client.Addr().AsSlice()) {
		b.Errorf("the client gets %s", pkttest.Describe(out))
	}
	return owner
}

// TestStrayKeepsItsOffload hands a super-packet to another worker.
func TestStrayKeepsItsOffload(t *testing.T) {
	b := newBed(t, newState(), Config{Workers: 2})
	p := atEndpoint(syn)
	owner := b.ownerOf("consumer", p.Bytes())
	b.carryOn("consumer", owner, p.Bytes(), "provider")
	b.consumer.InjectBuffers(1-owner, super(data(firstSeq, targetISN+1, long(30000)), 8348))
	b.step(0)
	if joinSegments(t, b.provider.Take(owner), firstSeq) != long(30000) {
		t.Error("data differs")
	}
}

// TestStrayOfAPortThatIsGone counts a stray whose port is closed before its owner gets to it.
func TestStrayOfAPortThatIsGone(t *testing.T) {
	b := newBed(t, newState(), Config{Workers: 2})
	buf := full(syn)
	slot := b.slotOf("consumer")
	b.engine.inboxes[0][1].put(&packet{buf: buf, in: slot}, b.engine.view.Load().ports[slot].gen)
	delete(b.ports, "consumer")
	b.applyPorts(b.state)
	b.step(0)
	if b.dropped(NoENI) != 1 || b.engine.Stats().Flows.New != 0 {
		t.Errorf("drops %v", b.drops())
	}
}

// TestInboxIsFIFO fills and empties an inbox around its ring.
func TestInboxIsFIFO(t *testing.T) {
	box, buf := newInbox(), port.NewBuffer()
	put, taken := 0, 0
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		for range r.IntN(inboxSize) {
			buf.Set([]byte(fmt.Sprint(put)))
			if ok := box.put(&packet{buf: buf, in: uint16(put)}, 1); ok != (put-taken < inboxSize) {
				t.Fatalf("put is %v with %d inside", ok, put-taken)
			} else if ok {
				put++
			}
		}
		n := uint32(0)
		for want := r.IntN(inboxSize); int(n) < want; n++ {
			s := box.peek(n)
			if s == nil {
				if int(n) != put-taken {
					t.Fatalf("%d found, %d inside", n, put-taken)
				}
				break
			}
			if string(s.buf.Bytes()) != fmt.Sprint(taken+int(n)) || s.in != uint16(taken+int(n)) {
				t.Fatalf("found %q, want %d", s.buf.Bytes(), taken+int(n))
			}
		}
		box.take(n)
		taken += int(n)
	}
}
