// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// segment is a neighbour table on an imaginary wire: frames are written down, time is set by the test.
type segment struct {
	t      *testing.T
	n      *neighbours
	l      *link
	clock  time.Duration
	frames []string
}

var (
	eni     = netip.MustParseAddr("10.0.0.50")
	peerIP  = [4]byte{10, 0, 0, 7}
	peerMAC = [6]byte{2, 0, 0, 0, 0, 7}
	gateIP  = [4]byte{10, 0, 0, 1}
	gateMAC = [6]byte{2, 0, 0, 0, 0, 1}
)

func newSegment(t *testing.T) *segment {
	s := &segment{t: t, clock: time.Hour}
	s.n = newNeighbours(&Config{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24"),
		Gateway: netip.AddrFrom4(gateIP), Now: func() time.Duration { return s.clock }}, s)
	s.l = &link{n: s.n}
	return s
}

// writeFrame is part of frameWriter.
func (s *segment) writeFrame(b *Buffer, header *[wire.EtherLen]byte) (sent, refused uint64) {
	eth := wire.Ethernet(header[:])
	if eth.EtherType() == wire.EtherTypeARP {
		arp, ok := wire.ParseARP(b.Bytes())
		if !ok || arp.SenderMAC() != eth.Src() {
			s.t.Errorf("bad ARP frame %x %x", header, b.Bytes())
		}
		s.frames = append(s.frames, fmt.Sprintf("arp %d %v tells %v to %x", arp.Op(), arp.SenderIP(), arp.TargetIP(), eth.Dst()))
	} else {
		s.frames = append(s.frames, fmt.Sprintf("ip %s to %x from %x", b.Bytes()[20:], eth.Dst(), eth.Src()))
	}
	return 1, 0
}

// send resolves a packet and lets the table's owner have its turn.
func (s *segment) send(dst [4]byte, payload string) hopState {
	s.t.Helper()
	b := NewBuffer()
	p := b.SetLen(wire.IPv4MinLen + len(payload))
	wire.IPv4(p).Init(len(p), 17, 64, eni.As4(), dst)
	copy(p[wire.IPv4MinLen:], payload)
	var header [wire.EtherLen]byte
	state := s.l.resolve(b, &header)
	if state == hopKnown {
		s.writeFrame(b, &header)
	}
	s.turn()
	return state
}

func (s *segment) turn() {
	var it *item
	select {
	case it = <-s.n.in:
	default:
	}
	s.n.turn(it)
}

func (s *segment) pass(d time.Duration) {
	for end := s.clock + d; s.clock < end; {
		s.clock = min(end, max(s.n.nextCheck, s.clock+1))
		s.turn()
	}
}

// arp delivers a frame to us as from the wire.
func (s *segment) arp(op uint16, ip [4]byte, mac [6]byte, target [4]byte, to [6]byte) frameClass {
	b := NewBuffer()
	var body [wire.ARPLen]byte
	wire.PutARP(body[:], op, mac, ip, [6]byte{}, target)
	var header [wire.EtherLen]byte
	putHeader(&header, to, mac, wire.EtherTypeARP)
	copy(b.SetLen(wire.EtherLen+wire.ARPLen), header[:])
	copy(b.Bytes()[wire.EtherLen:], body[:])
	class := s.l.classify(b)
	s.turn()
	return class
}

func (s *segment) want(frames ...string) {
	s.t.Helper()
	if len(frames) != len(s.frames) {
		s.t.Fatalf("frames:\n got %q\nwant %q", s.frames, frames)
	}
	for i := range frames {
		if frames[i] != s.frames[i] {
			s.t.Fatalf("frame %d:\n got %q\nwant %q", i, s.frames[i], frames[i])
		}
	}
	s.frames = nil
}

// ours is the link address of eni; all of these tests know it by its hexadecimal form.
func ours() [6]byte { return macOf(nameHash("p"), eni.As4()) }

func TestNeighbourResolvesAndSends(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.want("arp 1 [10 0 0 50] tells [10 0 0 50] to ffffffffffff")
	if got := s.send(peerIP, "one"); got != hopWaiting {
		t.Fatal(got)
	}
	s.send(peerIP, "two")
	s.want("arp 1 [10 0 0 50] tells [10 0 0 7] to ffffffffffff")
	s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), ours())
	s.want(fmt.Sprintf("ip one to 020000000007 from %x", ours()), fmt.Sprintf("ip two to 020000000007 from %x", ours()))
	if got := s.send(peerIP, "three"); got != hopKnown {
		t.Fatal(got)
	}
	s.want(fmt.Sprintf("ip three to 020000000007 from %x", ours()))
	if s.n.txPackets.Load() != 2 || len(s.n.free) != maxWaiting {
		t.Errorf("%d packets counted, %d items free", s.n.txPackets.Load(), len(s.n.free))
	}
}

func TestNeighbourGateway(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.frames = nil
	s.send([4]byte{192, 0, 2, 1}, "far")
	s.want("arp 1 [10 0 0 50] tells [10 0 0 1] to ffffffffffff")
	s.arp(wire.ARPReply, gateIP, gateMAC, eni.As4(), ours())
	s.want(fmt.Sprintf("ip far to 020000000001 from %x", ours()))
}

