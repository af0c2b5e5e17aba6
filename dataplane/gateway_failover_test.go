// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Segments of a flow that has begun, and a SYN on the same tuple.
var (
	questionSeg = fromHere(data(clientISN+1, targetISN+1, "hello")).Bytes()
	answerSeg   = fromThere(data(targetISN+1, clientISN+6, "world")).Bytes()
	newSYN      = fromHere(pkttest.TCP{Seq: 77, Flags: "S"}).Bytes()
	datagram    = pkttest.UDP(clientAddr, serverAddr, []byte("hello"))

	flowsBegun = []step{through("consumer", datagram), through("consumer", fromHere(syn).Bytes()), through("consumer", fromThere(synAck).Bytes())}
)

// failoverScenarios are appliances that fail or leave, and endpoints that do.
var failoverScenarios = []scenario{
	{
		name:  "gwlb-unhealthy-no-rebalance",
		about: "The flows of an appliance that turned unhealthy stay with it. New ones go to the others, also on a tuple that has been used.",
		with:  gateway,
		steps: steps(flowsBegun, fails, through("consumer", questionSeg), through("consumer", answerSeg), cookies(1, 4),
			sendsElsewhere(4, newSYN), others(4), wentTo(1, 5)),
	},
	{
		name:  "gwlb-unhealthy-rebalance",
		about: "With rebalancing the flows of an appliance that turned unhealthy move to another at their next packet; what the old one still returns passes.",
		with:  []func(*vpc.State){withGateway, withRebalance},
		steps: steps(flowsBegun, fails, sendsElsewhere(1, questionSeg), inspected(), came("consumer", questionSeg),
			inspectedBefore(2), came("consumer", fromThere(synAck).Bytes()),
			through("consumer", answerSeg), wentTo(1, 2), cookies(1, 4),
			// The flow does not move back.
			health(nil), through("consumer", questionSeg), wentTo(1, 3)),
	},
	{
		name:  "gwlb-deregistered-no-rebalance",
		about: "The flows of a deregistered appliance stay with it, also when its delay has passed; it gets no new ones.",
		with:  gateway,
		steps: steps(flowsBegun, drains, through("consumer", questionSeg), others(4), wentTo(1, 4),
			through("consumer", answerSeg), func(s *story) { endDraining(fw(s.current()))(s) },
			through("consumer", questionSeg), wentTo(1, 2), cookies(1, 2), sendsElsewhere(1, newSYN)),
	},
	{
		name:  "gwlb-deregistered-rebalance",
		about: "With rebalancing the flows of a deregistered appliance move to another when its delay has passed, not before.",
		with:  []func(*vpc.State){withGateway, withRebalance},
		steps: steps(flowsBegun, drains, through("consumer", questionSeg), wentTo(1, 2),
			func(s *story) { endDraining(fw(s.current()))(s) },
			sendsElsewhere(1, answerSeg), inspected(), came("consumer", answerSeg),
			through("consumer", datagram)),
	},
	{
		name:  "gwlb-reset-on-unhealthy",
		about: "Where the group says so, TCP flows of an appliance that turned unhealthy are answered with RST, both ways; others stay with it. A new connection on the tuple goes elsewhere.",
		with:  []func(*vpc.State){withGateway, func(st *vpc.State) { st.TargetGroups[0].ResetOnUnhealthy = true }},
		steps: steps(flowsBegun, fails, raw("consumer", questionSeg), reset("consumer"), wantDrops(TargetUnhealthy, 1),
			raw("consumer", fromHere(syn).Bytes()), reset("consumer"),
			// What has ended stays so.
			health(nil), raw("consumer", answerSeg), reset("consumer"), wantDrops(TargetUnhealthy, 3),
			raw("consumer", fromThere(flagged("R", targetISN+1, 0)).Bytes()), vanished(TargetUnhealthy, 4),
			packets("consumer", func(*story) [][]byte { return fragmentsOf(questionSeg)[1:] }),
			vanished(FragmentOrphan, 1),
			packets("consumer", func(*story) [][]byte { return fragmentsOf(questionSeg) }), wantDrops(TargetUnhealthy, 6),
			fails, sendsElsewhere(1, newSYN), through("consumer", newSYN)),
	},
	{
		name:  "gwlb-reset-on-deregistration",
		about: "Where the group says so, TCP flows of a deregistered appliance are answered with RST when its delay has passed.",
		with:  []func(*vpc.State){withGateway, func(st *vpc.State) { st.TargetGroups[0].ResetOnDeregistration = true }},
		steps: steps(flowsBegun, drains, through("consumer", questionSeg), func(s *story) { endDraining(fw(s.current()))(s) },
			raw("consumer", answerSeg), reset("consumer"), wantDrops(TargetDeregistered, 1),
			sendsElsewhere(1, newSYN)),
	},
	{
		name:  "gwlb-removed-appliance-keeps-flows",
		about: "An appliance that has left the state keeps its flows, as if it were draining, until the last has idled out.",
		with:  gateway,
		steps: steps(flowsBegun, func(s *story) { change("the appliance is removed", removeTarget(applianceN(s.current())))(s) },
			through("consumer", questionSeg), through("consumer", answerSeg), wentTo(1, 3), cookies(1, 3), others(3), wentTo(2, 4)),
	},
	{
		name:  "gwlb-group-replaced",
		about: "When the listener gets another target group and the old one is removed, its flows move to appliances of the new one.",
		with:  gateway,
		steps: steps(flowsBegun, change("another group serves", func(st *vpc.State) {
			st.TargetGroups[0].ID = "fw-2"
			st.TargetGroups[0].Targets = []vpc.Target{{Address: applianceN(3).Addr(), Port: 6081, Zone: zone}}
			st.LoadBalancers[0].Listeners[0].TargetGroup = "fw-2"
		}), through("consumer", questionSeg), through("consumer", answerSeg), cookies(1, 4), inspectedBefore(3), vanished(WrongTarget, 1)),
	},
	{
		name:  "gwlb-load-balancer-replaced",
		about: "When a service moves to another load balancer flows go on through its node, to its appliances.",
		with:  gateway,
		steps: steps(flowsBegun, change("another load balancer serves", func(st *vpc.State) {
			lb := &st.LoadBalancers[0]
			lb.ID, lb.Nodes[0].Address = "gwlb-2", netip.MustParseAddr("10.0.1.11")
			st.Services[0].LoadBalancers = []string{"gwlb-2"}
		}), through("consumer", questionSeg), inspectedBefore(2), vanished(NoENI, 1)),
	},
	{
		name:  "gwlb-fails-open",
		about: "When all appliances are unhealthy flows stay where they are, and new ones go to any.",
		with:  []func(*vpc.State){withGateway, withRebalance},
		steps: steps(flowsBegun, health(map[TargetID]Health{fw(0): Unhealthy, fw(1): Unhealthy}), through("consumer", questionSeg), wentTo(1, 3),
			others(6), wentTo(2, 6)),
	},
	{
		name:  "gwlb-no-target",
		about: "Without an appliance in its zone an endpoint carries nothing.",
		with:  []func(*vpc.State){withGateway, withAppliances(0)},
		steps: steps(raw("consumer", fromHere(syn).Bytes()), raw("consumer", datagram), vanished(NoTarget, 2)),
	},
	{
		name:  "gwlb-cross-zone-off",
		about: "A zone uses its own appliances alone, and fails open by itself: those of another zone do not help it.",
		with:  []func(*vpc.State){withGateway, withOtherZone, withRebalance},
		steps: steps(others(8), wentTo(1, 8), raw("zone-2", datagram), wentTo(2, 2),
			health(map[TargetID]Health{fw(0): Unhealthy}), others(8), wentTo(1, 8), raw("zone-2", datagram), wentTo(2, 2)),
	},
	{
		name:  "gwlb-cross-zone-on",
		about: "With cross-zone balancing a zone uses the healthy appliances of all zones.",
		with:  []func(*vpc.State){withGateway, withOtherZone, withRebalance, func(st *vpc.State) { st.LoadBalancers[0].CrossZone = true }},
		steps: steps(others(8), wentTo(2, 8), health(map[TargetID]Health{fw(0): Unhealthy}), others(8), wentTo(1, 8),
			func(s *story) {
				if s.current() != 1 {
					s.Errorf("flows went to appliance %d", s.current())
				}
			}, inspected(), raw("zone-2", datagram), wentTo(1, 2)),
	},
	{
		name:  "gwlb-endpoint-removed",
		about: "When an endpoint is removed what is routed to it vanishes, and so does what comes back for it. Flows that have another endpoint go on through that.",
		with:  []func(*vpc.State){withGateway, withEdge},
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("edge", fromThere(synAck).Bytes()),
			change("the endpoint is removed", func(st *vpc.State) { st.Endpoints = st.Endpoints[1:] }),
			raw("consumer", questionSeg), vanished(NoENI, 1),
			inspectedBefore(2), vanished(WrongEndpoint, 1),
			inspectedBefore(1, swapInner(questionSeg)), vanished(NoRoute, 1),
			through("edge", answerSeg), through("edge", questionSeg), cookies(1, 4)),
	},
	{
		name:  "gwlb-endpoint-recreated",
		about: "An endpoint that was removed and made again has none of the old flows, whose cookies lead nowhere.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()),
			change("the endpoint is removed", func(st *vpc.State) { st.Endpoints = nil }),
			change("the endpoint is back", func(st *vpc.State) { st.Endpoints = gatewayState().Endpoints }),
			inspectedBefore(1), vanished(WrongEndpoint, 1),
			raw("consumer", questionSeg), vanished(NotInspected, 1), through("consumer", fromHere(syn).Bytes()), cookies(2, 2)),
	},
	{
		name:  "gwlb-no-route",
		about: "While the namespace of the appliances is gone nothing is carried, and while that of the endpoint is, nothing comes back.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()), losePort("provider"), raw("consumer", questionSeg), vanished(NoRoute, 1),
			change("the namespace is back", func(*vpc.State) {}), through("consumer", questionSeg),
			losePort("consumer"), inspectedBefore(1), vanished(NoRoute, 2)),
	},
}

// withOtherZone moves the second appliance to another zone, where there is a node, and an endpoint on port "zone-2".
func withOtherZone(st *vpc.State) {
	st.TargetGroups[0].Targets[1].Zone = zone2
	lb := &st.LoadBalancers[0]
	lb.Nodes = append(lb.Nodes, vpc.ENI{Address: netip.MustParseAddr("10.0.2.10"), Zone: zone2, Ports: []string{"provider"}})
	withEdge(st)
	st.Ports[2].ID = "zone-2"
	ep := &st.Endpoints[1]
	ep.ENIs[0].Zone, ep.ENIs[0].Ports = zone2, []string{"zone-2"}
}

// sendsElsewhere sends a packet into the first endpoint and checks that it goes to another appliance than the n-th packet
// before it.
func sendsElsewhere(n int, pkt []byte) step {
	return func(s *story) {
		s.Helper()
		s.inject("consumer", pkt)
		if was, is := outerDst(s.sent(n+1)), outerDst(s.sent(1)); was == is || len(s.last["provider"]) != 1 {
			s.Errorf("%s went to %v, and %v was where a packet went before", describeAll(s.last["provider"]), is, was)
		}
	}
}
