// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// returnScenarios are packets from appliances that are not what was sent to them.
var returnScenarios = []scenario{
	{
		name:  "gwlb-not-geneve",
		about: "What is neither GENEVE nor concerns a health check is dropped: other ports, other protocols, fragments.",
		with:  gateway,
		steps: steps(through("consumer", datagram), inspectedBefore(1, setByte(23, 99)), vanished(NotGeneve, 1),
			raw("provider", pkttest.GRE(applianceN(0).Addr(), nodeAddr, datagram)),
			raw("provider", pkttest.Other(applianceN(0).Addr(), nodeAddr, 17, []byte("short"))), vanished(NotGeneve, 3),
			packets("provider", func(s *story) [][]byte { return pkttest.Fragment(hairpin(s.sent(1)), 64) }), vanished(NotGeneve, 5),
			raw("provider", pkttest.ICMPEcho(applianceN(0).Addr(), nodeAddr, 1, 1, []byte("ping"))), vanished(ICMPQuery, 1),
			raw("provider", pkttest.TCP{Src: applianceN(0), Dst: netip.AddrPortFrom(nodeAddr, 6081), Seq: 1, Flags: "S"}.Bytes()), vanished(ProviderInitiated, 1)),
	},
	{
		name:  "gwlb-outer-checksum",
		about: "A UDP checksum outside is verified where there is one.",
		with:  gateway,
		steps: steps(through("consumer", datagram), inspectedBefore(1, setByte(27, 1)), vanished(OuterChecksum, 1),
			raw("provider", pkttest.UDP(applianceN(0), netip.AddrPortFrom(nodeAddr, 6081), nil)), vanished(GeneveTruncated, 1)),
	},
	{
		name:  "gwlb-geneve-truncated",
		about: "A datagram that ends before the inner packet begins, or an inner packet that ends too early, is dropped; so is a UDP length that is wrong.",
		with:  gateway,
		steps: steps(through("consumer", datagram), inspectedBefore(1, cutTo(28)), inspectedBefore(1, cutTo(35)), inspectedBefore(1, cutTo(68)),
			vanished(GeneveTruncated, 3), inspectedBefore(1, cutTo(90)), inspectedBefore(1, cutTo(99)), vanished(Malformed, 2),
			packets("provider", func(s *story) [][]byte {
				long, short := returned(s.sent(1)), returned(s.sent(1))
				long[25]++
				short[24], short[25] = 0, 7
				return [][]byte{long, short}
			}), vanished(Malformed, 4)),
	},
	{
		name:  "gwlb-geneve-version",
		about: "Only version 0 of GENEVE is taken.",
		with:  gateway,
		steps: steps(through("consumer", datagram), inspectedBefore(1, setByte(geneveStart, 0x48)), inspectedBefore(1, setByte(geneveStart, 0xc8)), vanished(GeneveVersion, 2)),
	},
	{
		name:  "gwlb-geneve-layout",
		about: "Flags, VNI and options must be as they were sent: no other flag or network, the three options and no more, in order.",
		with:  gateway,
		steps: steps(through("consumer", datagram),
			inspectedBefore(1, setByte(geneveStart+1, 0x80)), inspectedBefore(1, setByte(geneveStart+1, 0x40)), inspectedBefore(1, setByte(geneveStart+6, 1)),
			vanished(GeneveLayout, 3),
			rewrapped(func(o []*layers.GeneveOption) []*layers.GeneveOption { return []*layers.GeneveOption{o[1], o[0], o[2]} }),
			rewrapped(func(o []*layers.GeneveOption) []*layers.GeneveOption { return o[:2] }),
			rewrapped(func(o []*layers.GeneveOption) []*layers.GeneveOption { return append(o, o[2]) }),
			rewrapped(func(o []*layers.GeneveOption) []*layers.GeneveOption { o[2].Class = 0x0109; return o }),
			rewrapped(func([]*layers.GeneveOption) []*layers.GeneveOption { return nil }), vanished(GeneveLayout, 8)),
	},
	{
		name:  "gwlb-geneve-protocol",
		about: "The inner packet must be what the header announces: Ethernet, or IPv4 that is called IPv6, is not.",
		with:  gateway,
		steps: steps(through("consumer", datagram), inspectedBefore(1, setByte(geneveStart+2, 0x65), setByte(geneveStart+3, 0x58)),
			inspectedBefore(1, setByte(geneveStart+2, 0x86), setByte(geneveStart+3, 0xdd)), inspectedBefore(1, setByte(innerStart, 0x65)), vanished(GeneveProtocol, 3)),
	},
	{
		name:  "gwlb-wrong-cookie",
		about: "A cookie that names no flow, or one that has expired, leads nowhere.",
		with:  gateway,
		steps: steps(through("consumer", datagram), inspectedBefore(1, cookieTo(0)), inspectedBefore(1, cookieTo(0xffffffff)),
			inspectedBefore(1, func(b []byte) []byte { b[innerStart-1] ^= 1; return b }), vanished(WrongCookie, 3),
			jump(idleOther), inspectedBefore(1), vanished(WrongCookie, 4)),
	},
	{
		name:  "gwlb-wrong-endpoint",
		about: "The endpoint id must be one that the flow came through, not another's of the VPC or of another.",
		with:  []func(*vpc.State){withGateway, withEdge, withStranger},
		steps: steps(through("consumer", datagram), inspectedBefore(1, endpointTo(edgeNumber)), inspectedBefore(1, endpointTo(0)),
			inspectedBefore(1, endpointTo(0x0aaaaaaaaaaaaaaa)), vanished(WrongEndpoint, 3)),
	},
	{
		name:  "gwlb-wrong-target",
		about: "Only the flow's own appliance may return its packets: not another one, nobody else, and not through another node.",
		with:  []func(*vpc.State){withGateway, withOtherProvider},
		steps: steps(through("consumer", datagram), inspectedBefore(1, fromOtherAppliance), inspectedBefore(1, setByte(15, 99)), vanished(WrongTarget, 2),
			// In another provider's VPC the same address is somebody else's.
			func(s *story) { s.inject("provider-2", returned(s.sent(1))) }, vanished(WrongTarget, 3),
			inspectedBefore(1, func(b []byte) []byte { copy(b[12:16], b[16:20]); return b }), vanished(BadSource, 1)),
	},
	{
		name:  "gwlb-wrong-inner",
		about: "The inner packet must be one of the flow: not one between others, of other ports, or of another protocol, and not an error about another packet.",
		with:  gateway,
		steps: steps(through("consumer", datagram),
			inspectedBefore(1, swapInner(pkttest.UDP(clientAddr, netip.AddrPortFrom(serverAddr.Addr(), 444), []byte("hello")))),
			inspectedBefore(1, swapInner(pkttest.UDP(netip.AddrPortFrom(targetAddr.Addr(), 45678), serverAddr, []byte("hello")))),
			inspectedBefore(1, swapInner(fromHere(syn).Bytes())), inspectedBefore(1, swapInner(pkttest.GRE(clientAddr.Addr(), serverAddr.Addr(), datagram))),
			vanished(WrongInner, 4),
			packets("provider", func(s *story) [][]byte { // later fragments, whose ports nobody knows, but whose protocol
				return [][]byte{returned(s.sent(1), swapInner(fragmentsOf(fromHere(data(1, 2, long(60))).Bytes())[1]))}
			}),
			inspectedBefore(1, swapInner(pkttest.ICMPError(3, 1, routerAddr, clientAddr.Addr(), fromHere(syn).Bytes()[:28]))),
			inspectedBefore(1, swapInner(pkttest.ICMPError(3, 1, routerAddr, targetAddr.Addr(), datagram[:28]))),
			inspectedBefore(1, swapInner(pkttest.ICMPError(3, 1, routerAddr, clientAddr.Addr(), datagram[:27]))),
			inspectedBefore(1, swapInner(pkttest.ICMPEcho(routerAddr, clientAddr.Addr(), 1, 1, datagram))), vanished(WrongInner, 9),
			inspectedBefore(1, swapInner(disguise(datagram)), setByte(geneveStart+2, 0x86), setByte(geneveStart+3, 0xdd)), vanished(WrongInner, 10)),
	},
}

