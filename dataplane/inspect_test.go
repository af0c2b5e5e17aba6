// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// listFlows is all that Flows tells.
func listFlows(b *bed) (list []FlowInfo) {
	b.Helper()
	if err := b.engine.Flows(context.Background(), func(f FlowInfo) bool { list = append(list, f); return true }); err != nil {
		b.Fatal(err)
	}
	return list
}

// TestInspectedFlowsAreListed opens flows of several protocols and families, one of them through two endpoints.
func TestInspectedFlowsAreListed(t *testing.T) {
	const second = "vpce-0fedcba9876543210"
	st := gatewayState()
	st.Ports = append(st.Ports, vpc.Port{ID: "consumer-2", VPC: "vpc-c", Kind: vpc.TUN, Netns: "/c", Device: "c2"})
	st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: second, Type: vpc.GatewayLoadBalancer, Service: serviceID, VPC: "vpc-c",
		ENIs: []vpc.ENI{{Address: endpointAddr.Addr().Next(), Zone: zone, Ports: []string{"consumer-2"}}}})
	st.TargetGroups[0].ResetOnUnhealthy = true
	b := newBed(t, st, Config{})
	from := func(id string, pkt []byte) {
		b.mem(id).Inject(0, pkt)
		b.step(0)
	}
	a, far := netip.MustParseAddrPort("10.0.5.5:1234"), netip.MustParseAddrPort("192.0.2.1:80")
	a6, far6 := netip.MustParseAddrPort("[fd00::5]:1234"), netip.MustParseAddrPort("[2001:db8::1]:53")
	syn := pkttest.TCP{Src: far, Dst: a, Seq: 100, Flags: "S", Window: 100}.Bytes()
	synAck := pkttest.TCP{Src: a, Dst: far, Seq: 500, Ack: 101, Flags: "SA", Window: 100}.Bytes()
	echo := pkttest.ICMPEcho(a.Addr(), far.Addr(), 1, 1, make([]byte, 20))
	query := pkttest.UDP(a6, far6, []byte("who?"))
	from("consumer-2", syn)
	from("consumer", synAck)
	from("consumer", echo)
	from("consumer", query)
	b.step(3 * time.Second)
	from("consumer", query)

	list := listFlows(b)
	if len(list) != 3 {
		t.Fatalf("%d flows, want 3: %+v", len(list), list)
	}
	cookies := map[uint32]bool{}
	for i, want := range []FlowInfo{
		{Protocol: wire.ProtoTCP, Kind: vpc.FiveTuple, Idle: 3000, Ends: [2]FlowEnd{{a, endpointID, uint64(len(synAck))}, {far, second, uint64(len(syn))}}},
		{Protocol: wire.ProtoICMP, Kind: vpc.ThreeTuple, Idle: 3000,
			Ends: [2]FlowEnd{{netip.AddrPortFrom(a.Addr(), 0), endpointID, uint64(len(echo))}, {Address: netip.AddrPortFrom(far.Addr(), 0)}}},
		{Protocol: wire.ProtoUDP, Kind: vpc.FiveTuple, Ends: [2]FlowEnd{{far6, "", 0}, {a6, endpointID, uint64(2 * len(query))}}},
	} {
		f := list[i]
		cookies[f.Cookie] = true
		if f.NodeAddress.Addr() != nodeAddr || f.NodeAddress.Port() < 49152 || f.Target.Port() != 6081 || !f.Target.Addr().IsValid() || f.Cookie == 0 {
			t.Errorf("flow %d goes from %s to %s with the cookie %#x", i, f.NodeAddress, f.Target, f.Cookie)
		}
		want.Inspected, want.State, want.LoadBalancer, want.Zone = true, flow.Established, "gwlb", zone
		want.Target, want.NodeAddress, want.Cookie = f.Target, f.NodeAddress, f.Cookie
		if f != want {
			t.Errorf("flow %d is\n%+v, want\n%+v", i, f, want)
		}
	}
	if len(cookies) != 3 {
		t.Errorf("cookies are %v", cookies)
	}

	// Ended by the health of its appliance; an endpoint that is gone has no name.
	sick := map[TargetID]Health{{Group: "fw", Address: list[0].Target}: Unhealthy}
	if err := b.engine.SetHealth(sick); err != nil {
		t.Fatal(err)
	}
	from("consumer", synAck)
	st = clone(st)
	st.Endpoints = st.Endpoints[:1]
	b.apply(st)
	b.step(0)
	if f := listFlows(b)[0]; f.State != flow.Reset || f.Ends[0].Endpoint != endpointID || f.Ends[1].Endpoint != "" {
		t.Errorf("after its appliance and one endpoint went, the flow is\n%+v", f)
	}
}

// TestFlowsAreListedInChunks lists more connections and inspected flows than a worker looks at between two turns, and
// stops where it is told to.
func TestFlowsAreListedInChunks(t *testing.T) {
	const flows = 2*flowChunk + 100
	st := gatewayState()
	st.LoadBalancers = append(st.LoadBalancers, newState().LoadBalancers[0])
	st.LoadBalancers[1].Nodes[0].Address = nodeAddr.Next()
	st.TargetGroups = append(st.TargetGroups, newState().TargetGroups[0])
	st.Services = append(st.Services, vpc.EndpointService{ID: "vpce-svc-web", LoadBalancers: []string{"nlb"}})
	st.Ports = append(st.Ports, vpc.Port{ID: "clients", VPC: "vpc-c", Kind: vpc.TUN, Netns: "/c", Device: "c2"})
	st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: "vpce-0fedcba9876543210", Service: "vpce-svc-web", VPC: "vpc-c",
		ENIs: []vpc.ENI{{Address: netip.MustParseAddr("10.0.9.8"), Zone: zone, Ports: []string{"clients"}}}})
	b := newBed(t, st, Config{})
	for i := range flows {
		src := netip.AddrPortFrom(netip.MustParseAddr("10.0.5.5"), uint16(10000+i))
		b.consumer.Inject(0, pkttest.TCP{Src: src, Dst: netip.MustParseAddrPort("192.0.2.1:80"), Flags: "S", Window: 1}.Bytes())
		b.mem("clients").Inject(0, pkttest.TCP{Src: src, Dst: netip.MustParseAddrPort("10.0.9.8:80"), Flags: "S", Window: 1}.Bytes())
		b.step(0)
		b.provider.Take(0)
	}
	inspected := 0
	list := listFlows(b)
	for i, f := range list {
		if f.Inspected {
			inspected++
		} else if f.Protocol != wire.ProtoTCP || inspected > 0 {
			t.Fatalf("flow %d is %+v", i, f)
		}
	}
	if len(list) != 2*flows || inspected != flows {
		t.Errorf("%d flows, %d of them inspected; want %d and %d", len(list), inspected, 2*flows, flows)
	}
	seen := 0
	err := b.engine.Flows(context.Background(), func(FlowInfo) bool { seen++; return seen < flows+5 })
	if err != nil || seen != flows+5 {
		t.Errorf("%d flows were told, want %d: %v", seen, flows+5, err)
	}
}
