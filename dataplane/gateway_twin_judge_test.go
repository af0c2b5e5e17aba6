// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// passage is a packet on its way through an endpoint.
type passage struct {
	endpoint int
	src, dst netip.AddrPort
	proto    int
	flags    string
	seq      uint32
	inner    []byte
	fragment bool // of UDP
	later    bool // a fragment without ports
	orphan   bool // whose first fragment was never there
}

// key names the flow of a packet that goes through an endpoint: zone, VPC, and what the stickiness says.
func (w *gatewayTwin) key(p *passage) (key string, direction int) {
	a, b := p.src, p.dst
	if a.Compare(b) > 0 {
		a, b, direction = b, a, 1
	}
	tuple := fmt.Sprint(a.Addr(), b.Addr())
	switch {
	case w.kind == vpc.FiveTuple && p.proto != 1:
		tuple = fmt.Sprint(p.proto, a, b)
	case w.kind != vpc.TwoTuple:
		tuple = fmt.Sprint(p.proto, a.Addr(), b.Addr())
	}
	return w.endpoints[p.endpoint].vpc + " " + w.endpoints[p.endpoint].zone + " " + tuple, direction
}

// belongs says whether a packet is taken for one of the flow that another one is of: whatever endpoint it came through, and
// what a later fragment does not tell being as it should.
func (w *gatewayTwin) belongs(p, to *tunnelled) bool {
	tuple := func(t *tunnelled) string { return strings.SplitN(t.key, " ", 3)[2] }
	if !p.later || w.kind == vpc.TwoTuple {
		return tuple(p) == tuple(to)
	}
	addrs := func(pkt []byte) []byte {
		if pkt[0]>>4 == 6 {
			return pkt[8:40]
		}
		return pkt[12:20]
	}
	a, b := addrs(p.inner), addrs(to.inner)
	if p.direction != to.direction {
		b = append(bytes.Clone(b[len(b)/2:]), b[:len(b)/2]...)
	}
	return bytes.Equal(a, b) && (len(a) == 32 || p.inner[9] == to.inner[9])
}

func (w *gatewayTwin) lapsed(f *inspectedFlow) bool { return w.now-f.seen >= f.idle }

func (w *gatewayTwin) alive(r endRef) bool { return r.set && w.endpoints[r.endpoint].gen == r.gen }

func (w *gatewayTwin) deserted(f *inspectedFlow) bool {
	return !w.alive(f.ends[0]) && !w.alive(f.ends[1])
}

// failsOpen says whether all appliances that a zone might use are unhealthy.
func (w *gatewayTwin) failsOpen(zone string) bool {
	for _, a := range w.appliances {
		if a.inState && !a.draining && !a.sick && (w.crossZone || a.zone == zone) {
			return false
		}
	}
	return true
}

// takesNew says whether an appliance gets new flows of a zone.
func (w *gatewayTwin) takesNew(i int, zone string) bool {
	a := &w.appliances[i]
	return a.inState && !a.draining && (w.crossZone || a.zone == zone) && (!a.sick || w.failsOpen(zone))
}

func (w *gatewayTwin) anyTakesNew(zone string) bool {
	for i := range w.appliances {
		if w.takesNew(i, zone) {
			return true
		}
	}
	return false
}

// failed says how an appliance has failed its flows: "" not at all, "sick" or "gone".
func (w *gatewayTwin) failed(i int) string {
	a := &w.appliances[i]
	switch {
	case a.ended:
		return "gone"
	case a.sick && (!a.inState || !w.failsOpen(a.zone)):
		return "sick"
	}
	return ""
}

// What becomes of a packet that is routed through an endpoint.
const (
	staysWith = iota // the flow's appliance
	goesToNew        // any that takes new flows
	isReset
	isSilent
)

