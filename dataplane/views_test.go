// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// choices are the targets that the first n clients get.
func choices(t *testing.T, n int, with ...func(*vpc.State)) []netip.AddrPort {
	st := newState()
	for _, change := range with {
		change(st)
	}
	b := newBed(t, st, Config{})
	out := make([]netip.AddrPort, n)
	for i := range out {
		p := syn
		p.Src, p.Dst = manyClient(i), endpointAddr
		list, _ := b.fromClient(p.Bytes())
		_, out[i] = endsOf(pkttest.Decode(t, b.one(list)))
	}
	return out
}

// TestRemovedTargetMovesItsOwn compares the choices of many clients with those after a target is gone: only its own
// clients move, and a few others as Maglev does.
func TestRemovedTargetMovesItsOwn(t *testing.T) {
	const clients, targets = 2000, 9
	all := choices(t, clients, withTargets(targets))
	gone := targetN(4)
	for name, without := range map[string]func(*vpc.State){"removed": removeTarget(gone), "draining": drain(gone)} {
		own, others := 0, 0
		for i, now := range choices(t, clients, withTargets(targets), without) {
			switch {
			case now == gone:
				t.Fatalf("%s: a new connection went to it", name)
			case all[i] == gone:
				own++
			case all[i] != now:
				others++
			}
		}
		t.Logf("%s: %d of its own clients moved, and %d of %d others", name, own, others, clients-own)
		if own < clients/targets/2 || others > clients*3/100 {
			t.Errorf("%s: %d of its own clients and %d others moved", name, own, others)
		}
	}
}

// TestEndpointsOfOneService checks that each of several endpoints is named by its own header.
func TestEndpointsOfOneService(t *testing.T) {
	st := newState()
	withProxy(st)
	withSecondConsumer(st)
	third := netip.MustParseAddrPort("10.0.9.8:80")
	st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: "vpce-00000000000000003", Service: serviceID, VPC: "vpc-c",
		ENIs: []vpc.ENI{{Address: third.Addr(), Zone: zone, Ports: []string{"consumer"}}}})
	b := newBed(t, st, Config{})
	for _, c := range []struct {
		port, id string
		endpoint netip.AddrPort
	}{{"consumer", endpointID, endpointAddr}, {"consumer-2", "vpce-0fedcba9876543210", endpointAddr}, {"consumer", "vpce-00000000000000003", third}} {
		p := atEndpoint(syn)
		p.Dst = c.endpoint
		out, _ := b.carryOn(c.port, 0, p.Bytes(), "provider")
		node, _ := endsOf(pkttest.Decode(t, out))
		answer := synAck
		answer.Src, answer.Dst = targetAddr, node
		b.carryOn("provider", 0, answer.Bytes(), c.port)
		p = atEndpoint(data(firstSeq, targetISN+1, "hello"))
		p.Dst = c.endpoint
		out, _ = b.carryOn(c.port, 0, p.Bytes(), "provider")
		header := pkttest.Decode(t, out).Payload[:100]
		to := c.endpoint.Addr().As4()
		if !bytes.Contains(header, []byte(c.id)) || !bytes.Equal(header[20:24], to[:]) {
			t.Errorf("header of %s: % x", c.id, header)
		}
	}
}

// TestProbeAddressesStay checks that a target keeps its address on the probe port, and a check under way its connection,
// when other targets come and go.
func TestProbeAddressesStay(t *testing.T) {
	st := newState()
	withTargets(3)(st)
	withChecks(st)
	b := newBed(t, st, Config{})
	via := func() map[netip.AddrPort]netip.Addr {
		out := map[netip.AddrPort]netip.Addr{}
		for _, r := range b.engine.ProbeRoutes() {
			if r.Node != nodeAddr || r.LoadBalancer != "nlb" || r.Zone != zone || !ProbeNet.Contains(r.Via) {
				t.Errorf("route %+v", r)
			}
			for target, other := range out {
				if other == r.Via {
					t.Errorf("%v and %v are both at %v", target, r.Address, r.Via)
				}
			}
			out[r.Address] = r.Via
		}
		return out
	}
	before := via()
	checker := netip.AddrPortFrom(ProbeNet.Addr().Next(), 40000)
	at := netip.AddrPortFrom(before[targetN(2)], 8080)
	p := pkttest.TCP{Src: checker, Dst: at, Seq: clientISN, Flags: "S"}
	b.carryOn(ProbePortID, 0, p.Bytes(), "provider")

	next := clone(st)
	removeTarget(targetN(0))(next)
	next.TargetGroups[0].Targets = append(next.TargetGroups[0].Targets, vpc.Target{Address: targetN(7).Addr(), Port: 8080, Zone: zone})
	b.apply(next)
	after := via()
	if len(before) != 3 || len(after) != 3 || after[targetN(1)] != before[targetN(1)] || after[targetN(2)] != before[targetN(2)] {
		t.Errorf("before %v, after %v", before, after)
	}
	b.carryOn(ProbePortID, 0, p.Bytes(), "provider")
}

