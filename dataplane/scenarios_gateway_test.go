// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// gatewayScenarios are what happens to packets that are routed through GWLB endpoints.
var gatewayScenarios = slices.Concat(inspectionScenarios, fragmentScenarios, failoverScenarios, returnScenarios, toleranceScenarios)

var gateway = []func(*vpc.State){withGateway}

// inspectionScenarios are flows on their way through appliances, and what ends them.
var inspectionScenarios = []scenario{
	{
		name:  "gwlb-syn-inspected-and-returned",
		about: "A SYN goes to an appliance behind 68 bytes of headers and, once it is back, leaves by the same endpoint as it came.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes())),
	},
	{
		name:  "gwlb-both-directions-same-appliance",
		about: "What is asked and what is answered goes to one appliance, under one cookie, from one port.",
		with:  []func(*vpc.State){withGateway, withAppliances(5)},
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("consumer", fromThere(synAck).Bytes()),
			through("consumer", fromHere(data(clientISN+1, targetISN+1, "hello")).Bytes()),
			through("consumer", fromThere(data(targetISN+1, clientISN+6, "world")).Bytes()),
			wentTo(1, 4), cookies(1, 4), onePort(4)),
	},
	{
		name:  "gwlb-answer-through-the-other-endpoint",
		about: "The answer may come through another endpoint of the VPC: it goes to the same appliance, and leaves by the endpoint that it came through.",
		with:  []func(*vpc.State){withGateway, withAppliances(5), withEdge},
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("edge", fromThere(synAck).Bytes()),
			wentTo(1, 2), cookies(1, 2), numbers2(gwlbNumber, edgeNumber),
			// The client's side, too, may change its way.
			through("edge", fromHere(data(clientISN+1, targetISN+1, "hello")).Bytes()), wentTo(1, 3), cookies(1, 3)),
	},
	{
		name:  "gwlb-same-addresses-in-two-consumers",
		about: "Two VPCs with the same addresses have two flows, each of which comes back to where it came from.",
		with:  []func(*vpc.State){withGateway, withStranger},
		steps: steps(raw("consumer", fromHere(syn).Bytes()), raw("stranger", fromHere(syn).Bytes()),
			cookies(2, 2), inspectedBefore(1), came("stranger", fromHere(syn).Bytes()),
			inspectedBefore(2), came("consumer", fromHere(syn).Bytes()),
			through("stranger", fromThere(synAck).Bytes()), through("consumer", fromThere(synAck).Bytes())),
	},
	{
		name:  "gwlb-new-syn-new-cookie",
		about: "A repeated SYN keeps its cookie. A new one on the same tuple gets another, and the old one leads nowhere.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("consumer", fromHere(syn).Bytes()), cookies(1, 2),
			through("consumer", fromHere(pkttest.TCP{Seq: 77, Flags: "S"}).Bytes()), cookies(2, 2), wentTo(1, 3),
			inspectedBefore(2), vanished(WrongCookie, 1)),
	},
	{
		name:  "gwlb-other-protocols-inspected",
		about: "UDP, ICMP and GRE are inspected like TCP, both ways, whatever begins.",
		with:  []func(*vpc.State){withGateway, withAppliances(5)},
		steps: steps(through("consumer", pkttest.UDP(clientAddr, serverAddr, []byte("question"))),
			through("consumer", pkttest.UDP(serverAddr, clientAddr, []byte("answer"))), wentTo(1, 2), cookies(1, 2),
			through("consumer", pkttest.ICMPEcho(clientAddr.Addr(), serverAddr.Addr(), 1, 1, []byte("ping"))),
			through("consumer", pkttest.ICMPEcho(clientAddr.Addr(), serverAddr.Addr(), 2, 1, []byte("another ping"))), cookies(1, 2),
			through("consumer", pkttest.GRE(serverAddr.Addr(), clientAddr.Addr(), fromHere(syn).Bytes())),
			through("consumer", pkttest.GRE(clientAddr.Addr(), serverAddr.Addr(), fromHere(syn).Bytes())), cookies(1, 2)),
	},
	{
		name:  "gwlb-ipv6-inspected",
		about: "IPv6 is inspected as well, in outer IPv4.",
		with:  []func(*vpc.State){withGateway, withAppliances(5)},
		steps: steps(through("consumer", between(syn, client6Addr, server6Addr).Bytes()),
			through("consumer", between(synAck, server6Addr, client6Addr).Bytes()), wentTo(1, 2), cookies(1, 2),
			through("consumer", pkttest.UDP(server6Addr, client6Addr, []byte("hello"))),
			through("consumer", pkttest.ICMPEcho(client6Addr.Addr(), server6Addr.Addr(), 1, 1, []byte("ping")))),
	},
	{
		name:  "gwlb-idle-expiry-silent",
		about: "After 350 s a TCP flow is forgotten: its segments vanish in silence, and a SYN begins another. Other flows end after 120 s and begin anew.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("consumer", pkttest.UDP(clientAddr, serverAddr, []byte("hello"))),
			wait(119*time.Second), through("consumer", fromHere(ack(clientISN+1, targetISN+1)).Bytes()),
			wait(120*time.Second), through("consumer", pkttest.UDP(clientAddr, serverAddr, []byte("hello"))), cookiesDiffer(1, 3),
			wait(240*time.Second), raw("consumer", fromThere(data(targetISN+1, clientISN+1, "late")).Bytes()),
			vanished(NotInspected, 1), // expiry has come by
			through("consumer", fromHere(syn).Bytes())),
	},
	{
		name:  "gwlb-idle-found-before-expiry-swept",
		about: "A segment that comes in the moment in which its flow's time is over is one of an expired flow.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()), jump(350*time.Second),
			raw("consumer", fromHere(ack(clientISN+1, targetISN+1)).Bytes()), vanished(InspectionExpired, 1),
			raw("consumer", fromHere(ack(clientISN+1, targetISN+1)).Bytes()), vanished(NotInspected, 1)),
	},
	{
		name:  "gwlb-idle-expiry-with-reset",
		about: "Where the listener says so, a segment of an expired flow, or of one that never was, is answered with RST.",
		with:  []func(*vpc.State){withGateway, withResetOnIdle},
		steps: steps(through("consumer", fromHere(syn).Bytes()), jump(350*time.Second),
			raw("consumer", fromHere(data(clientISN+1, targetISN+1, "late")).Bytes()), reset("consumer"), wantDrops(InspectionExpired, 1),
			raw("consumer", fromHere(flagged("R", clientISN+1, 0)).Bytes()), vanished(NotInspected, 1),
			raw("consumer", between(ack(clientISN+1, targetISN+1), client6Addr, server6Addr).Bytes()), reset("consumer")),
	},
	{
		name:  "gwlb-unknown-segment-silent",
		about: "A TCP segment of no flow, other than a SYN, vanishes: appliances must see a connection from its beginning.",
		with:  gateway,
		steps: steps(raw("consumer", fromThere(synAck).Bytes()), raw("consumer", fromHere(data(1, 2, "lost")).Bytes()),
			raw("consumer", fromHere(flagged("FA", 1, 2)).Bytes()), raw("consumer", fromHere(flagged("R", 1, 2)).Bytes()),
			vanished(NotInspected, 4)),
	},
	{
		name:  "gwlb-three-tuple",
		about: "With three-tuple stickiness all connections between two hosts are one flow, and UDP between them another; any segment begins one.",
		with:  []func(*vpc.State){withGateway, withAppliances(5), withStickiness(vpc.ThreeTuple)},
		steps: steps(through("consumer", fromHere(ack(1, 2)).Bytes()),
			through("consumer", fromHere(pkttest.TCP{Src: netip.AddrPortFrom(clientAddr.Addr(), 99), Seq: 1, Flags: "S"}).Bytes()),
			through("consumer", fromThere(synAck).Bytes()), wentTo(1, 3), cookies(1, 3),
			through("consumer", pkttest.UDP(clientAddr, serverAddr, []byte("hello"))), cookies(2, 2)),
	},
	{
		name:  "gwlb-two-tuple",
		about: "With two-tuple stickiness all that passes between two hosts is one flow, which lives as long as TCP does once it has carried TCP.",
		with:  []func(*vpc.State){withGateway, withAppliances(5), withStickiness(vpc.TwoTuple)},
		steps: steps(through("consumer", pkttest.ICMPEcho(serverAddr.Addr(), clientAddr.Addr(), 1, 1, []byte("ping"))),
			through("consumer", fromHere(syn).Bytes()), through("consumer", pkttest.UDP(serverAddr, clientAddr, []byte("hello"))),
			wait(349*time.Second), through("consumer", fromThere(ack(1, 2)).Bytes()), wentTo(1, 4), cookies(1, 4),
			// Another host is another flow.
			through("consumer", pkttest.UDP(clientAddr, netip.MustParseAddrPort("192.0.2.2:53"), []byte("hello"))), cookies(2, 2)),
	},
	{
		name:  "gwlb-too-big-vanishes",
		about: "An inner packet of 8500 bytes passes both ways, one of 8501 vanishes without ICMP, whether an endpoint or an appliance sends it.",
		with:  gateway,
		steps: steps(through("consumer", pkttest.UDP(clientAddr, serverAddr, []byte(long(8472)))),
			raw("consumer", pkttest.UDP(clientAddr, serverAddr, []byte(long(8473)))), vanished(TooBig, 1),
			raw("consumer", fromHere(pkttest.TCP{Flags: "S", NoDF: true, Payload: []byte(long(8461))}).Bytes()), vanished(TooBig, 2),
			inspectedBefore(1, swapInner(pkttest.UDP(clientAddr, serverAddr, []byte(long(8473))))), vanished(TooBig, 3),
			through("consumer", pkttest.UDP(client6Addr, server6Addr, []byte(long(8452)))),
			raw("consumer", pkttest.UDP(client6Addr, server6Addr, []byte(long(8453)))), vanished(TooBig, 4)),
	},
	{
		name:  "gwlb-lower-mtu",
		about: "A load balancer whose network carries less has a lower limit, both ways.",
		with:  []func(*vpc.State){withGateway, func(st *vpc.State) { st.LoadBalancers[0].MTU = 1432 }},
		steps: steps(through("consumer", pkttest.UDP(clientAddr, serverAddr, []byte(long(1404)))),
			raw("consumer", pkttest.UDP(clientAddr, serverAddr, []byte(long(1405)))), vanished(TooBig, 1),
			inspectedBefore(1, swapInner(pkttest.UDP(clientAddr, serverAddr, []byte(long(1405))))), vanished(TooBig, 2)),
	},
	{
		name:  "gwlb-next-hop-only",
		about: "A GWLB endpoint is a next hop. What is addressed to it is dropped: ping, a SYN, and GENEVE.",
		with:  gateway,
		steps: steps(raw("consumer", pkttest.ICMPEcho(clientAddr.Addr(), endpointAddr.Addr(), 1, 1, []byte("ping"))),
			raw("consumer", atEndpoint(syn).Bytes()),
			raw("consumer", pkttest.UDP(clientAddr, netip.AddrPortFrom(endpointAddr.Addr(), 6081), []byte("geneve"))),
			vanished(NextHopOnly, 3)),
	},
	{
		name:  "gwlb-not-forwardable",
		about: "What never leaves its link, and what a device says by itself, is not carried: multicast, link-local, loopback and unspecified addresses.",
		with:  gateway,
		steps: steps(notForwarded("10.0.3.7", "224.0.0.251"), notForwarded("10.0.3.7", "255.255.255.255"), notForwarded("169.254.1.1", "192.0.2.1"),
			notForwarded("127.0.0.1", "192.0.2.1"), notForwarded("0.0.0.0", "192.0.2.1"), notForwarded("fe80::1", "ff02::2"),
			notForwarded("2001:db8::1", "ff02::16"), notForwarded("::", "2001:db8::1"), notForwarded("::1", "2001:db8::1"), vanished(NotForwardable, 9),
			// IPv6 with addresses that stand for IPv4 ones, which is not for the wire.
			raw("consumer", disguise(datagram)), vanished(NotForwardable, 10)),
	},
	{
		name:  "gwlb-malformed",
		about: "What contradicts itself is dropped.",
		with:  gateway,
		steps: steps(packets("consumer", func(s *story) [][]byte {
			whole := fromHere(syn).Bytes()
			return [][]byte{whole[:39], whole[:12], {0x60, 0, 0, 0, 0, 0, 59, 64}, append([]byte{0x50}, whole[1:]...)}
		}), vanished(Malformed, 4)),
	},
	{
		name:  "gwlb-flow-table-full",
		about: "When the flow table is full what would begin a flow vanishes, and flows that exist go on.",
		with:  gateway,
		cfg:   Config{MaxFlows: 2},
		steps: steps(through("consumer", fromHere(syn).Bytes()), others(2), vanished(FlowTableFull, 1), through("consumer", fromThere(synAck).Bytes())),
	},
	{
		name:  "gwlb-health-check-reaches-appliance",
		about: "A health check goes to its appliance unwrapped, from the node's address, whatever the appliance's state, and its answer comes back.",
		with: []func(*vpc.State){withGateway, func(st *vpc.State) {
			st.TargetGroups[0].HealthCheck = vpc.HealthCheck{Protocol: vpc.CheckTCP, Port: 80}
		}},
		steps: steps(checked(0), health(map[TargetID]Health{fw(1): Unhealthy}), checked(1)),
	},
}

