// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// inspectedFlow is a TCP flow of a client in a VPC that an appliance inspects.
func inspectedFlow() dataplane.FlowInfo {
	return dataplane.FlowInfo{
		Worker: 1, Inspected: true, Protocol: wire.ProtoTCP, Kind: vpc.FiveTuple, Cookie: 0xc0ffee, LoadBalancer: "gwlb", Zone: "use1-az1",
		NodeAddress: netip.MustParseAddrPort("10.0.1.40:50001"), Target: netip.MustParseAddrPort("10.0.1.41:6081"),
		State: flow.Established, Idle: 1500,
		Ends: [2]dataplane.FlowEnd{
			{Address: netip.MustParseAddrPort("10.0.9.7:40000"), Endpoint: "vpce-0123456789abcdef1", Bytes: 7},
			{Address: netip.MustParseAddrPort("192.0.2.1:443"), Endpoint: "vpce-0123456789abcdef2", Bytes: 8},
		},
	}
}

func TestFlowToProto(t *testing.T) {
	tcp := inspectedFlow()
	wantTCP := &apiv1.Flow{
		Worker: 1, LoadBalancerId: "gwlb", ZoneId: "use1-az1", NodeAddress: "10.0.1.40:50001", Target: "10.0.1.41:6081", State: "established",
		Idle: durationpb.New(1500 * time.Millisecond), Protocol: "tcp",
		Inspection: &apiv1.Inspection{Kind: "5-tuple", Cookie: "00c0ffee", Ends: []*apiv1.InspectedEnd{
			{Address: "10.0.9.7:40000", EndpointId: "vpce-0123456789abcdef1", Bytes: 7},
			{Address: "192.0.2.1:443", EndpointId: "vpce-0123456789abcdef2", Bytes: 8},
		}},
	}
	sctp := tcp
	sctp.Protocol, sctp.Kind, sctp.Target = 132, vpc.ThreeTuple, netip.AddrPort{}
	sctp.Ends = [2]dataplane.FlowEnd{
		{Address: netip.MustParseAddrPort("10.0.9.7:0")}, {Address: netip.MustParseAddrPort("[2001:db8::1]:0"), Bytes: 9},
	}
	wantSCTP := proto.Clone(wantTCP).(*apiv1.Flow)
	wantSCTP.Protocol, wantSCTP.Target, wantSCTP.Inspection.Kind = "132", "", "3-tuple"
	wantSCTP.Inspection.Ends = []*apiv1.InspectedEnd{{Address: "10.0.9.7"}, {Address: "2001:db8::1", Bytes: 9}}
	anything := sctp
	anything.Protocol, anything.Kind = 0, vpc.TwoTuple
	wantAnything := proto.Clone(wantSCTP).(*apiv1.Flow)
	wantAnything.Protocol, wantAnything.Inspection.Kind = "", "2-tuple"
	connection := dataplane.FlowInfo{Protocol: wire.ProtoTCP, State: flow.Opening, Endpoint: "vpce-0123456789abcdef0",
		Client: netip.MustParseAddrPort("10.0.1.10:1"), BytesOut: 5, Proxy: true}
	wantConnection := &apiv1.Flow{Protocol: "tcp", State: "opening", EndpointId: "vpce-0123456789abcdef0", Client: "10.0.1.10:1", BytesOut: 5,
		Proxy: true, Idle: durationpb.New(0)}
	for _, c := range []struct {
		flow dataplane.FlowInfo
		want *apiv1.Flow
	}{{tcp, wantTCP}, {sctp, wantSCTP}, {anything, wantAnything}, {connection, wantConnection}} {
		if got := flowToProto(&c.flow); !proto.Equal(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
}

// TestInspectedFlowsArePicked picks them by either endpoint and by appliance.
func TestInspectedFlowsArePicked(t *testing.T) {
	for _, c := range []struct {
		req  *apiv1.FlowsRequest
		want bool
	}{
		{&apiv1.FlowsRequest{}, true},
		{&apiv1.FlowsRequest{EndpointId: "vpce-0123456789abcdef1"}, true},
		{&apiv1.FlowsRequest{EndpointId: "vpce-0123456789abcdef2"}, true},
		{&apiv1.FlowsRequest{EndpointId: "vpce-0123456789abcdef3"}, false},
		{&apiv1.FlowsRequest{Target: "10.0.1.41"}, true},
		{&apiv1.FlowsRequest{Target: "10.0.1.41:6081", EndpointId: "vpce-0123456789abcdef1"}, true},
		{&apiv1.FlowsRequest{Target: "192.0.2.1"}, false},
	} {
		picks, err := flowFilter(c.req)
		if err != nil {
			t.Fatal(err)
		}
		if f := inspectedFlow(); picks(&f) != c.want {
			t.Errorf("%v picks it: %v, want %v", c.req, !c.want, c.want)
		}
	}
}

// TestStatusOfGateways puts a state with a gateway load balancer in force, in a namespace that does not suit it.
func TestStatusOfGateways(t *testing.T) {
	r, e, k := newTestReconciler(t)
	k.wrong = map[string][]string{"inspection-a": {"rp_filter is 1"}}
	s := inspected()
	s.LoadBalancers[1].MTU = 0
	put(t, r, s)
	e.stats.ENIs = []dataplane.ENIStats{{Role: dataplane.RoleGatewayEndpoint, Address: addr("10.0.3.5")}}
	d := &Daemon{engine: e, reconcile: r, health: newHealthChecker(e, r.log)}
	got, err := inspector{daemon: d}.Status(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	switch lb, ep, p := got.LoadBalancers[1], got.Endpoints[1], got.Ports[3]; {
	case got.LoadBalancers[0].Type != "network" || got.LoadBalancers[0].Mtu != 0 || got.Endpoints[0].Type != "Interface":
		t.Errorf("the network load balancer is %v, its endpoint %v", got.LoadBalancers[0], got.Endpoints[0])
	case lb.Type != "gateway" || lb.Mtu != 8500 || len(lb.ListenerPorts) != 0:
		t.Errorf("the gateway load balancer is %v", lb)
	case ep.Type != "GatewayLoadBalancer" || ep.Addresses[0] != "10.0.3.5":
		t.Errorf("its endpoint is %v", ep)
	case len(p.Warnings) != 1 || p.Warnings[0] != "rp_filter is 1" || len(got.Ports[0].Warnings) != 0:
		t.Errorf("the ports are %v", got.Ports)
	case got.Enis[0].Role != "gateway-endpoint":
		t.Errorf("the ENIs are %v", got.Enis)
	}
	s.LoadBalancers[1].MTU = 1432
	if got := loadBalancerStatus(&s.LoadBalancers[1]); got.Mtu != 1432 {
		t.Errorf("with a lower limit it is %v", got)
	}
}
