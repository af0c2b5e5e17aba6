// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestOwnerIsTheWorkerOfTheSlice(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 8, 64, 1000, 10_000, 60_000} {
		want := make([]int, 65536)
		for port := range want {
			want[port] = -1
		}
		leased := map[bool]int{}
		for worker := range workers {
			for _, probe := range []bool{false, true} {
				base, count := Slice(worker, workers, probe)
				leased[probe] += count
				for port := base; port < base+count; port++ {
					if want[port] != -1 || probe != (port < NATBase) || port < ProbeBase {
						t.Fatalf("%d workers: port %d is in a wrong slice, or in two", workers, port)
					}
					want[port] = worker
				}
			}
		}
		for port := range want {
			if got := Owner(uint16(port), workers); got != want[port] {
				t.Fatalf("Owner(%d, %d) = %d, want %d", port, workers, got, want[port])
			}
		}
		if workers <= 64 && (leased[false] < NATCount*98/100 || leased[true] < ProbeCount*98/100) {
			t.Errorf("%d workers lease %d and %d ports, less than 98 %%", workers, leased[false], leased[true])
		}
	}
}

// pairTwin is the ports of a pair as lists.
type pairTwin struct {
	never, leased []uint16
	released      []resting
}

// portsTwin is Ports as one would write it without a thought for speed.
type portsTwin struct {
	worker, workers int
	pairs           map[Pair]*pairTwin
}

// lease is the port the pair has to give, or false. The first of a pair is random, so it is told which one was given.
func (w *portsTwin) lease(pair Pair, now uint32, given uint16) (uint16, bool) {
	p := w.pairs[pair]
	if p == nil {
		base, count := Slice(w.worker, w.workers, pair.Probe)
		if count == 0 {
			return 0, false
		}
		p = &pairTwin{}
		for i := range count {
			p.never = append(p.never, uint16(base+i))
		}
		if i := slices.Index(p.never, given); i > 0 {
			p.never = append(slices.Clone(p.never[i:]), p.never[:i]...)
		}
		w.pairs[pair] = p
	}
	var port uint16
	switch {
	case len(p.never) > 0:
		port, p.never = p.never[0], p.never[1:]
	case len(p.released) > 0 && now-p.released[0].at >= PortQuiet:
		port, p.released = p.released[0].port, p.released[1:]
	default:
		return 0, false
	}
	p.leased = append(p.leased, port)
	return port, true
}

// sweep forgets all pairs that can be forgotten.
func (w *portsTwin) sweep(now uint32) {
	for pair, p := range w.pairs {
		if len(p.leased) == 0 && !slices.ContainsFunc(p.released, func(r resting) bool { return now-r.at < PortQuiet }) {
			delete(w.pairs, pair)
		}
	}
}

func drawPair(t *rapid.T) Pair {
	return Pair{
		Node:       rapid.Uint16Range(1, 2).Draw(t, "node"),
		TargetPort: rapid.Uint16Range(80, 81).Draw(t, "port"),
		Probe:      rapid.Bool().Draw(t, "probe"),
	}
}

// portsProperty runs random operations on ports and their twin. Of 9,000 workers each has six ports of a pair and one
// for probes, of 20,000 two and none.
func portsProperty(t *rapid.T) {
	workers := rapid.SampledFrom([]int{9000, 20_000}).Draw(t, "workers")
	worker := rapid.IntRange(0, workers-1).Draw(t, "worker")
	p, w := NewPorts(worker, workers), &portsTwin{worker, workers, map[Pair]*pairTwin{}}
	p.random.Seed(rapid.Uint64().Draw(t, "seed"), 0)
	now := uint32(math.MaxUint32 - 200_000)
	t.Repeat(map[string]func(*rapid.T){
		"lease": func(t *rapid.T) {
			pair := drawPair(t)
			port, ok := p.Lease(pair, now)
			if want, wantOK := w.lease(pair, now, port); port != want || ok != wantOK {
				t.Fatalf("Lease(%v) = %d, %v, want %d, %v", pair, port, ok, want, wantOK)
			}
			if ok && Owner(port, workers) != worker {
				t.Fatalf("port %d is worker %d's", port, Owner(port, workers))
			}
		},
		"release": func(t *rapid.T) {
			pair := drawPair(t)
			s := w.pairs[pair]
			if s == nil || len(s.leased) == 0 {
				p.Release(pair, NATBase, now) // no such lease
				return
			}
			p.Release(pair, 80, now) // no such port
			i := rapid.IntRange(0, len(s.leased)-1).Draw(t, "lease")
			at := now - rapid.SampledFrom([]uint32{0, 0, 1, 58_000, 60_000, 350_000}).Draw(t, "ago")
			p.Release(pair, s.leased[i], at)
			s.released = append(s.released, resting{at, s.leased[i]})
			s.leased = slices.Delete(s.leased, i, i+1)
		},
		"pass": func(t *rapid.T) { now += rapid.SampledFrom([]uint32{1, 20_000, 59_999, 60_000}).Draw(t, "time") },
		"sweep": func(t *rapid.T) {
			for range len(p.pairs) { // one at a time comes around all
				p.Sweep(1, now)
			}
			w.sweep(now)
		},
		"": func(t *rapid.T) {
			if p.Pairs() != len(w.pairs) {
				t.Fatalf("%d pairs, want %d", p.Pairs(), len(w.pairs))
			}
			for pair, s := range w.pairs {
				if got := p.InUse(pair); got != len(s.leased) {
					t.Fatalf("InUse(%v) = %d, want %d", pair, got, len(s.leased))
				}
			}
		},
	})
}

