// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// strangerAddr is a client that no group lets in.
var strangerAddr = netip.MustParseAddrPort("10.0.4.8:45678")

// accessScenarios are who may connect to an endpoint, and how much may pass.
var accessScenarios = []scenario{
	{
		name:  "security-group-refuses-in-silence",
		about: "A client that no group lets in gets no answer, to a SYN or to anything else, on ports with a listener and without; one that is let in connects.",
		with:  []func(*vpc.State){withSecurityGroup(80, 80, "10.0.3.0/24")},
		steps: steps(
			fromClient(pkttest.TCP{Src: strangerAddr, Seq: 5, Flags: "S"}),
			fromClient(pkttest.TCP{Src: strangerAddr, Seq: 5, Ack: 6, Flags: "A"}),
			fromClient(pkttest.TCP{Src: strangerAddr, Seq: 5, Ack: 6, Flags: "R"}),
			fromClient(pkttest.TCP{Src: strangerAddr, Dst: netip.AddrPortFrom(endpointAddr.Addr(), 81), Seq: 5, Flags: "S"}),
			wantDrops(SecurityGroup, 4),
			handshake, hello, world),
	},
	{
		name:  "security-group-of-another-port",
		about: "A group says who may connect to which ports: a client that it lets connect to one port may not connect to another.",
		with:  []func(*vpc.State){withOtherGroup, withSecurityGroup(81, 443, "10.0.3.0/24")},
		steps: steps(
			fromClient(syn),
			fromClient(pkttest.TCP{Dst: netip.AddrPortFrom(endpointAddr.Addr(), 81), Seq: 5, Flags: "S"}),
			wantDrops(SecurityGroup, 1)),
	},
	{
		name:  "filtered-without-groups",
		about: "A filtered endpoint without groups lets nobody in.",
		with:  []func(*vpc.State){func(st *vpc.State) { st.Endpoints[0].Filtered = true }},
		steps: steps(fromClient(syn), fromClient(ack(5, 6)), wantDrops(SecurityGroup, 2)),
	},
	{
		name:  "security-group-closes-on-newcomers-only",
		about: "When the rules change, connections that exist go on; the same client's next one is refused, also on the port of an old one, which that does not end.",
		with:  []func(*vpc.State){withSecurityGroup(80, 80, "10.0.3.0/24")},
		steps: steps(handshake, hello,
			change("nobody is let in any more", func(st *vpc.State) { st.SecurityGroups[0].Ingress = nil }),
			hello, world, fromClient(syn), // repeated, of the connection that exists
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("10.0.3.7:99"), Seq: 5, Flags: "S"}),
			fromClient(pkttest.TCP{Seq: 77, Flags: "S"}),
			wantDrops(SecurityGroup, 2),
			hello, world,
			change("and in again", func(st *vpc.State) {
				st.SecurityGroups[0].Ingress = []vpc.SecurityRule{{ToPort: 65535, Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}
			}),
			fromClient(pkttest.TCP{Seq: 77, Flags: "S"}), wantDrops(SecurityGroup, 2)),
	},
	{
		name:  "security-group-forgets-idle-connections",
		about: "A connection that has idled out is none any more: what follows is asked for anew, even before expiry has visited it.",
		with:  []func(*vpc.State){withSecurityGroup(80, 80, "10.0.3.0/24")},
		steps: steps(handshake,
			change("nobody is let in any more", func(st *vpc.State) { st.SecurityGroups[0].Ingress = nil }),
			func(s *story) { s.now += 350 * time.Second },
			hello, fromClient(syn), wantDrops(SecurityGroup, 2), wantDrops(FlowExpired, 0)),
	},
	{
		name:  "bandwidth-exceeded",
		about: "What is over the bandwidth of an endpoint is dropped, both ways. A packet may leave a debt, here of a thousand bytes: then nothing passes until, a fifth of a second later, it is paid.",
		with:  []func(*vpc.State){withBandwidth(vpc.Bandwidth{Rate: 40_000, Burst: 40_000})},
		steps: steps(handshake, useUp(zone), wait(time.Second),
			fromClient(data(clientISN+1, targetISN+1, long(3400))), wantDrops(Bandwidth, 0),
			fromClient(data(clientISN+3401, targetISN+1, "hello")), world, wantDrops(Bandwidth, 2),
			wait(200*time.Millisecond),
			fromClient(data(clientISN+3401, targetISN+1, "hello")), world, wantDrops(Bandwidth, 2)),
	},
	{
		name:  "bandwidth-exceeded-by-newcomers",
		about: "A SYN for which there is no bandwidth opens no connection, and takes no port of the node.",
		with:  []func(*vpc.State){withBandwidth(vpc.Bandwidth{Rate: 8_000, Burst: 8_000})},
		steps: steps(useUp(zone), fromClient(syn), wantDrops(Bandwidth, 1),
			func(s *story) {
				if f := s.engine.Stats().Flows; f.New != 0 {
					s.Errorf("flows %+v", f)
				}
			},
			wait(time.Second), fromClient(syn)),
	},
	{
		name:  "bandwidth-is-not-for-strangers",
		about: "Whom an endpoint would refuse anyway does not use up its bandwidth.",
		with:  []func(*vpc.State){withBandwidth(vpc.Bandwidth{Rate: 8_000, Burst: 8_000}), withSecurityGroup(80, 80, "10.0.3.0/24")},
		steps: steps(useUp(zone), wait(time.Second),
			fromClient(pkttest.TCP{Src: strangerAddr, Seq: 5, Ack: 6, Flags: "A", Payload: []byte(long(1400))}),
			fromClient(pkttest.TCP{Src: strangerAddr, Seq: 5, Flags: "S"}),
			fromClient(data(5, 6, long(1400))), // answered with RST
			wantDrops(SecurityGroup, 2), wantDrops(NoFlow, 1),
			fromClient(syn), wantDrops(Bandwidth, 0)),
	},
	{
		name:  "gwlb-bandwidth-exceeded",
		about: "The bandwidth of a GWLB endpoint is that of both ways: a packet is charged when it is routed into the endpoint and again when it leaves it. A flow does not begin with a packet for which there is none.",
		with:  []func(*vpc.State){withGateway, withBandwidth(vpc.Bandwidth{Rate: 8_000, Burst: 8_000})},
		steps: steps(through("consumer", fromHere(syn).Bytes()), useUp(zone),
			raw("consumer", fromHere(ack(firstSeq, targetISN+1)).Bytes()), vanished(Bandwidth, 1),
			raw("consumer", pkttest.UDP(clientAddr, serverAddr, []byte("question"))), vanished(Bandwidth, 2),
			func(s *story) {
				if f := s.engine.Stats().Flows; f.New != 1 {
					s.Errorf("flows %+v", f)
				}
			},
			wait(time.Second),
			raw("consumer", fromHere(ack(firstSeq, targetISN+1)).Bytes()), wantDrops(Bandwidth, 2),
			useUp(zone), inspectedBefore(1), vanished(Bandwidth, 3)),
	},
	{
		name:  "bandwidth-of-a-zone",
		about: "Each zone of an endpoint has its own bandwidth.",
		with:  []func(*vpc.State){withSecondZone, withBandwidth(vpc.Bandwidth{Rate: 8_000, Burst: 8_000})},
		steps: steps(useUp(zone), fromClient(syn), wantDrops(Bandwidth, 1),
			fromClient(pkttest.TCP{Dst: endpoint2Addr, Seq: 5, Flags: "S"}), wantDrops(Bandwidth, 1)),
	},
}

