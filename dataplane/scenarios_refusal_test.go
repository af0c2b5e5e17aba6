// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// refusalScenarios are what an endpoint and a node do not take.
var refusalScenarios = []scenario{
	{
		name:  "too-big-vanishes",
		about: "A packet of 8500 bytes passes, one of 8501 vanishes without ICMP, with DF and without.",
		steps: steps(handshake,
			fromClient(pkttest.TCP{Seq: clientISN + 1, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(8460))}),
			fromClient(pkttest.TCP{Seq: clientISN + 1, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(8461))}),
			fromClient(pkttest.TCP{Seq: clientISN + 1, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(8461)), NoDF: true})),
	},
	{
		name:  "too-big-from-target-vanishes",
		about: "The limit of 8500 bytes holds on the way back as well.",
		steps: steps(handshake,
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: clientISN + 1, Flags: "A", Payload: []byte(long(8460))}),
			fromTarget(pkttest.TCP{Seq: targetISN + 1, Ack: clientISN + 1, Flags: "A", Payload: []byte(long(8461))})),
	},
	{
		name:  "ping-unanswered",
		about: "Neither the endpoint nor the node answers ping.",
		steps: steps(
			raw("consumer", pkttest.ICMPEcho(clientAddr.Addr(), endpointAddr.Addr(), 1, 1, []byte("ping"))),
			raw("provider", pkttest.ICMPEcho(targetAddr.Addr(), nodeAddr, 1, 1, []byte("ping")))),
	},
	{
		name:  "udp-unanswered",
		about: "Datagrams to the endpoint or the node vanish.",
		steps: steps(
			raw("consumer", pkttest.UDP(clientAddr, endpointAddr, []byte("hello"))),
			raw("provider", pkttest.UDP(targetAddr, netip.AddrPortFrom(nodeAddr, 80), []byte("hello")))),
	},
	{
		name:  "fragment-dropped",
		about: "Fragments of TCP are dropped, first and later ones, on both sides.",
		steps: steps(handshake,
			packets("consumer", func(s *story) [][]byte {
				return pkttest.Fragment(pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: clientISN + 1, Ack: targetISN + 1,
					Flags: "A", Payload: []byte(long(100))}.Bytes(), 64)
			}),
			packets("provider", func(s *story) [][]byte {
				return pkttest.Fragment(pkttest.TCP{Src: s.target, Dst: s.node, Seq: targetISN + 1, Ack: clientISN + 1,
					Flags: "A", Payload: []byte(long(100))}.Bytes(), 64)
			})),
	},
	{
		name:  "provider-cannot-initiate",
		about: "A SYN from the provider's side is dropped: to the node's ports, known or not, and to an endpoint from the wrong side.",
		steps: steps(handshake,
			fromTarget(pkttest.TCP{Seq: 5, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Dst: netip.AddrPortFrom(nodeAddr, 80), Seq: 5, Flags: "S", Window: 1000}),
			fromTarget(pkttest.TCP{Dst: endpointAddr, Seq: 5, Flags: "S", Window: 1000})),
	},
	{
		name:  "unknown-segment-answered-with-rst",
		about: "A segment of no connection is answered with RST as RFC 9293 has it, and a RST is not answered.",
		steps: steps(
			fromClient(data(500, 600, "lost")),
			fromClient(flagged("A", 500, 600)),
			fromClient(flagged("R", 500, 600)),
			fromTarget(pkttest.TCP{Src: targetAddr, Dst: netip.AddrPortFrom(nodeAddr, 20000), Seq: 7, Ack: 8, Flags: "FA"}),
			fromTarget(pkttest.TCP{Src: targetAddr, Dst: netip.AddrPortFrom(nodeAddr, 20000), Seq: 7, Ack: 8, Flags: "SA"}),
			fromTarget(pkttest.TCP{Src: targetAddr, Dst: netip.AddrPortFrom(nodeAddr, 20000), Seq: 7, Ack: 8, Flags: "RA"})),
	},
	{
		name:  "no-listener",
		about: "A port without listener stays silent, for a SYN and for anything else.",
		steps: steps(
			fromClient(pkttest.TCP{Dst: netip.AddrPortFrom(endpointAddr.Addr(), 81), Seq: 1, Flags: "S"}),
			fromClient(pkttest.TCP{Dst: netip.AddrPortFrom(endpointAddr.Addr(), 81), Seq: 1, Ack: 1, Flags: "A"})),
	},
	{
		name:  "address-of-nobody",
		about: "What is for no ENI of the port is dropped; an ENI that only the other side reaches is counted as that.",
		steps: steps(
			fromClient(pkttest.TCP{Dst: netip.MustParseAddrPort("10.0.9.10:80"), Seq: 1, Flags: "S"}),
			fromClient(pkttest.TCP{Dst: netip.AddrPortFrom(nodeAddr, 80), Seq: 1, Flags: "S"})),
	},
	{
		name:  "source-cannot-be-a-peer",
		about: "Sources that are the ENI itself, loopback, multicast, broadcast or unspecified are dropped.",
		steps: steps(
			fromClient(pkttest.TCP{Src: netip.AddrPortFrom(endpointAddr.Addr(), 99), Seq: 1, Flags: "S"}),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("127.0.0.1:99"), Seq: 1, Flags: "S"}),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("224.0.0.1:99"), Seq: 1, Flags: "S"}),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("255.255.255.255:99"), Seq: 1, Flags: "S"}),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("0.0.0.0:99"), Seq: 1, Flags: "S"})),
	},
	{
		name:  "flags-of-no-connection",
		about: "Segments without SYN, RST or ACK, and SYN together with FIN or RST, are dropped.",
		steps: steps(
			fromClient(flagged("", 1, 0)), fromClient(flagged("F", 1, 0)), fromClient(flagged("PU", 1, 0)),
			fromClient(flagged("SF", 1, 0)), fromClient(flagged("SR", 1, 0)),
			fromTarget(pkttest.TCP{Src: targetAddr, Dst: netip.AddrPortFrom(nodeAddr, 20000), Flags: "SFA"})),
	},
	{
		name:  "md5-and-ao-dropped",
		about: "A SYN with TCP MD5 or TCP-AO, which sign the addresses, is dropped.",
		steps: steps(
			fromClient(pkttest.TCP{Seq: 1, Flags: "S", Options: []layers.TCPOption{{OptionType: 19, OptionLength: 18, OptionData: make([]byte, 16)}}}),
			fromClient(pkttest.TCP{Seq: 1, Flags: "S", Options: []layers.TCPOption{{OptionType: 29, OptionLength: 16, OptionData: make([]byte, 14)}}})),
	},
	{
		name:  "malformed-and-ipv6",
		about: "What is not IPv4, or contradicts itself, is dropped.",
		steps: steps(
			raw("consumer", append([]byte{0x60, 0, 0, 0, 0, 0, 59, 64}, make([]byte, 32)...)),
			packets("consumer", func(s *story) [][]byte {
				whole := pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: 1, Flags: "S"}.Bytes()
				shortOffset := append([]byte(nil), whole...)
				shortOffset[32] = 4 << 4
				longOffset := append([]byte(nil), whole...)
				longOffset[32] = 15 << 4
				return [][]byte{whole[:39], whole[:12], shortOffset, longOffset}
			})),
	},
	{
		name:  "icmp-frag-needed-dropped",
		about: "Nothing tells a client of a smaller MTU: fragmentation-needed is dropped, from routers on either side.",
		steps: steps(handshake, fromClient(data(clientISN+1, targetISN+1, "hello")),
			packets("provider", func(s *story) [][]byte { return s.icmpAbout(3, 4, 28) })),
	},
	{
		name:  "icmp-of-nothing-dropped",
		about: "ICMP errors about no connection, about another's packet, from the client's side, or too short, are dropped.",
		steps: steps(handshake, fromClient(data(clientISN+1, targetISN+1, "hello")),
			packets("provider", func(s *story) [][]byte {
				node := netip.AddrPortFrom(nodeAddr, s.node.Port()^1)
				unknown := pkttest.TCP{Src: node, Dst: targetAddr, Seq: 1, Flags: "A"}.Bytes()
				foreign := pkttest.TCP{Src: netip.AddrPortFrom(routerAddr, s.node.Port()), Dst: targetAddr, Seq: 1, Flags: "A"}.Bytes()
				return [][]byte{
					pkttest.ICMPError(3, 1, routerAddr, nodeAddr, unknown),
					pkttest.ICMPError(3, 1, routerAddr, nodeAddr, foreign),
					pkttest.ICMPError(3, 1, routerAddr, nodeAddr, pkttest.UDP(node, targetAddr, []byte("datagram"))),
					pkttest.ICMPError(3, 1, routerAddr, nodeAddr, unknown[:20]),
				}
			}),
			packets("consumer", func(s *story) [][]byte {
				back := s.out["consumer"][0].data
				return [][]byte{pkttest.ICMPError(3, 1, clientAddr.Addr(), endpointAddr.Addr(), back[:28])}
			})),
	},
	{
		name:  "icmp-bad-checksum-dropped",
		about: "An ICMP error is dropped when its checksum, or that of the header it quotes, is wrong.",
		steps: steps(handshake, fromClient(data(clientISN+1, targetISN+1, "hello")),
			packets("provider", func(s *story) [][]byte {
				outer := s.icmpAbout(3, 1, 28)[0]
				outer[22] ^= 1
				quoted := append([]byte(nil), s.out["provider"][len(s.out["provider"])-1].data[:28]...)
				quoted[10] ^= 1
				return [][]byte{outer, pkttest.ICMPError(3, 1, routerAddr, nodeAddr, quoted)}
			})),
	},
	{
		name:  "no-target-answered-with-rst",
		about: "Without a target for new connections in the zone the SYN is answered with RST.",
		with:  []func(*vpc.State){func(st *vpc.State) { st.TargetGroups[0].Targets[0].Draining = true }},
		steps: steps(fromClient(syn)),
	},
	{
		name:  "no-route-while-port-is-gone",
		about: "While the provider's namespace is gone, new connections vanish and old ones end with RST; when it is back, so is the service.",
		steps: steps(handshake, losePort("provider"),
			fromClient(data(clientISN+1, targetISN+1, "hello")),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("10.0.3.8:5000"), Seq: 1, Flags: "S"}),
			wait(time.Second),
			change("the provider's namespace is back", func(*vpc.State) {}),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("10.0.3.8:5000"), Seq: 1, Flags: "S"})),
	},
}