// expect says what has to become of a packet, and follows it as far as that is certain.
func (w *gatewayTwin) expect(p *passage, key string, d int) (what int, f *inspectedFlow) {
	e := &w.endpoints[p.endpoint]
	if e.gen == 0 || p.orphan {
		return isSilent, nil
	}
	if f = w.flows[key]; f != nil && (w.deserted(f) || w.lapsed(f)) {
		if !w.deserted(f) {
			w.counts["expired"]++
		}
		delete(w.flows, key)
		f = nil
	}
	connections := p.proto == 6 && w.kind == vpc.FiveTuple
	reset := isReset
	if p.flags == "R" || p.later {
		reset = isSilent
	}
	switch {
	case f == nil && connections && p.flags != "S" && w.resetIdle:
		return reset, nil
	case f == nil && connections && p.flags != "S":
		return isSilent, nil
	case f == nil && !w.anyTakesNew(e.zone):
		w.counts["no target"]++
		return isSilent, nil
	case f == nil:
		return goesToNew, nil
	case connections && p.flags == "S" && f.isn[d] != p.seq:
		if !w.takesNew(f.target, e.zone) {
			if !w.anyTakesNew(e.zone) {
				return isSilent, nil
			}
			what = goesToNew
		}
		f.isn[d], f.ended, f.cookie, f.previous = p.seq, false, 0, -1
		w.counts["reopened"]++
		return what, f
	case f.ended:
		return reset, f
	}
	switch why := w.failed(f.target); {
	case why == "":
	case w.rebalance && !w.anyTakesNew(e.zone):
		w.counts["no target"]++
		return isSilent, f
	case w.rebalance:
		f.previous, f.previousLeft = f.target, w.appliances[f.target].left
		if !w.appliances[f.target].inState {
			f.previousLeft = -1
		}
		w.counts["moved"]++
		return goesToNew, f
	case p.proto == 6 && (why == "sick" && w.resetSick || why == "gone" && w.resetGone):
		f.ended = true
		return reset, f
	}
	return staysWith, f
}

// carry sends a packet through its endpoint and judges what becomes of it.
func (w *gatewayTwin) carry(p *passage) {
	w.Helper()
	key, d := w.key(p)
	e := &w.endpoints[p.endpoint]
	what, f := w.expect(p, key, d)
	out := w.deliver(e.port, p.inner)
	sent := out["provider"]
	w.traceOf(out)
	switch {
	case what == isReset:
		w.counts["reset"]++
		if back := out[e.port]; len(sent) != 0 || len(back) != 1 || !pkttest.Decode(w, back[0]).TCP.RST {
			w.Errorf("%d packets went out and %d back, want a RST", len(sent), len(back))
		}
		return
	case what == isSilent:
		w.counts["silent"]++
		if len(out) != 0 {
			w.Errorf("%v was sent, want silence", out)
		}
		return
	case len(out) != 1 || len(sent) != 1:
		w.Errorf("%d packets went out, %d ports sent; want one; drops %v", len(sent), len(out), w.drops())
		return
	}
	pkt := sent[0]
	to := w.applianceOf(pkt)
	if f == nil {
		f = &inspectedFlow{previous: -1, idle: 120 * time.Second}
		f.isn[d] = p.seq
		if p.proto == 6 {
			f.idle = 350 * time.Second
		}
		w.flows[key] = f
		w.counts["begun"]++
	}
	if w.kind == vpc.TwoTuple && p.proto == 6 {
		f.idle = 350 * time.Second
	}
	if what == goesToNew {
		f.target, f.source = to, [2]byte(pkt[20:])
		if !w.takesNew(to, e.zone) {
			w.Errorf("went to appliance %d, which takes no new flows", to)
		}
	}
	w.judgeTunnel(p, f, key, pkt)
	f.seen, f.ends[d] = w.now, endRef{p.endpoint, e.gen, true}
	w.flying = append(w.flying, tunnelled{pkt, p.inner, key, d, to, p.later})
	w.headers = append(w.headers, w.flying[len(w.flying)-1])
}