// toleranceScenarios are changes that appliances make and may make.
var toleranceScenarios = []scenario{
	{
		name:  "gwlb-changed-outside",
		about: "What appliances change outside is not looked at: TTL, DF, identification, TOS, the source port, and a checksum that is kept or right.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()), accepted(setByte(8, 2)), accepted(setByte(6, 0)), accepted(setByte(5, 7)), accepted(setByte(1, 0xfc)),
			accepted(setByte(20, 0x12)), accepted(withOuterChecksum), accepted(setByte(geneveStart+1, 0x3f)), accepted(setByte(geneveStart+7, 0xff))),
	},
	{
		name:  "gwlb-changed-inside",
		about: "The inner packet is sent on as it comes back: with a lower TTL, other data, or padding behind it, which is cut.",
		with:  gateway,
		steps: steps(through("consumer", fromHere(syn).Bytes()),
			comesAs(between(pkttest.TCP{Seq: 1, Ack: 2, Flags: "PA", TTL: 63, Payload: []byte("rewritten")}, clientAddr, serverAddr).Bytes()),
			inspectedBefore(1, func(b []byte) []byte { return append(b, 0, 0, 0) }), came("consumer", fromHere(syn).Bytes()),
			// An answer of the appliance's own, from the other side, of which nothing has come yet.
			comesAs(fromThere(flagged("RA", 0, clientISN+1)).Bytes()),
			through("consumer", between(syn, client6Addr, server6Addr).Bytes()),
			comesAs(between(pkttest.TCP{Seq: clientISN, Flags: "S", TTL: 63}, client6Addr, server6Addr).Bytes())),
	},
	{
		name:  "gwlb-header-of-the-other-direction",
		about: "Appliances may return a packet of one direction under the header of the other, which has another endpoint id; it leaves where its own direction came from.",
		with:  []func(*vpc.State){withGateway, withEdge},
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("edge", fromThere(synAck).Bytes()),
			inspectedBefore(1, swapInner(questionSeg)), came("consumer", questionSeg),
			inspectedBefore(2, swapInner(answerSeg)), came("edge", answerSeg)),
	},
	{
		name:  "gwlb-appliance-sends-icmp-error",
		about: "An ICMP error that an appliance makes about a flow goes to the sender of the packet it quotes, through that one's endpoint.",
		with:  []func(*vpc.State){withGateway, withEdge},
		steps: steps(through("consumer", fromHere(syn).Bytes()), through("edge", fromThere(synAck).Bytes()),
			errorTo("consumer", pkttest.ICMPError(11, 0, routerAddr, clientAddr.Addr(), fromHere(syn).Bytes()[:28])),
			errorTo("edge", pkttest.ICMPError(3, 13, routerAddr, serverAddr.Addr(), fromThere(synAck).Bytes()[:28])),
			through("consumer", pkttest.UDP(client6Addr, server6Addr, []byte("hello"))),
			errorTo("consumer", pkttest.ICMPError(1, 1, netip.MustParseAddr("2001:db8::1"), client6Addr.Addr(), pkttest.UDP(client6Addr, server6Addr, []byte("hello"))))),
	},
}

