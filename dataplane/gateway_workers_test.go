// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// TestReturnsAreSteeredToTheirOwner checks that the kernel gives what comes back to the worker of the flow, also when that
// has moved to another appliance.
func TestReturnsAreSteeredToTheirOwner(t *testing.T) {
	for workers := 2; workers <= 5; workers++ {
		st := gatewayState()
		withRebalance(st)
		b := newBed(t, st, Config{Workers: workers})
		used := map[int]bool{}
		check := func(what string) {
			for i := range 60 {
				pkt := pkttest.UDP(netip.AddrPortFrom(clientAddr.Addr(), uint16(2000+i)), serverAddr, []byte("hello"))
				b.consumer.Inject(i%workers, pkt)
				b.step(0)
				out := segmented(b.takeAll(b.provider)...)
				d := b.one(out)
				queue := steeredTo([4]byte(d[12:16]), [4]byte(d[16:20]), uint16(d[20])<<8|uint16(d[21]), workers)
				owner := b.engine.workers[0].inspections.CookieWorker(cookieOf(d))
				if used[owner] = true; queue != owner {
					t.Errorf("%s: what the flow of worker %d returns comes to queue %d", what, owner, queue)
				}
			}
		}
		check("begun")
		if err := b.engine.SetHealth(map[TargetID]Health{fw(0): Unhealthy}); err != nil {
			t.Fatal(err)
		}
		check("moved")
		if len(used) != workers {
			t.Errorf("%d of %d workers have flows", len(used), workers)
		}
	}
}

// TestSuperPacketStraysWhole returns super-packets of more datagrams than an inbox has room for, on a queue that is not
// their flow's. One whose datagrams are of flows of two workers is shared out between them.
func TestSuperPacketStraysWhole(t *testing.T) {
	b := newBed(t, gatewayState(), Config{Workers: 2})
	var datagrams [2][]byte // of flows of either worker
	for i := 0; datagrams[0] == nil || datagrams[1] == nil; i++ {
		pkt := pkttest.UDP(netip.AddrPortFrom(clientAddr.Addr(), uint16(2000+i)), serverAddr, []byte("hello"))
		b.consumer.Inject(0, pkt)
		b.step(0)
		d := b.one(segmented(b.takeAll(b.provider)...))
		if outerDst(d) == applianceN(0).Addr() {
			datagrams[b.engine.workers[0].inspections.CookieWorker(cookieOf(d))] = hairpin(d)
		}
	}
	strays := func() uint64 {
		s := b.engine.Stats()
		return s.Workers[0].Strays + s.Workers[1].Strays
	}
	for n := range 2 {
		var list []*port.Buffer
		for range 60 {
			list = append(list, plain(datagrams[n]))
		}
		before := strays()
		b.provider.InjectBuffers(1-n, joined(list)...)
		b.step(0)
		if got := segmented(b.takeAll(b.consumer)...); len(got) != 60 || strays() != before+1 || len(b.drops()) != 0 {
			t.Errorf("%d of 60 came out after %d strays, drops %v", len(got), strays()-before, b.drops())
		}
	}
	var list []*port.Buffer
	for i := range 20 {
		d := append(append([]byte(nil), datagrams[0][:geneveStart]...), datagrams[i%2][geneveStart:]...)
		list = append(list, plain(returned(hairpin(d))))
	}
	b.provider.InjectBuffers(0, joined(list)...)
	b.step(0)
	if got := segmented(b.takeAll(b.consumer)...); len(got) != 20 || len(b.drops()) != 0 {
		t.Errorf("%d of 20 came out, drops %v", len(got), b.drops())
	}
}

// TestFragmentsStayForgotten lets engine time wrap: a first fragment from before is not a young one again.
func TestFragmentsStayForgotten(t *testing.T) {
	b := newBed(t, gatewayState(), Config{})
	parts := fragmentsOf(pkttest.UDP(clientAddr, serverAddr, []byte(long(100))))
	out, _ := b.fromClient(parts[0])
	b.one(out)
	for range 49 {
		b.step(24 * time.Hour)
	}
	b.step(1<<32*time.Millisecond - 49*24*time.Hour)
	b.step(flow.FragmentTime / 2 * time.Millisecond)
	if out, _ := b.fromClient(parts[1]); len(out) != 0 || b.dropped(FragmentOrphan) != 1 {
		t.Errorf("%s, drops %v", describeAll(out), b.drops())
	}
}

// TestStickyFlowsSpread sends many flows: all appliances get about as many, and each flow has its own cookie.
func TestStickyFlowsSpread(t *testing.T) {
	st := gatewayState()
	withAppliances(4)(st)
	b := newBed(t, st, Config{})
	const flows = 2000
	to, seen := map[netip.Addr]int{}, map[uint32]bool{}
	for i := range flows {
		b.consumer.Inject(0, pkttest.UDP(manyClient(i), serverAddr, []byte(fmt.Sprint(i))))
		b.step(0)
		for _, d := range b.provider.Take(0) {
			to[outerDst(d)]++
			seen[cookieOf(d)] = true
		}
	}
	for addr, n := range to {
		if n < flows/4*8/10 || n > flows/4*12/10 {
			t.Errorf("%d of %d flows went to %v", n, flows, addr)
		}
	}
	if len(to) != 4 || len(seen) != flows {
		t.Errorf("%d appliances, %d cookies", len(to), len(seen))
	}
}