func TestPortsMatchTwin(t *testing.T) { rapid.Check(t, portsProperty) }

func FuzzPorts(f *testing.F) { f.Fuzz(rapid.MakeFuzz(portsProperty)) }

// TestAllPortsOfAPair takes 55,000 connections to one target, no more, and again after a minute in the same order.
func TestAllPortsOfAPair(t *testing.T) {
	p := NewPorts(0, 1)
	pair := Pair{Node: 1, Target: mapped(0x0a000001), TargetPort: 443}
	var order []uint16
	taken := map[uint16]bool{}
	for range NATCount {
		port, ok := p.Lease(pair, 0)
		if !ok || port < NATBase || taken[port] {
			t.Fatalf("lease %d: port %d, %v", len(order), port, ok)
		}
		taken[port] = true
		order = append(order, port)
	}
	if port, ok := p.Lease(pair, 0); ok || p.InUse(pair) != NATCount {
		t.Fatalf("leased port %d with %d in use", port, p.InUse(pair))
	}
	other := pair
	other.TargetPort++
	if _, ok := p.Lease(other, 0); !ok {
		t.Error("another target port has no ports")
	}
	for i, port := range order {
		p.Release(pair, port, uint32(i))
	}
	if n := len(p.pairs[p.numbers[pair]].rest.buf); n != NATCount {
		t.Errorf("the ring has room for %d ports, want %d", n, NATCount)
	}
	for i, want := range order {
		if port, ok := p.Lease(pair, uint32(i)+PortQuiet-1); ok {
			t.Fatalf("port %d was leased again after %d ms", port, PortQuiet-1)
		}
		if port, ok := p.Lease(pair, uint32(i)+PortQuiet); !ok || port != want {
			t.Fatalf("lease %d: port %d, %v, want %d", i, port, ok, want)
		}
	}
}

// TestPairsStartApart makes the same pair known to two processes, as before and after a restart.
func TestPairsStartApart(t *testing.T) {
	var first []uint16
	for range 5 {
		port, _ := NewPorts(0, 1).Lease(Pair{Node: 1, TargetPort: 443}, 0)
		first = append(first, port)
	}
	slices.Sort(first)
	if len(slices.Compact(first)) == 1 {
		t.Errorf("five times the first port is %d", first[0])
	}
}

// TestForgottenPairs checks what remains of many pairs when they have come to rest: nothing but little rings.
func TestForgottenPairs(t *testing.T) {
	p := NewPorts(0, 1)
	var ports []uint16
	pair := func(i int) Pair { return Pair{Node: uint16(i), TargetPort: 443} }
	for i := range 100 {
		for range 100 {
			port, _ := p.Lease(pair(i), 0)
			ports = append(ports, port)
		}
		for _, port := range ports {
			p.Release(pair(i), port, 0)
		}
		ports = ports[:0]
	}
	if p.Sweep(1000, PortQuiet-1); p.Pairs() != 100 {
		t.Fatalf("%d pairs are known while ports rest, want 100", p.Pairs())
	}
	if p.Sweep(30, PortQuiet); p.Pairs() != 70 {
		t.Fatalf("%d pairs are known after a sweep of 30, want 70", p.Pairs())
	}
	if p.Sweep(1000, PortQuiet); p.Pairs() != 0 {
		t.Fatalf("%d pairs are known after a minute, want 0", p.Pairs())
	}
	for i := range p.pairs {
		if n := len(p.pairs[i].rest.buf); n > ringKeep {
			t.Errorf("forgotten pair %d keeps a ring of %d", i, n)
		}
	}
	p.Lease(pair(7), PortQuiet)
	if len(p.pairs) != 100 {
		t.Errorf("%d records after a forgotten pair came back, want 100", len(p.pairs))
	}
}

func TestPortsDoNotAllocate(t *testing.T) {
	p := NewPorts(0, 1000) // 55 ports
	pair := Pair{Node: 1, Target: mapped(0x0a000001), TargetPort: 443}
	probe := Pair{Node: 1, Target: mapped(0x0a000001), TargetPort: 443, Probe: true}
	now := uint32(0)
	traffic := func() {
		now += 2000
		port, ok := p.Lease(pair, now)
		if !ok {
			t.Fatal("no port")
		}
		p.Release(pair, port, now)
	}
	check := func() { // a check every five minutes: its pair is forgotten each time
		now += 300_000
		port, ok := p.Lease(probe, now)
		if !ok {
			t.Fatal("no port")
		}
		p.Release(probe, port, now)
		p.Sweep(10, now+PortQuiet)
	}
	for range 100 { // until all ports have been used and the ring has its size
		traffic()
		check()
	}
	if n := testing.AllocsPerRun(200, traffic); n != 0 {
		t.Errorf("Lease and Release allocate %v times", n)
	}
	if n := testing.AllocsPerRun(200, check); n != 0 {
		t.Errorf("a pair that comes and goes allocates %v times", n)
	}
}
