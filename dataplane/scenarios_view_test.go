// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// hello and world are segments with data of either side of an established connection.
var (
	hello = fromClient(data(clientISN+1, targetISN+1, "hello"))
	world = fromTarget(data(targetISN+1, clientISN+1, "world"))
)

// viewScenarios are changes of the state under connections.
var viewScenarios = []scenario{
	{
		name:  "endpoint-removed",
		about: "When an endpoint is removed, its connections end with RST at the next packet of either side; a new one meets nobody.",
		steps: steps(handshake,
			change("the endpoint is removed", func(st *vpc.State) { st.Endpoints = nil }),
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S", Src: netip.MustParseAddrPort("10.0.3.8:99")})),
	},
	{
		name:  "endpoint-recreated-with-same-address",
		about: "Another endpoint with the address of a removed one does not inherit its connections.",
		steps: steps(handshake,
			change("the endpoint is removed", func(st *vpc.State) { st.Endpoints = nil }),
			change("another has its address", func(st *vpc.State) {
				st.Endpoints = newState().Endpoints
				st.Endpoints[0].ID = "vpce-0fedcba9876543210"
			}),
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S"})),
	},
	{
		name:  "endpoint-restored",
		about: "Connections of an endpoint that was removed have ended, even if nobody noticed until it is back.",
		steps: steps(handshake,
			change("the endpoint is removed", func(st *vpc.State) { st.Endpoints = nil }),
			change("the endpoint is back", func(st *vpc.State) { st.Endpoints = newState().Endpoints }),
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S"})),
	},
	{
		name:  "endpoint-of-another-generation",
		about: "An endpoint of another generation is another one, though it has the id and the address of the first: connections end.",
		steps: steps(handshake,
			change("the endpoint begins another life", func(st *vpc.State) { st.Endpoints[0].Generation++ }),
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S"})),
	},
	{
		name:  "load-balancer-replaced",
		about: "When a service moves to another load balancer, connections through the old one end and new ones come from the new node.",
		steps: steps(handshake,
			change("another load balancer serves", func(st *vpc.State) {
				lb := &st.LoadBalancers[0]
				lb.ID, lb.Nodes[0].Address = "nlb-2", netip.MustParseAddr("10.0.1.11")
				st.Services[0].LoadBalancers = []string{"nlb-2"}
			}),
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S", Src: netip.MustParseAddrPort("10.0.3.8:99")})),
	},
	{
		name:  "target-unhealthy-answered-with-rst",
		about: "Connections of a target that turned unhealthy end with RST at their next packet; new ones go to the others.",
		with:  []func(*vpc.State){withTargets(2)},
		steps: steps(handshake,
			func(s *story) { health(map[TargetID]Health{{"web", s.target}: Unhealthy})(s) },
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S"})),
	},
	{
		name:  "target-unhealthy-connections-kept",
		about: "Where the group says so, connections of an unhealthy target go on, and only new ones go elsewhere.",
		with:  []func(*vpc.State){withTargets(2), func(st *vpc.State) { st.TargetGroups[0].TerminateOnUnhealthy = false }},
		steps: steps(handshake,
			func(s *story) { health(map[TargetID]Health{{"web", s.target}: Unhealthy})(s) },
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S"})),
	},
	{
		name:  "all-unhealthy-fails-open",
		about: "When every target is unhealthy the group fails open: connections live, and new ones are taken.",
		with:  []func(*vpc.State){withTargets(2)},
		steps: steps(handshake,
			health(map[TargetID]Health{webTarget(0): Unhealthy, webTarget(1): Unhealthy}),
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S"})),
	},
	{
		name:  "target-draining",
		about: "A draining target keeps its connections and gets no new ones, until its delay has passed.",
		with:  []func(*vpc.State){withTargets(2)},
		steps: steps(handshake,
			func(s *story) { change("the target drains", drain(s.target))(s) },
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S", Src: netip.MustParseAddrPort("10.0.3.8:99")}),
			fromClient(pkttest.TCP{Seq: 9, Flags: "S", Src: netip.MustParseAddrPort("10.0.3.9:99")}),
			wait(300*time.Second),
			endDraining(webTarget(0), webTarget(1)),
			hello, fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: 6, Flags: "A"})),
	},
	{
		name:  "target-removed-keeps-connections",
		about: "A target that has left the state keeps its connections, as if it were draining, until the last has closed.",
		with:  []func(*vpc.State){withTargets(2)},
		steps: steps(handshake,
			func(s *story) { change("the target is removed", removeTarget(s.target))(s) },
			hello, world,
			fromClient(pkttest.TCP{Seq: 5, Flags: "S", Src: netip.MustParseAddrPort("10.0.3.8:99")}),
			fromClient(pkttest.TCP{Seq: 9, Flags: "S", Src: netip.MustParseAddrPort("10.0.3.9:99")}),
			hello),
	},
	{
		name:  "group-removed",
		about: "When the listener gets another target group and the old one is removed, the old connections end.",
		steps: steps(handshake,
			change("another group serves", func(st *vpc.State) {
				st.TargetGroups[0].ID = "web-2"
				st.LoadBalancers[0].Listeners[0].TargetGroup = "web-2"
			}),
			hello, world),
	},
	{
		name:  "zone-without-healthy-target",
		about: "Without cross-zone balancing a zone whose targets are unhealthy refuses, while the other zone's endpoint serves.",
		with:  []func(*vpc.State){withSecondZone},
		steps: steps(
			health(map[TargetID]Health{webTarget(0): Unhealthy}),
			fromClient(syn),
			fromClient(pkttest.TCP{Dst: endpoint2Addr, Seq: 5, Flags: "S"})),
	},
	{
		name:  "cross-zone-reaches-both",
		about: "With cross-zone balancing the node of a zone uses the healthy targets of all zones.",
		with:  []func(*vpc.State){withSecondZone, func(st *vpc.State) { st.LoadBalancers[0].CrossZone = true }},
		steps: steps(
			health(map[TargetID]Health{webTarget(0): Unhealthy}),
			fromClient(syn),
			fromClient(pkttest.TCP{Dst: endpoint2Addr, Seq: 5, Flags: "S"})),
	},
	{
		name:  "same-addresses-in-two-consumers",
		about: "Two consumers whose clients and endpoints have the same addresses and ports have two connections, which never meet.",
		with:  []func(*vpc.State){withSecondConsumer, withProxy},
		steps: steps(
			fromClient(syn), fromTarget(synAck),
			raw("consumer-2", atEndpoint(syn).Bytes()), fromTarget(synAck),
			raw("consumer-2", atEndpoint(data(firstSeq, targetISN+1, "from the second")).Bytes()),
			fromClient(data(firstSeq, targetISN+1, "from the first")),
			fromTarget(data(targetISN+1, behindSeq, "to the second"))),
	},
	{
		name:  "probe-reaches-its-target",
		about: "A health check goes to the target that its address names, whatever its state, with the node's address and a port of its own range.",
		with:  []func(*vpc.State){withTargets(3), withChecks},
		steps: steps(
			health(map[TargetID]Health{webTarget(1): Unhealthy}),
			change("a target drains", drain(targetN(2))),
			check(0, 8080), check(1, 8080), check(2, 9090)),
	},
}

var endpoint2Addr = netip.MustParseAddrPort("10.0.8.8:80")

// atEndpoint fills in the client and the endpoint.
func atEndpoint(p pkttest.TCP) pkttest.TCP {
	p.Src, p.Dst = clientAddr, endpointAddr
	return p
}

func drain(target netip.AddrPort) func(*vpc.State) {
	return func(st *vpc.State) {
		for i := range st.TargetGroups[0].Targets {
			if t := &st.TargetGroups[0].Targets[i]; t.Address == target.Addr() {
				t.Draining = true
			}
		}
	}
}

func removeTarget(target netip.AddrPort) func(*vpc.State) {
	return func(st *vpc.State) {
		g := &st.TargetGroups[0]
		for i := range g.Targets {
			if g.Targets[i].Address == target.Addr() {
				g.Targets = append(g.Targets[:i], g.Targets[i+1:]...)
				return
			}
		}
	}
}

// withSecondZone adds a zone with a node, a target and an ENI of the endpoint.
func withSecondZone(st *vpc.State) {
	withTargets(2)(st)
	st.TargetGroups[0].Targets[1].Zone = zone2
	lb := &st.LoadBalancers[0]
	lb.Nodes = append(lb.Nodes, vpc.ENI{Address: netip.MustParseAddr("10.0.2.10"), Zone: zone2, Ports: []string{"provider"}})
	ep := &st.Endpoints[0]
	ep.ENIs = append(ep.ENIs, vpc.ENI{Address: endpoint2Addr.Addr(), Zone: zone2, Ports: []string{"consumer"}})
}

// withSecondConsumer adds a VPC with the addresses of the first.
func withSecondConsumer(st *vpc.State) {
	st.VPCs = append(st.VPCs, vpc.VPC{ID: "vpc-c2", CIDRs: st.VPCs[0].CIDRs})
	st.Ports = append(st.Ports, vpc.Port{ID: "consumer-2", VPC: "vpc-c2", Kind: vpc.TUN, Netns: "/c2", Device: "c0"})
	st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: "vpce-0fedcba9876543210", Service: serviceID, VPC: "vpc-c2",
		ENIs: []vpc.ENI{{Address: endpointAddr.Addr(), Zone: zone, Ports: []string{"consumer-2"}}}})
}

// withChecks turns health checks on.
func withChecks(st *vpc.State) {
	st.TargetGroups[0].HealthCheck = vpc.HealthCheck{Protocol: vpc.CheckTCP}
}

// check is the SYN of a health check of the n-th target, and the target's answer.
func check(n int, to uint16) step {
	return func(s *story) {
		from := netip.AddrPortFrom(ProbeNet.Addr().Next(), 40000+uint16(n))
		for _, r := range s.engine.ProbeRoutes() {
			if r.Address == targetN(n) {
				s.inject(ProbePortID, pkttest.TCP{Src: from, Dst: netip.AddrPortFrom(r.Via, to), Seq: clientISN, Flags: "S"}.Bytes())
			}
		}
		fromTarget(synAck)(s)
	}
}
