// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// judge compares what has become of a packet with what should have: on is what went on to the other side, back what was
// sent back.
func (w *twin) judge(want int, p pkttest.TCP, f *twinFlow, on, back [][]byte) {
	w.Helper()
	if want == opens {
		w.judgeOpening(p, on, back)
		return
	}
	var wantOn, wantBack int
	switch want {
	case passes:
		wantOn = 1
		w.forwarded++
	case answered:
		wantBack = 1
		w.refused++
	case answeredOrVanishes:
		wantBack = len(back)
	}
	if len(on) != wantOn || len(back) != wantBack {
		w.Errorf("%d packets went on, %d back; want %d and %d; drops %v", len(on), len(back), wantOn, wantBack, w.drops())
		return
	}
	if wantBack == 1 {
		w.judgeReset(p, w.one(back))
	}
	if wantOn == 0 {
		return
	}
	src, dst := ends(w, w.one(on))
	if p.Src == f.client {
		if src != netip.AddrPortFrom(nodeAddr, f.port) || dst != targetN(f.target) {
			w.Errorf("went on from %v to %v, want from port %d to target %d", src, dst, f.port, f.target)
		}
	} else if src != endpointAddr || dst != f.client {
		w.Errorf("went on from %v to %v, want to %v", src, dst, f.client)
	}
}

// judgeReset checks the RST that answers a packet.
func (w *twin) judgeReset(p pkttest.TCP, rst []byte) {
	w.Helper()
	got := pkttest.Decode(w, rst).TCP
	src, dst := ends(w, rst)
	wantSeq, wantAck := p.Ack, uint32(0)
	if p.Flags == "S" {
		wantSeq, wantAck = 0, p.Seq+1
	}
	if src != p.Dst || dst != p.Src || !got.RST || got.Seq != wantSeq || got.Ack != wantAck || got.ACK != (p.Flags == "S") {
		w.Errorf("answered with %s", pkttest.Describe(rst))
	}
}

// judgeOpening checks what a SYN for a new connection has led to: a target that takes new ones, and a port that is free.
func (w *twin) judgeOpening(p pkttest.TCP, on, back [][]byte) {
	w.Helper()
	for client, f := range w.flows {
		if client == p.Src || w.lapsed(f) {
			w.close(f)
		}
	}
	if len(on) == 0 {
		w.judgeReset(p, w.one(back))
		w.judgeRefusal()
		return
	}
	w.opened++
	src, dst := ends(w, w.one(on))
	target := -1
	for i := range twinTargets {
		if targetN(i) == dst {
			target = i
		}
	}
	if target < 0 || src.Addr() != nodeAddr || !w.takesNew(target) {
		w.Errorf("opened from %v to %v, which takes no new connections", src, dst)
		return
	}
	for _, f := range w.flows {
		if f.target == target && f.port == src.Port() {
			w.Errorf("port %d toward target %d is that of %+v", src.Port(), target, f)
		}
	}
	key := twinPort{target, src.Port()}
	if at, ok := w.rests[key]; ok && w.now-at < flow.PortQuiet*time.Millisecond {
		w.Errorf("port %d toward target %d has rested for %v only", src.Port(), target, w.now-at)
	}
	delete(w.rests, key)
	w.flows[p.Src] = &twinFlow{client: p.Src, isn: p.Seq, target: target, port: src.Port(), endpoint: w.endpoint, state: flow.Opening, seen: w.now}
}

// judgeRefusal checks that a SYN was refused for a reason: there is no target, or a target that it might have gone to has
// no port that has been free for longer than expiry takes to notice.
func (w *twin) judgeRefusal() {
	w.Helper()
	const slack = 10 * time.Second
	none := true
	for i := range twinTargets {
		if !w.takesNew(i) {
			continue
		}
		none = false
		busy := 0
		for _, f := range w.flows {
			if f.target == i && w.now-f.seen < f.lifetime()+flow.PortQuiet*time.Millisecond+slack {
				busy++
			}
		}
		for key, at := range w.rests {
			if key.target == i && w.now-at < flow.PortQuiet*time.Millisecond+slack {
				busy++
			}
		}
		if busy >= twinPorts {
			w.exhausted++
			return
		}
	}
	if !none {
		w.Errorf("refused although all targets have ports left; drops %v", w.drops())
	}
}

// ends are source and destination of a packet.
func ends(w *twin, pkt []byte) (src, dst netip.AddrPort) { return endsOf(pkttest.Decode(w, pkt)) }

func endsOf(p pkttest.Packet) (src, dst netip.AddrPort) {
	s, _ := netip.AddrFromSlice(p.IP.SrcIP)
	d, _ := netip.AddrFromSlice(p.IP.DstIP)
	return netip.AddrPortFrom(s, uint16(p.TCP.SrcPort)), netip.AddrPortFrom(d, uint16(p.TCP.DstPort))
}
