// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// scenario is a story told in packets: what goes in, and what comes out of it.
type scenario struct {
	name  string             // by what happens
	about string             // one sentence
	with  []func(*vpc.State) // what differs from newState
	cfg   Config
	// noPcap marks a scenario whose packets are too many, or are super-packets, which a pcap cannot hold; its steps
	// check what comes out themselves.
	noPcap bool
	steps  []step
}

// step is something that happens in a story.
type step func(*story)

// story is a scenario being told.
type story struct {
	*bed
	diagram pkttest.Sequence
	in, out map[string][]frame // by port
	states  []*vpc.State
	// node and target are the ends of the connection whose SYN last left toward a target.
	node, target netip.AddrPort
	// last is what the last step sent, by port.
	last map[string][][]byte
}

// frame is a packet at a port and a time.
type frame struct {
	at   time.Duration
	data []byte
}

func tell(tb testing.TB, sc *scenario) *story {
	st := newState()
	for _, change := range sc.with {
		change(st)
	}
	s := &story{bed: newBed(tb, st, sc.cfg), in: map[string][]frame{}, out: map[string][]frame{}, states: []*vpc.State{st}}
	for _, do := range sc.steps {
		do(s)
	}
	return s
}

// party is who is behind a port, for the diagram.
func party(id string) string {
	switch id {
	case "consumer":
		return "client"
	case "provider":
		return "target"
	}
	return id
}

// inject delivers packets on a port, a millisecond after what came before, and notes what becomes of them.
func (s *story) inject(id string, pkts ...[]byte) {
	s.now += time.Millisecond
	for _, p := range pkts {
		s.in[id] = append(s.in[id], frame{s.now, p})
		s.diagram.Add(party(id), "isthmus", p)
	}
	if n := s.mem(id).Inject(0, pkts...); n != len(pkts) {
		s.Fatalf("port %s took %d of %d packets", id, n, len(pkts))
	}
	s.settle()
}

// settle takes turns until nothing is left to do, and collects what was sent.
func (s *story) settle() {
	before := s.engine.Stats().Drops
	s.step(0)
	for r, n := range s.engine.Stats().Drops {
		if n > before[r] {
			s.diagram.Note("isthmus", "drop: "+Reason(r).String())
		}
	}
	s.last = map[string][][]byte{}
	for _, id := range slices.Sorted(maps.Keys(s.ports)) {
		for _, p := range s.mem(id).Take(0) {
			s.last[id] = append(s.last[id], p)
			s.out[id] = append(s.out[id], frame{s.now, p})
			s.diagram.Add("isthmus", party(id), p)
			s.learn(p)
		}
	}
}

// learn remembers the connection that a SYN toward a target opens.
func (s *story) learn(pkt []byte) {
	p := pkttest.Decode(s, pkt)
	if p.TCP == nil || !p.TCP.SYN || p.TCP.ACK {
		return
	}
	src, _ := netip.AddrFromSlice(p.IP.SrcIP)
	dst, _ := netip.AddrFromSlice(p.IP.DstIP)
	s.node = netip.AddrPortFrom(src, uint16(p.TCP.SrcPort))
	s.target = netip.AddrPortFrom(dst, uint16(p.TCP.DstPort))
}

// fromClient is a segment from the client to the endpoint, unless it says otherwise.
func fromClient(p pkttest.TCP) step {
	return func(s *story) {
		if !p.Src.IsValid() {
			p.Src = clientAddr
		}
		if !p.Dst.IsValid() {
			p.Dst = endpointAddr
		}
		s.inject("consumer", p.Bytes())
	}
}

// fromTarget is a segment from the target of the newest connection to the node, unless it says otherwise.
func fromTarget(p pkttest.TCP) step {
	return func(s *story) {
		q := p
		if !q.Src.IsValid() {
			q.Src = s.target
		}
		if !q.Dst.IsValid() {
			q.Dst = s.node
		}
		s.inject("provider", q.Bytes())
	}
}

// packets are any packets on a port, received in one batch.
func packets(id string, make func(*story) [][]byte) step {
	return func(s *story) { s.inject(id, make(s)...) }
}

// raw is one packet on a port.
func raw(id string, pkt []byte) step { return func(s *story) { s.inject(id, pkt) } }