func TestNeighbourGivesUp(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.pass(announceEvery)
	s.frames = nil
	s.send(peerIP, "lost")
	s.pass(10 * time.Second)
	ask := "arp 1 [10 0 0 50] tells [10 0 0 7] to ffffffffffff"
	s.want(ask, ask, ask)
	if s.n.neighbours.Load() != 1 || len(s.n.hops) != 0 || len(s.n.free) != maxWaiting {
		t.Errorf("%d dropped, %d hops, %d items free", s.n.neighbours.Load(), len(s.n.hops), len(s.n.free))
	}
}

func TestNeighbourAgeing(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.pass(announceEvery)
	s.send(peerIP, "x")
	s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), ours())
	s.frames = nil
	probe := "arp 1 [10 0 0 50] tells [10 0 0 7] to 020000000007"

	// Used: asked again by unicast, and kept when it answers.
	s.pass(arpReachable)
	s.want(probe)
	if s.send(peerIP, "y") != hopKnown {
		t.Fatal("unusable while being asked again")
	}
	s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), ours())
	s.pass(arpReachable)
	s.want(fmt.Sprintf("ip y to 020000000007 from %x", ours()), probe)
	s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), ours())

	// Not used since: forgotten without a question.
	s.pass(arpReachable)
	s.want()
	if len(s.n.hops) != 0 || len(s.n.table.Load().hops) != 0 {
		t.Fatal("not forgotten")
	}
}

func TestNeighbourThatStopsAnswering(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.send(peerIP, "x")
	s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), ours())
	s.send(peerIP, "y")
	s.pass(arpReachable + arpTries*arpRetry)
	if len(s.n.table.Load().hops) != 0 {
		t.Fatal("still there")
	}
	if s.send(peerIP, "z") != hopWaiting {
		t.Fatal("not asked for anew")
	}
}

func TestNeighbourAnswersAndLearns(t *testing.T) {
	s := newSegment(t)
	if s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC); len(s.frames) != 0 {
		t.Fatal("answered for an address we do not have")
	}
	s.n.setAddresses([]netip.Addr{eni})
	s.frames = nil
	if class := s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC); class != frameControl {
		t.Fatal(class)
	}
	s.want("arp 2 [10 0 0 50] tells [10 0 0 7] to 020000000007")
	if s.send(peerIP, "known") != hopKnown {
		t.Fatal("a station that asked for us is not known")
	}
	// Its link address changes: by an announcement of its own.
	moved := [6]byte{2, 0, 0, 0, 0, 8}
	s.arp(wire.ARPRequest, peerIP, moved, peerIP, broadcastMAC)
	s.frames = nil
	s.send(peerIP, "moved")
	s.want(fmt.Sprintf("ip moved to 020000000008 from %x", ours()))
}

func TestNeighbourIgnores(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*segment)
	}{
		{"a claim of our address", func(s *segment) { s.arp(wire.ARPRequest, eni.As4(), peerMAC, eni.As4(), broadcastMAC) }},
		{"a multicast sender", func(s *segment) {
			s.arp(wire.ARPRequest, peerIP, [6]byte{1, 0, 0, 0, 0, 7}, eni.As4(), broadcastMAC)
		}},
		{"talk of others", func(s *segment) { s.arp(wire.ARPRequest, peerIP, peerMAC, gateIP, broadcastMAC) }},
		{"an answer not asked for", func(s *segment) { s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), ours()) }},
		{"an answer to somebody else", func(s *segment) { s.arp(wire.ARPReply, peerIP, peerMAC, eni.As4(), peerMAC) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSegment(t)
			s.n.setAddresses([]netip.Addr{eni})
			s.frames = nil
			c.do(s)
			s.want()
			if len(s.n.hops) != 0 {
				t.Error("learned from it")
			}
		})
	}
}

func TestNeighbourOffLinkSenderIsAnsweredNotLearned(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.frames = nil
	s.arp(wire.ARPRequest, [4]byte{}, peerMAC, eni.As4(), broadcastMAC)
	s.want("arp 2 [10 0 0 50] tells [0 0 0 0] to 020000000007")
	if len(s.n.hops) != 0 {
		t.Error("learned from a probe")
	}
}

func TestNeighbourBounds(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	for range maxWaitingPerHop + 3 {
		s.send(peerIP, "x")
	}
	if got := s.n.neighbours.Load(); got != 3 {
		t.Errorf("%d dropped with one hop's queue full, want 3", got)
	}
	// Different hops, until no item is left.
	state := hopWaiting
	for i := byte(100); state == hopWaiting; i++ {
		for range maxWaitingPerHop {
			if state = s.send([4]byte{10, 0, 0, i}, "x"); state != hopWaiting {
				break
			}
		}
	}
	if state != hopNone || len(s.n.free) != 0 {
		t.Errorf("state %v, %d items free", state, len(s.n.free))
	}
}