// TestProbesIgnoreTheState takes a check through its connection while its target is unhealthy and its delay has passed.
func TestProbesIgnoreTheState(t *testing.T) {
	st := newState()
	withTargets(2)(st)
	withChecks(st)
	withProxy(st)
	b := newBed(t, st, Config{})
	next := clone(st)
	drain(targetN(1))(next)
	b.apply(next)
	if err := b.engine.EndDraining([]TargetID{webTarget(1)}); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.SetHealth(map[TargetID]Health{webTarget(1): Unhealthy}); err != nil {
		t.Fatal(err)
	}
	checker := netip.AddrPortFrom(ProbeNet.Addr().Next(), 40000)
	for _, r := range b.engine.ProbeRoutes() {
		at := netip.AddrPortFrom(r.Via, 9999)
		out, _ := b.carryOn(ProbePortID, 0, pkttest.TCP{Src: checker, Dst: at, Seq: clientISN, Flags: "S"}.Bytes(), "provider")
		node, target := endsOf(pkttest.Decode(t, out))
		if target.Addr() != r.Address.Addr() || target.Port() != 9999 || node.Addr() != nodeAddr || node.Port() >= flow.NATBase || node.Port() < flow.ProbeBase {
			t.Errorf("check of %v goes from %v to %v", r.Address, node, target)
		}
		answer := pkttest.TCP{Src: target, Dst: node, Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 100}
		b.carryOn("provider", 0, answer.Bytes(), ProbePortID)
		out, _ = b.carryOn(ProbePortID, 0, pkttest.TCP{Src: checker, Dst: at, Seq: firstSeq, Ack: targetISN + 1, Flags: "PA", Payload: []byte("HEAD /")}.Bytes(), "provider")
		if got := pkttest.Decode(t, out).Payload; string(got) != "HEAD /" {
			t.Errorf("the target reads %q", got)
		}
	}
	if active := b.engine.Stats().Flows.Active; active != 2 {
		t.Errorf("%d connections", active)
	}
}

// TestEndDrainingHoldsWhileDraining registers a target again whose delay had passed, and drains it once more.
func TestEndDrainingHoldsWhileDraining(t *testing.T) {
	b := newBed(t, newState(), Config{})
	draining := clone(b.state)
	drain(targetAddr)(draining)
	again := clone(b.state)
	b.apply(draining)
	if err := b.engine.EndDraining([]TargetID{webTarget(0)}); err != nil {
		t.Fatal(err)
	}
	b.apply(again)
	b.connect(clientAddr, clientISN, 8960)
	b.apply(draining)
	if out, _ := b.fromClient(atEndpoint(data(firstSeq, targetISN+1, "hello")).Bytes()); len(out) != 1 {
		t.Errorf("the connection has ended; drops %v", b.drops())
	}
}

// TestRefusedStateChangesNothing applies states that cannot be compiled.
func TestRefusedStateChangesNothing(t *testing.T) {
	b := newBed(t, newState(), Config{Workers: 2})
	twice := clone(b.state)
	twice.Endpoints = append(twice.Endpoints, vpc.Endpoint{ID: "vpce-00000000000000003", Service: serviceID, VPC: "vpc-c", ENIs: twice.Endpoints[0].ENIs})
	elsewhere := clone(b.state)
	elsewhere.Endpoints[0].ENIs[0].Zone = zone2
	narrow := map[string]port.Port{"consumer": port.NewMem(port.MemConfig{Name: "consumer"}), "provider": b.provider}
	for _, c := range []struct {
		want  string
		st    *vpc.State
		ports map[string]port.Port
	}{
		{"address 10.0.9.9 belongs to two ENIs on port consumer", twice, b.ports},
		{"no load balancer node in zone use1-az2", elsewhere, b.ports},
		{"port consumer has 1 queues for 2 workers", clone(b.state), narrow},
	} {
		err := b.engine.Apply(c.st, c.ports)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
		if b.engine.Revision() != 1 {
			t.Errorf("revision %d", b.engine.Revision())
		}
	}
	b.carryOn("consumer", 0, atEndpoint(syn).Bytes(), "provider")
}

// TestZeroRefNamesNothing holds the view to what flow.Ref promises, where slot 0 is not in use as well.
func TestZeroRefNamesNothing(t *testing.T) {
	v := &view{ports: make([]viewPort, 1), enis: make([]viewENI, 1), targets: make([]viewTarget, 1)}
	if v.hasPort(flow.Ref{}) || v.hasENI(flow.Ref{}) || v.target(flow.Ref{}) != nil {
		t.Error("the zero Ref names something")
	}
}

// TestTablesAreShared checks that a view takes over the tables that would be the same.
func TestTablesAreShared(t *testing.T) {
	b := newBed(t, newState(), Config{})
	id := poolID{"nlb", zone, "web"}
	before := b.engine.view.Load().pools[id].table
	b.now += time.Second
	b.apply(clone(b.state))
	if b.engine.view.Load().pools[id].table != before {
		t.Error("the table was built again")
	}
	for what, change := range map[string]func(*vpc.State){
		"targets": func(st *vpc.State) { withTargets(1 + len(st.TargetGroups[0].Targets))(st) },
		"key":     func(st *vpc.State) { st.HashKey[5]++ },
		"port":    func(st *vpc.State) { st.TargetGroups[0].Targets[0].Port++ },
	} {
		before := b.engine.view.Load().pools[id].table
		next := clone(b.state)
		change(next)
		b.apply(next)
		if b.engine.view.Load().pools[id].table == before {
			t.Errorf("the table was not built again for another %s", what)
		}
	}
}
