// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// awsShape is what stands before an inner packet, written by hand: x stands for what is the flow's own or follows from it.
// IPv4 with DF, no identification, the inner DSCP without ECN, TTL 255; UDP without checksum; GENEVE of version 0 without
// flags and VNI; options of class 0x0108: the endpoint's number, an attachment of 0, the cookie.
const awsShape = "45 b8 xxxx 0000 4000 ff 11 xxxx 0a00010a 0a00011x  xxxx 17c1 xxxx 0000" +
	" 08 00 0800 000000 00  0108 01 02 123456789abcdef0  0108 02 02 0000000000000000  0108 03 01 xxxxxxxx"

func TestAWSShape(t *testing.T) {
	b := newBed(t, gatewayState(), Config{})
	for _, inner := range [][]byte{
		fromHere(pkttest.TCP{Seq: 1, Flags: "S", TOS: 0xbb}).Bytes(),
		between(pkttest.TCP{Seq: 1, Flags: "S", TOS: 0xbb}, client6Addr, server6Addr).Bytes(),
	} {
		want := strings.ReplaceAll(awsShape, " ", "")
		if inner[0]>>4 == 6 {
			want = strings.Replace(want, "0800000000", "86dd000000", 1)
		}
		out, _ := b.fromClient(inner)
		pkt := b.one(out)
		got := hex.EncodeToString(pkt[:innerStart])
		if len(got) != len(want) || !bytes.Equal(pkt[innerStart:], inner) {
			t.Fatalf("%d bytes before %x", len(got)/2, pkt[innerStart:])
		}
		for i := range want {
			if want[i] != 'x' && want[i] != got[i] {
				t.Errorf("digit %d is %c, want %c:\nwant %s\n got %s", i, got[i], want[i], want, got)
				break
			}
		}
		if port := uint16(pkt[20])<<8 | uint16(pkt[21]); port < 49152 {
			t.Errorf("source port %d", port)
		}
	}
}

// tapState has two GWLB endpoints on one TAP, next hops by their addresses, beside an interface endpoint.
func tapState() *vpc.State {
	st := gatewayState()
	withEdge(st)
	st.Ports = st.Ports[:2]
	st.Ports[0].Kind, st.Ports[0].Subnet = vpc.TAP, netip.MustParsePrefix("10.0.0.0/16")
	st.Endpoints[1].ENIs[0].Ports = []string{"consumer"}
	nlb := newState()
	nlb.LoadBalancers[0].Nodes[0].Address = netip.MustParseAddr("10.0.1.12")
	nlb.Services[0].ID = "vpce-svc-0fedcba9876543210"
	ep := &nlb.Endpoints[0]
	ep.ID, ep.Service, ep.ENIs[0].Address = strangerID, nlb.Services[0].ID, netip.MustParseAddr("10.0.7.7")
	st.LoadBalancers = append(st.LoadBalancers, nlb.LoadBalancers...)
	st.TargetGroups = append(st.TargetGroups, nlb.TargetGroups...)
	st.Services = append(st.Services, nlb.Services...)
	st.Endpoints = append(st.Endpoints, nlb.Endpoints...)
	return st
}

// via sends a packet into the TAP that the link layer addressed to an ENI, and returns what leaves on both sides.
func (b *bed) via(addr netip.Addr, pkt []byte) (on [][]byte, back []*port.Buffer) {
	buf := port.NewBuffer()
	buf.Set(pkt)
	buf.Via = addr.As4()
	b.consumer.InjectBuffers(0, buf)
	b.step(0)
	return b.provider.Take(0), b.consumer.TakeBuffers(0)
}

