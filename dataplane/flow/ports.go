// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import "math/rand/v2"

// Pair is what a port has to be unique in: the node and target at the two ends, and the range it comes from.
type Pair struct {
	Node       uint16   // slot of the node's ENI
	Target     [16]byte // IPv4 in its IPv4-mapped IPv6 form
	TargetPort uint16   // host byte order
	Probe      bool     // from the ports for health checks
}

// Ports is one worker's share of the NAT ports of all pairs. It belongs to that worker, which alone calls its methods;
// nothing locks. Times are engine time in milliseconds modulo 2^32, see Elapsed.
//
// A pair leases ports never used before in turn, and then those released, the longest released first, each not before
// PortQuiet has passed. It begins at a random port, since after a restart the targets may still be in TIME-WAIT with
// the ports of the process before. Sweep forgets a pair whose ports all rest; it then begins anew. Memory is allocated
// for new pairs, and while the number of ports a pair has ever leased grows, never in a steady state.
type Ports struct {
	worker, workers int
	random          rand.PCG
	numbers         map[Pair]uint32 // indices into pairs
	pairs           []pairPorts
	free            []uint32 // indices of pairs that are not in use
	cursor          int      // where Sweep goes on
}

// pairPorts is the state of the ports of one pair. Ports count from the first of the worker's slice.
type pairPorts struct {
	pair   Pair
	used   bool
	start  uint16 // the first port leased
	fresh  uint16 // ports leased for the first time: start and those after it, around the slice
	leased uint16
	rest   ring // ports released, in the order of their release
}

// NewPorts makes the ports of one worker, numbered from 0 to workers-1. Workers must be 1 or more.
func NewPorts(worker, workers int) *Ports {
	return &Ports{
		worker: worker, workers: workers,
		random:  *rand.NewPCG(rand.Uint64(), rand.Uint64()),
		numbers: make(map[Pair]uint32),
	}
}

// Pairs is the number of pairs that are known: those with ports leased or resting, until Sweep forgets them.
func (p *Ports) Pairs() int { return len(p.numbers) }

// InUse is the number of ports of a pair that are leased. Resting ports don't count.
func (p *Ports) InUse(pair Pair) int {
	n, ok := p.numbers[pair]
	if !ok {
		return 0
	}
	return int(p.pairs[n].leased)
}

// Lease takes a port of the pair's range in this worker's slice. It returns false when all ports are leased or resting.
func (p *Ports) Lease(pair Pair, now uint32) (port uint16, ok bool) {
	base, count := Slice(p.worker, p.workers, pair.Probe)
	n, ok := p.numbers[pair]
	if !ok {
		if count == 0 {
			return 0, false
		}
		n = p.add(pair, count)
	}
	s := &p.pairs[n]
	if int(s.fresh) < count {
		port = uint16(base + (int(s.start)+int(s.fresh))%count)
		s.fresh++
	} else if port, ok = s.rest.pop(now); !ok {
		return 0, false
	}
	s.leased++
	return port, true
}

// Release gives a leased port back, exactly once. The port rests from the time at, which is now, or earlier by as long
// as the flow has been closed already. A port outside of the slice and one of a pair without leases are ignored.
func (p *Ports) Release(pair Pair, port uint16, at uint32) {
	base, count := Slice(p.worker, p.workers, pair.Probe)
	n, ok := p.numbers[pair]
	if !ok || p.pairs[n].leased == 0 || int(port) < base || int(port) >= base+count {
		return
	}
	s := &p.pairs[n]
	s.leased--
	s.rest.push(resting{at: at, port: port}, count)
}

// Sweep looks at the next n pairs, or at all if they are fewer, and forgets those that have no port leased and no port
// that still rests. It goes on from there in the next call, around and around.
func (p *Ports) Sweep(n int, now uint32) {
	for range min(n, len(p.pairs)) {
		i := p.cursor
		if p.cursor++; p.cursor >= len(p.pairs) {
			p.cursor = 0
		}
		if s := &p.pairs[i]; s.used && s.leased == 0 && s.rest.over(now) {
			delete(p.numbers, s.pair)
			*s = pairPorts{rest: s.rest.emptied()}
			p.free = append(p.free, uint32(i))
		}
	}
}

// add makes a pair known that has count ports, and returns its index.
func (p *Ports) add(pair Pair, count int) uint32 {
	var n uint32
	if last := len(p.free) - 1; last >= 0 {
		n, p.free = p.free[last], p.free[:last]
	} else {
		n = uint32(len(p.pairs))
		p.pairs = append(p.pairs, pairPorts{})
	}
	s := &p.pairs[n]
	s.pair, s.used, s.start = pair, true, uint16(p.random.Uint64()%uint64(count))
	p.numbers[pair] = n
	return n
}