func withResetOnIdle(st *vpc.State) { st.LoadBalancers[0].Listeners[0].ResetOnIdle = true }

func notForwarded(src, dst string) step {
	return raw("consumer", pkttest.Other(netip.MustParseAddr(src), netip.MustParseAddr(dst), 99, []byte("whisper")))
}

// disguise is a UDP datagram of IPv4 as one of IPv6 whose addresses stand for those.
func disguise(pkt []byte) []byte {
	b := pkttest.UDP(client6Addr, server6Addr, pkt[28:])
	for i, a := range []netip.AddrPort{clientAddr, serverAddr} {
		mapped := a.Addr().As16()
		copy(b[8+16*i:], mapped[:])
	}
	copy(b[40:44], pkt[20:24])
	b[46], b[47] = 0, 0
	n := len(b) - 40
	sum := ^slowSum(append(append(bytes.Clone(b[8:40]), 0, 17, byte(n>>8), byte(n)), b[40:]...))
	b[46], b[47] = byte(sum>>8), byte(sum)
	return b
}

// onePort checks that the last n packets to appliances came from one port.
func onePort(n int) step {
	return func(s *story) {
		for i := range n {
			if port := [2]byte(s.sent(i + 1)[20:]); port != [2]byte(s.sent(1)[20:]) {
				s.Errorf("packet %d from the end is from port %v", i, port)
			}
		}
	}
}