// wait lets time pass as for a worker that sleeps: it wakes when it has asked to.
func wait(d time.Duration) step {
	return func(s *story) {
		s.diagram.Note("isthmus", "after "+d.String())
		for end := s.now + d; s.now < end; s.settle() {
			nap := end - s.now
			for _, w := range s.engine.workers {
				nap = min(nap, w.patience())
			}
			s.now += nap
		}
	}
}

// change applies another state.
func change(what string, edit func(*vpc.State)) step {
	return func(s *story) {
		st := clone(s.state)
		edit(st)
		s.diagram.Note("isthmus", what)
		s.states = append(s.states, st)
		s.apply(st)
	}
}

// health tells the engine the health of targets.
func health(h map[TargetID]Health) step {
	return func(s *story) {
		for _, id := range slices.SortedFunc(maps.Keys(h), func(a, b TargetID) int { return a.Address.Compare(b.Address) }) {
			s.diagram.Note("isthmus", fmt.Sprintf("target %v is %v", id.Address, h[id]))
		}
		if err := s.engine.SetHealth(h); err != nil {
			s.Fatal(err)
		}
	}
}

// endDraining ends the connections of draining targets.
func endDraining(ids ...TargetID) step {
	return func(s *story) {
		s.diagram.Note("isthmus", "the deregistration delay has passed")
		if err := s.engine.EndDraining(ids); err != nil {
			s.Fatal(err)
		}
	}
}

// losePort takes a port away, as when its namespace goes.
func losePort(id string) step {
	return func(s *story) {
		s.diagram.Note(party(id), "the namespace is gone")
		delete(s.ports, id)
		s.applyPorts(s.state)
	}
}

// wantDrops checks that a reason has been counted n times.
func wantDrops(r Reason, n uint64) step {
	return func(s *story) {
		if got := s.dropped(r); got != n {
			s.Errorf("%d packets dropped as %v, want %d; all drops %v", got, r, n, s.drops())
		}
	}
}

const (
	clientISN = 1000
	targetISN = 9000
)

// syn and synAck are what Linux sends on a link of 9001 bytes.
var (
	syn = pkttest.TCP{Seq: clientISN, Flags: "S", Window: 62727,
		Options: []layers.TCPOption{pkttest.MSS(8961), pkttest.SACKPermitted(), pkttest.Timestamps(100, 0), pkttest.NOP(), pkttest.WScale(7)}}
	synAck = pkttest.TCP{Seq: targetISN, Ack: clientISN + 1, Flags: "SA", Window: 62643,
		Options: []layers.TCPOption{pkttest.MSS(8961), pkttest.SACKPermitted(), pkttest.Timestamps(700, 100), pkttest.NOP(), pkttest.WScale(7)}}
)

// handshake opens a connection.
var handshake = []step{fromClient(syn), fromTarget(synAck), fromClient(ack(clientISN+1, targetISN+1))}

// ack is a segment without data, and data one with.
func ack(seq, ack uint32) pkttest.TCP { return data(seq, ack, "") }

func data(seq, ack uint32, payload string) pkttest.TCP {
	p := pkttest.TCP{Seq: seq, Ack: ack, Flags: "A", Window: 491, Payload: []byte(payload),
		Options: []layers.TCPOption{pkttest.NOP(), pkttest.NOP(), pkttest.Timestamps(101, 701)}}
	if payload != "" {
		p.Flags = "PA"
	}
	return p
}

// flagged is a segment without data or options.
func flagged(flags string, seq, ack uint32) pkttest.TCP {
	return pkttest.TCP{Seq: seq, Ack: ack, Flags: flags, Window: 491}
}

// steps joins single steps and lists of them.
func steps(parts ...any) (out []step) {
	for _, p := range parts {
		switch p := p.(type) {
		case step:
			out = append(out, p)
		case func(*story):
			out = append(out, p)
		case []step:
			out = append(out, p...)
		default:
			panic(fmt.Sprintf("%T is no step", p))
		}
	}
	return out
}

// long is a payload of n bytes that shows where it was cut.
func long(n int) string {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d ", i)
	}
	return string(b.Bytes()[:n])
}