// TestNextHopOnTAP tells endpoints that share a TAP apart by the address of the link layer, which frames back have as well.
func TestNextHopOnTAP(t *testing.T) {
	st := tapState()
	withResetOnIdle(st)
	b := newBed(t, st, Config{})
	first, second := endpointAddr.Addr(), edgeAddr
	for _, c := range []struct {
		by     netip.Addr
		number uint64
		pkt    []byte
	}{{first, gwlbNumber, fromHere(syn).Bytes()}, {second, edgeNumber, fromThere(synAck).Bytes()}} {
		out, _ := b.via(c.by, c.pkt)
		if got := endpointOf(b.one(out)); got != c.number {
			t.Errorf("went out for endpoint %x, want %x", got, c.number)
		}
		b.provider.Inject(0, hairpin(out[0]))
		b.step(0)
		back := b.consumer.TakeBuffers(0)
		if len(back) != 1 || back[0].Via != c.by.As4() || !bytes.Equal(back[0].Bytes(), c.pkt) {
			t.Errorf("%d packets came back, drops %v", len(back), b.drops())
		}
	}
	_, back := b.via(second, between(ack(1, 2), targetAddr, serverAddr).Bytes())
	if len(back) != 1 || back[0].Via != second.As4() || !pkttest.Decode(t, back[0].Bytes()).TCP.RST {
		t.Errorf("%d packets answer a segment of no flow", len(back))
	}
	// What the link layer addresses to nobody's next hop is nobody's, and what is addressed to an ENI is that one's.
	b.via(netip.IPv4Unspecified(), fromHere(syn).Bytes())
	b.via(netip.MustParseAddr("10.0.7.7"), fromHere(syn).Bytes())
	if b.dropped(NoENI) != 2 {
		t.Errorf("drops %v", b.drops())
	}
	toNLB := syn
	toNLB.Src, toNLB.Dst = clientAddr, netip.MustParseAddrPort("10.0.7.7:80")
	out, _ := b.via(netip.MustParseAddr("10.0.7.7"), toNLB.Bytes())
	if p := pkttest.Decode(t, b.one(out)); p.TCP == nil || !p.IP.DstIP.Equal(targetAddr.Addr().AsSlice()) {
		t.Errorf("the connection went on as %s", pkttest.Describe(out[0]))
	}
}

// TestRemovedNextHopOnTAP removes one of two endpoints on a TAP: its place in the view, which it keeps, leads nowhere.
func TestRemovedNextHopOnTAP(t *testing.T) {
	b := newBed(t, tapState(), Config{})
	out, _ := b.via(edgeAddr, fromHere(syn).Bytes())
	b.one(out)
	st := clone(b.state)
	st.Endpoints = append(st.Endpoints[:1:1], st.Endpoints[2])
	b.apply(st)
	for _, pkt := range [][]byte{fromHere(syn).Bytes(), datagram} {
		if out, back := b.via(edgeAddr, pkt); len(out)+len(back) != 0 {
			t.Errorf("%s went on", pkttest.Describe(pkt))
		}
	}
	if b.dropped(NoENI) != 2 {
		t.Errorf("drops %v", b.drops())
	}
	out, _ = b.via(endpointAddr.Addr(), datagram)
	b.one(out)
}

// TestScopeIsNotInherited moves an endpoint to another service, and lets an endpoint of another VPC take its place: neither
// has the flows that there were.
func TestScopeIsNotInherited(t *testing.T) {
	st := gatewayState()
	withOtherProvider(st)
	st.Services = append(st.Services, vpc.EndpointService{ID: "vpce-svc-0aaaaaaaaaaaaaaaa", LoadBalancers: []string{"gwlb-q"}})
	withStranger(st)
	stranger := st.Endpoints[1]
	st.Endpoints = st.Endpoints[:1]
	b := newBed(t, st, Config{})
	out, _ := b.fromClient(fromHere(syn).Bytes())
	old := b.one(out)

	st = clone(st)
	st.Endpoints[0].Service = st.Services[1].ID
	st.Endpoints = append([]vpc.Endpoint{stranger}, st.Endpoints...)
	b.apply(st)
	for _, id := range []string{"consumer", "stranger"} {
		b.mem(id).Inject(0, fromThere(synAck).Bytes())
		b.step(0)
	}
	if b.dropped(NotInspected) != 2 || b.engine.Stats().Flows.Active != 0 {
		t.Errorf("drops %v", b.drops())
	}
	if in, _ := b.fromTarget(hairpin(old)); len(in) != 0 || b.dropped(WrongCookie) != 1 {
		t.Errorf("a packet of the old flow came back, drops %v", b.drops())
	}
	b.mem("consumer").Inject(0, fromHere(syn).Bytes())
	b.step(0)
	b.one(b.mem("provider-2").Take(0))
	b.mem("stranger").Inject(0, fromHere(syn).Bytes())
	b.step(0)
	b.one(b.mem("provider").Take(0))
}