// numbers2 checks the endpoint ids of the last two packets to appliances.
func numbers2(a, b uint64) step {
	return func(s *story) {
		if got := [2]uint64{endpointOf(s.sent(2)), endpointOf(s.sent(1))}; got != [2]uint64{a, b} {
			s.Errorf("endpoints %x, want %x and %x", got, a, b)
		}
	}
}

// cookiesDiffer checks that two packets to appliances, counted from the last, have different cookies.
func cookiesDiffer(i, j int) step {
	return func(s *story) {
		if cookieOf(s.sent(i)) == cookieOf(s.sent(j)) {
			s.Errorf("packets %d and %d from the end have the same cookie", i, j)
		}
	}
}

// jump lets time pass in which the worker does nothing.
func jump(d time.Duration) step {
	return func(s *story) {
		s.diagram.Note("isthmus", "after "+d.String())
		s.now += d - time.Millisecond // inject adds one
	}
}

// checked is the SYN of a health check of the n-th appliance, and the answer.
func checked(n int) step {
	return func(s *story) {
		from := netip.AddrPortFrom(ProbeNet.Addr().Next(), 40000+uint16(n))
		for _, r := range s.engine.ProbeRoutes() {
			if r.Address == applianceN(n) {
				s.inject(ProbePortID, pkttest.TCP{Src: from, Dst: netip.AddrPortFrom(r.Via, 80), Seq: clientISN, Flags: "S"}.Bytes())
			}
		}
		if s.node.Addr() != nodeAddr || s.target != netip.AddrPortFrom(applianceN(n).Addr(), 80) {
			s.Errorf("the check went from %v to %v", s.node, s.target)
		}
		fromTarget(synAck)(s)
		if list := s.last[ProbePortID]; len(list) != 1 {
			s.Errorf("the checker got %s", describeAll(list))
		}
	}
}