func TestNeighbourAnnouncements(t *testing.T) {
	s := newSegment(t)
	second := netip.MustParseAddr("10.0.0.51")
	s.n.setAddresses([]netip.Addr{eni, netip.MustParseAddr("::1"), eni})
	s.pass(5 * time.Second)
	a := "arp 1 [10 0 0 50] tells [10 0 0 50] to ffffffffffff"
	s.want(a, a)
	s.n.setAddresses([]netip.Addr{second, eni})
	s.pass(5 * time.Second)
	b := "arp 1 [10 0 0 51] tells [10 0 0 51] to ffffffffffff"
	s.want(b, b)
	s.n.setAddresses([]netip.Addr{second})
	s.want()
	s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC)
	s.want()
}

func TestLinkClassify(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	for _, c := range []struct {
		name      string
		dst       [6]byte
		etherType uint16
		want      frameClass
	}{
		{"ours", ours(), wire.EtherTypeIPv4, frameOurs},
		{"IPv6 to us", ours(), wire.EtherTypeIPv6, frameOurs},
		{"VLAN to us", ours(), 0x8100, frameInvalid},
		{"another port's", macOf(nameHash("p")+1, eni.As4()), wire.EtherTypeIPv4, frameForeign},
		{"an address we lack", macOf(nameHash("p"), peerIP), wire.EtherTypeIPv4, frameForeign},
		{"broadcast", broadcastMAC, wire.EtherTypeIPv4, frameForeign},
		{"multicast", [6]byte{0x33, 0x33}, wire.EtherTypeIPv6, frameForeign},
	} {
		b := NewBuffer()
		eth := wire.Ethernet(b.SetLen(60))
		eth.SetDst(c.dst)
		eth.SetEtherType(c.etherType)
		if got := s.l.classify(b); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if c.want == frameOurs && b.Via != eni.As4() {
			t.Errorf("%s: via %v", c.name, b.Via)
		}
	}
	b := NewBuffer()
	b.SetLen(13)
	if s.l.classify(b) != frameInvalid {
		t.Error("a frame without a header passes")
	}
}

func TestLinkSource(t *testing.T) {
	s := newSegment(t)
	second := [4]byte{10, 0, 0, 60}
	s.n.setAddresses([]netip.Addr{eni, netip.AddrFrom4(second)})
	s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC)
	for _, c := range []struct {
		name           string
		src, via, want [4]byte
	}{
		{"its own", second, [4]byte{}, second},
		{"via", [4]byte{1, 2, 3, 4}, second, second},
		{"neither", [4]byte{1, 2, 3, 4}, [4]byte{}, eni.As4()},
	} {
		b := NewBuffer()
		wire.IPv4(b.SetLen(20)).Init(20, 17, 64, c.src, peerIP)
		b.Via = c.via
		var h [wire.EtherLen]byte
		if s.l.resolve(b, &h) != hopKnown || wire.Ethernet(h[:]).Src() != macOf(nameHash("p"), c.want) {
			t.Errorf("%s: header %x", c.name, h)
		}
	}
}

func TestLinkHasNoWay(t *testing.T) {
	s := newSegment(t)
	if s.send(peerIP, "x") != hopNone {
		t.Error("sent without an address of ours")
	}
	s.n.setAddresses([]netip.Addr{eni})
	if s.send(eni.As4(), "x") != hopNone {
		t.Error("sent to ourselves")
	}
	s.n.gateways = false
	if s.send([4]byte{192, 0, 2, 1}, "x") != hopNone {
		t.Error("sent off link without a gateway")
	}
	b := NewBuffer()
	b.SetLen(40)[0] = 6 << 4
	var h [wire.EtherLen]byte
	if s.l.resolve(b, &h) != hopNone {
		t.Error("sent IPv6")
	}
}

func TestLinkDoesNotAllocate(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC)
	a, b := NewBuffer(), NewBuffer()
	wire.IPv4(a.SetLen(20)).Init(20, 17, 64, eni.As4(), peerIP)
	wire.IPv4(b.SetLen(20)).Init(20, 17, 64, [4]byte{9, 9, 9, 9}, peerIP)
	var h [wire.EtherLen]byte
	if n := testing.AllocsPerRun(100, func() {
		s.l.resolve(a, &h)
		s.l.resolve(b, &h)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNeighbourLoop runs the owner's goroutine in virtual time.
func TestNeighbourLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &segment{t: t}
		s.n = newNeighbours(&Config{Name: "p", Subnet: netip.MustParsePrefix("10.0.0.0/24")}, s)
		go s.n.run()
		s.n.setAddresses([]netip.Addr{eni})
		b := NewBuffer()
		wire.IPv4(b.SetLen(20)).Init(20, 17, 64, eni.As4(), peerIP)
		l := link{n: s.n}
		var h [wire.EtherLen]byte
		if got := l.resolve(b, &h); got != hopWaiting {
			t.Fatal(got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s.n.mu.Lock()
		frames := len(s.frames)
		s.n.mu.Unlock()
		if frames != announceCount+arpTries || s.n.neighbours.Load() != 1 {
			t.Errorf("%d frames, %d dropped", frames, s.n.neighbours.Load())
		}
		if !s.n.close() || s.n.close() {
			t.Error("close does not know whether it was the first")
		}
		s.n.setAddresses(nil)
	})
}