// TestFlowsFollowTheirLoadBalancer moves a service to a load balancer in another VPC: the flow that moves on does so from
// that one's node.
func TestFlowsFollowTheirLoadBalancer(t *testing.T) {
	st := gatewayState()
	withRebalance(st)
	withOtherProvider(st)
	b := newBed(t, st, Config{})
	b.fromClient(fromHere(syn).Bytes())
	st = clone(st)
	st.Services[0].LoadBalancers = []string{"gwlb-q"}
	b.apply(st)
	out, _ := b.fromClient(fromHere(ack(1, 2)).Bytes())
	b.one(out) // its load balancer is still there
	if err := b.engine.SetHealth(map[TargetID]Health{fw(0): Unhealthy}); err != nil {
		t.Fatal(err)
	}
	if n := outerDst(out[0]); n != applianceN(0).Addr() {
		t.Fatalf("the flow went to %v", n)
	}
	b.endpointSends(fromHere(ack(1, 2)).Bytes())
	back := b.one(b.mem("provider-2").Take(0))
	b.mem("provider-2").Inject(0, hairpin(back))
	b.step(0)
	b.one(b.consumer.Take(0))
}

func (b *bed) endpointSends(pkt []byte) {
	b.consumer.Inject(0, pkt)
	b.step(0)
}

// TestInspectionGauges counts flows up and down at their targets and in all, whatever happens to them.
func TestInspectionGauges(t *testing.T) {
	st := gatewayState()
	withRebalance(st)
	b := newBed(t, st, Config{})
	check := func(what string, active, expired uint64) {
		t.Helper()
		s := b.engine.Stats()
		at := uint64(0)
		for _, target := range s.Targets {
			at += target.ActiveFlows
		}
		if s.Flows.Active != active || at != active || s.Flows.Expired != expired {
			t.Errorf("%s: %d flows, %d at targets, %d expired; want %d and %d", what, s.Flows.Active, at, s.Flows.Expired, active, expired)
		}
	}
	all := func(flags string, isn uint32) {
		for i := range 20 {
			src := netip.AddrPortFrom(clientAddr.Addr(), uint16(2000+i))
			b.endpointSends(fromHere(pkttest.TCP{Src: src, Seq: isn, Flags: flags}).Bytes())
		}
		b.provider.Take(0)
	}
	all("S", 1)
	check("begun", 20, 0)
	all("S", 2)
	check("begun anew", 20, 0)
	_ = b.engine.SetHealth(map[TargetID]Health{fw(0): Unhealthy})
	all("A", 3)
	check("moved", 20, 0)
	st = clone(st)
	st.TargetGroups[0].Targets = st.TargetGroups[0].Targets[:1]
	_ = b.engine.SetHealth(nil)
	b.apply(st)
	all("A", 3)
	check("left with a target that is gone from the state", 20, 0)
	_ = b.engine.EndDraining([]TargetID{fw(1)})
	all("A", 3)
	check("moved again", 20, 0)
	b.apply(clone(st)) // the target that is empty goes for good
	check("without the empty target", 20, 0)
	b.step(350 * 1e9)
	all("S", 4)
	check("expired", 20, 20)
	for range 10 {
		b.step(400 * 1e9)
	}
	check("swept", 0, 40)
	all("S", 5)
	st = clone(st)
	st.Endpoints = nil
	b.apply(st)
	for range 10 {
		b.step(1e9)
	}
	check("swept without their endpoint", 0, 40)
}
