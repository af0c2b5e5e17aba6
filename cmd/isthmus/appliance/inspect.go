// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Cause says why a packet went no further.
type Cause uint8

// Causes. Those up to MissingOption concern the GENEVE header.
const (
	Malformed      Cause = iota // lengths contradict each other
	BadVersion                  // not version 0
	Control                     // the O flag is set: nothing to forward
	CriticalOption              // an option that a receiver must know, and this one does not
	MissingOption               // not all three options of AWS's class are there, of their lengths
	BadInner                    // the inner packet is not of the announced protocol, or malformed
	ByRule                      // a rule says so
	Conflict                    // the tuple is another endpoint's flow, on a device they share
	TooMany                     // no room for one more endpoint, or no device for it
	UnknownFlow                 // the kernel sends a packet of no flow that has been seen
	NotSent                     // the kernel did not take it

	causeCount
)

var causes = [causeCount]string{"malformed", "bad-version", "control", "critical-option", "missing-option", "bad-inner", "by-rule",
	"conflict", "too-many-endpoints", "unknown-flow", "not-sent"}

// String is the cause in a word.
func (c Cause) String() string { return causes[c] }

// inspected is a datagram and what was found in it.
type inspected struct {
	datagram []byte
	header   []byte // GENEVE header and options
	packet   []byte // the inner packet, to the end that it says it has
	geneve   wire.GeneveAWS
	tuple    wire.Tuple
	flow     *flow
	way      int   // the packet's direction in the flow
	rule     *Rule // that it was dropped by
}

// inspect judges a datagram that came with m, and says whether it may pass. It counts it, remembers its header, and shows it
// where that is asked for. The caller holds mu.
func (a *Appliance) inspect(m *message, in *inspected) bool {
	a.received.count(1, len(in.datagram))
	cause, ok := a.judge(in)
	if in.flow != nil {
		w := &in.flow.ways[in.way]
		w.in.count(1, len(in.packet))
		w.endpoint.in.count(1, len(in.packet))
		if !ok {
			w.dropped++
			w.endpoint.dropped++
		}
		w.route, w.geneve = m.route, in.geneve
		w.header = append(w.header[:0], in.header...)
	}
	if !ok {
		a.dropped[cause]++
	}
	if a.print != nil {
		a.print.show(in, a.now, ok, cause)
	}
	return ok
}

// judge finds out what a datagram is and whether it may pass, and else why not. The flow is filled in for what is refused by
// its inner packet alone.
func (a *Appliance) judge(in *inspected) (cause Cause, ok bool) {
	if cause, ok = in.parse(); !ok {
		return cause, false
	}
	e, ok := a.endpoint(in.geneve.Endpoint)
	if !ok {
		return TooMany, false
	}
	scope := in.geneve.Endpoint
	if a.sharedDevice() {
		scope = 0
	}
	k, direction := keyOf(scope, &in.tuple)
	f := a.flows.find(&k, a.now)
	if f == nil {
		f = a.flows.open(&k)
		f.first = direction
	}
	if w := &f.ways[direction]; w.endpoint != nil && w.endpoint != e {
		e.dropped++
		return Conflict, false
	}
	f.ways[direction].endpoint = e
	f.seen = a.now
	in.flow, in.way = f, direction
	for i := range a.opts.Drop {
		if a.opts.Drop[i].matches(&in.tuple) {
			in.rule = &a.opts.Drop[i]
			return ByRule, false
		}
	}
	return 0, true
}

// parse reads the datagram, from its GENEVE header to the inner packet's ports. Options may come in any order and among others.
func (in *inspected) parse() (cause Cause, ok bool) {
	g, ok := wire.ParseGeneve(in.datagram)
	switch {
	case !ok:
		return Malformed, false
	case g.Version() != 0:
		return BadVersion, false
	case g.OAM():
		return Control, false
	case hasCritical(g):
		return CriticalOption, false
	}
	if in.geneve, ok = g.AWS(); !ok {
		return MissingOption, false
	}
	in.header = g[:g.HeaderLen():g.HeaderLen()]
	in.packet = g.Payload()
	if !in.tuple.Parse(in.packet) || in.geneve.Proto != etherType(&in.tuple) {
		return BadInner, false
	}
	in.packet = in.packet[:in.tuple.End]
	return 0, true
}

// criticalType is the bit of an option's type that makes it one a receiver must know (RFC 8926 section 3.5).
const criticalType = 1 << 7

// hasCritical says whether there is an option that a receiver must know. None of AWS's is one.
func hasCritical(g wire.Geneve) bool {
	for list := g.IterOptions(); ; {
		_, typ, _, ok := list.Next()
		if !ok {
			return false
		}
		if typ&criticalType != 0 {
			return true
		}
	}
}

func etherType(t *wire.Tuple) uint16 {
	if t.Version == 6 {
		return wire.EtherTypeIPv6
	}
	return wire.EtherTypeIPv4
}

// endpointsMost is how many endpoints can be told apart.
const endpointsMost = 4096

// endpoint is what is counted of an endpoint, from its first packet on. Where it is to have a device of its own, that is opened.
// The caller holds mu and runs in the appliance's namespace.
func (a *Appliance) endpoint(number uint64) (e *endpoint, ok bool) {
	if e = a.endpoints[number]; e != nil {
		return e, true
	}
	own := a.opts.Mode == TUN && !a.sharedDevice()
	if len(a.endpoints) == endpointsMost || own && len(a.tunnels) == devicesMost {
		return nil, false
	}
	e = &endpoint{number: number}
	switch {
	case own:
		t, err := a.openTunnel(number)
		if err != nil { // not the packet's fault, and the next one would fare no better
			a.carry.Go(func() error { return err })
			return nil, false
		}
		e.tunnel = t
		a.carry.Go(func() error { return a.outward(t) })
	case a.opts.Mode == TUN:
		e.tunnel = a.tunnels[0]
	}
	a.endpoints[number] = e
	return e, true
}

// tick notes the time, once a batch. The caller holds mu.
func (a *Appliance) tick() { a.now = time.Since(a.start) }