// idleOther is how long flows other than TCP live.
const idleOther = otherIdleTenths * 100 * time.Millisecond

// cutTo cuts the packet.
func cutTo(n int) edit { return func(b []byte) []byte { return b[:n] } }

func cookieTo(c uint32) edit {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[innerStart-4:], c); return b }
}

func endpointTo(n uint64) edit {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[geneveStart+12:], n); return b }
}

// rewrapped returns the last packet with other options.
func rewrapped(change func([]*layers.GeneveOption) []*layers.GeneveOption) step {
	return func(s *story) {
		pkt := s.sent(1)
		g := pkttest.Geneve{Src: netip.AddrPortFrom(outerDst(pkt), 50000), Dst: netip.AddrPortFrom(nodeAddr, 6081), Inner: pkt[innerStart:],
			Options: change(pkttest.AWSOptions(endpointOf(pkt), 0, cookieOf(pkt)))}
		s.inject("provider", g.Bytes())
	}
}

// accepted has the last packet returned with a change outside, and checks that it comes out as it was.
func accepted(e edit) step {
	return func(s *story) {
		inspectedBefore(1, e)(s)
		came("consumer", s.sent(1)[innerStart:])(s)
	}
}

// withOuterChecksum computes the UDP checksum outside.
func withOuterChecksum(b []byte) []byte {
	pseudo := append(append([]byte(nil), b[12:20]...), 0, 17, byte((len(b)-20)>>8), byte(len(b)-20))
	binary.BigEndian.PutUint16(b[26:], ^slowSum(append(pseudo, b[20:]...)))
	return b
}

// comesAs has the last packet returned with another inner packet, and checks that this comes out.
func comesAs(inner []byte) step { return errorTo("consumer", inner) }

// errorTo is comesAs for a packet that comes out of a port.
func errorTo(id string, inner []byte) step {
	return func(s *story) {
		inspectedBefore(1, swapInner(inner))(s)
		came(id, inner)(s)
	}
}

// fromOtherAppliance has the packet come from the other of two appliances.
func fromOtherAppliance(b []byte) []byte {
	b[15] ^= applianceN(0).Addr().As4()[3] ^ applianceN(1).Addr().As4()[3]
	return b
}

// withOtherProvider adds a load balancer of another VPC, on port "provider-2", whose appliances have the same addresses.
func withOtherProvider(st *vpc.State) {
	st.VPCs = append(st.VPCs, vpc.VPC{ID: "vpc-q", CIDRs: st.VPCs[0].CIDRs})
	st.Ports = append(st.Ports, vpc.Port{ID: "provider-2", VPC: "vpc-q", Kind: vpc.TUN, Netns: "/q", Device: "q0"})
	lb := st.LoadBalancers[0]
	lb.ID, lb.VPC = "gwlb-q", "vpc-q"
	lb.Nodes = []vpc.ENI{{Address: nodeAddr, Zone: zone, Ports: []string{"provider-2"}}}
	lb.Listeners = []vpc.Listener{{TargetGroup: "fw-q", IdleTimeout: lb.Listeners[0].IdleTimeout}}
	st.LoadBalancers = append(st.LoadBalancers, lb)
	g := st.TargetGroups[0]
	g.ID, g.VPC = "fw-q", "vpc-q"
	st.TargetGroups = append(st.TargetGroups, g)
}