// withSecurityGroup has the endpoint ask a group of one rule.
func withSecurityGroup(from, to uint16, sources ...string) func(*vpc.State) {
	return func(st *vpc.State) {
		rule := vpc.SecurityRule{FromPort: from, ToPort: to}
		for _, s := range sources {
			rule.Sources = append(rule.Sources, netip.MustParsePrefix(s))
		}
		st.SecurityGroups = []vpc.SecurityGroup{{ID: "sg-clients", Ingress: []vpc.SecurityRule{rule}}}
		st.Endpoints[0].SecurityGroups, st.Endpoints[0].Filtered = []string{"sg-clients"}, true
	}
}

// withBandwidth limits the first endpoint.
func withBandwidth(b vpc.Bandwidth) func(*vpc.State) {
	return func(st *vpc.State) { st.Endpoints[0].Bandwidth = b }
}

// limiterIn is the limiter of the first endpoint in a zone.
func (b *bed) limiterIn(zone string) *limiter {
	e := &b.state.Endpoints[0]
	return b.engine.view.Load().limiters[limitID{e.ID, e.Generation, zone}]
}

// useUp leaves the first endpoint in a zone in debt, as if it had been busy: half a second passes before anything does.
func useUp(zone string) step {
	return func(s *story) {
		s.diagram.Note("isthmus", "the endpoint has used up its bandwidth in "+zone)
		s.limiterIn(zone).empty(s.now)
	}
}