// judgeTunnel checks the headers around a packet of a flow.
func (w *gatewayTwin) judgeTunnel(p *passage, f *inspectedFlow, key string, pkt []byte) {
	w.Helper()
	node := nodeAddr
	if w.endpoints[p.endpoint].zone == zone2 {
		node = netip.MustParseAddr("10.0.1.11")
	}
	if w.applianceOf(pkt) != f.target || netip.AddrFrom4([4]byte(pkt[12:16])) != node || [2]byte(pkt[20:]) != f.source ||
		endpointOf(pkt) != w.endpoints[p.endpoint].number || !bytes.Equal(pkt[innerStart:], p.inner) {
		w.Errorf("went out as %s, want to appliance %d", pkttest.Describe(pkt), f.target)
	}
	if f.cookie == 0 {
		f.cookie = cookieOf(pkt)
		for other, g := range w.flows {
			if other != key && g.cookie == f.cookie && !w.lapsed(g) && !w.deserted(g) {
				w.Errorf("cookie %x is that of %s too", f.cookie, other)
			}
		}
		for _, h := range w.headers {
			if h.key == key && cookieOf(h.pkt) == f.cookie {
				w.Errorf("cookie %x is an old one", f.cookie)
			}
		}
	}
	if cookieOf(pkt) != f.cookie {
		w.Errorf("cookie %x, want %x", cookieOf(pkt), f.cookie)
	}
}

func (w *gatewayTwin) applianceOf(pkt []byte) int {
	for i := range w.appliances {
		if applianceN(i).Addr() == outerDst(pkt) {
			return i
		}
	}
	w.Fatalf("a packet went to %v", outerDst(pkt))
	return 0
}

// returnPacket has an appliance return a packet: mostly one that it holds, under its own header or another.
func (w *gatewayTwin) returnPacket() {
	if len(w.flying) == 0 {
		return
	}
	i := w.r.IntN(len(w.flying))
	held := w.flying[i]
	w.flying = append(w.flying[:i:i], w.flying[i+1:]...)
	header := held
	if n := len(w.headers); w.r.IntN(3) == 0 {
		header = w.headers[max(0, n-1-w.r.IntN(10))]
		w.counts["other header"]++
	}
	pkt := returned(header.pkt, swapInner(held.inner))
	from := header.appliance
	if w.r.IntN(8) == 0 {
		from = w.r.IntN(len(w.appliances))
		copy(pkt[12:16], applianceN(from).Addr().AsSlice())
		pkt = returned(hairpin(pkt))
	}
	leavesBy, certain := w.mayReturn(held, header, from)
	w.note("appliance %d returns %s", from, pkttest.Describe(pkt))
	out := w.deliver("provider", pkt)
	w.traceOf(out)
	switch list := out[leavesBy]; {
	case len(out) == 0 && (leavesBy == "" || !certain):
		w.counts["refused"]++
	case len(out) != 1 || len(list) != 1 || !bytes.Equal(list[0], held.inner):
		w.Errorf("%v was sent, want one packet to %q; drops %v", out, leavesBy, w.drops())
	default:
		w.counts["returned"]++
		w.flows[header.key].seen = w.now
	}
}

// mayReturn is the port by which a packet leaves that appliance from returns under a header, "" when it must not. What
// comes from an appliance that has left the state and is not the flow's any more is not certain: it is known for as long as
// it has flows.
func (w *gatewayTwin) mayReturn(held, header tunnelled, from int) (port string, certain bool) {
	f := w.flows[header.key]
	if f == nil || !w.belongs(&held, &header) || w.lapsed(f) || w.deserted(f) || cookieOf(header.pkt) != f.cookie {
		return "", true
	}
	if from != f.target && from != f.previous {
		return "", true
	}
	named := false
	for _, r := range f.ends {
		named = named || w.alive(r) && w.endpoints[r.endpoint].number == endpointOf(header.pkt)
	}
	leave := f.ends[held.direction]
	if !leave.set { // nothing of that direction has come: it is the appliance's own
		leave = f.ends[1-held.direction]
	}
	if !named || !w.alive(leave) {
		return "", true
	}
	if from != f.target {
		w.counts["previous"]++
	}
	return w.endpoints[leave.endpoint].port, from == f.target || w.appliances[from].inState && w.appliances[from].left == f.previousLeft
}

// traceOf notes what was sent, as far as it does not depend on which worker sent it.
func (w *gatewayTwin) traceOf(out map[string][][]byte) {
	line := ""
	for _, id := range []string{"consumer", "edge", "zone-2", "stranger", "provider"} {
		for _, pkt := range out[id] {
			line += fmt.Sprint(id, " ", outerDst(pkt), " ", len(pkt), " ")
		}
	}
	w.trace = append(w.trace, line)
}
