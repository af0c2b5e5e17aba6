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

// connectionScenarios are the lives of connections without PROXY header.
var connectionScenarios = []scenario{
	{
		name:  "handshake-and-data",
		about: "A client connects, asks and is answered; the target sees the node's address, the client the endpoint's.",
		steps: steps(handshake,
			fromClient(data(clientISN+1, targetISN+1, "GET / HTTP/1.0\r\n\r\n")),
			fromTarget(data(targetISN+1, clientISN+19, "HTTP/1.0 200 OK\r\n\r\nhello")),
			fromClient(ack(clientISN+19, targetISN+25))),
	},
	{
		name:  "closed-by-both",
		about: "Both sides send FIN; late segments still pass for 60 s, then the connection is unknown.",
		steps: steps(handshake,
			fromClient(flagged("FA", clientISN+1, targetISN+1)),
			fromTarget(flagged("FA", targetISN+1, clientISN+2)),
			fromClient(flagged("A", clientISN+2, targetISN+2)),
			wait(59*time.Second),
			fromTarget(flagged("FA", targetISN+1, clientISN+2)),
			wait(2*time.Second),
			fromTarget(flagged("FA", targetISN+1, clientISN+2))),
	},
	{
		name:  "half-closed-stays-open",
		about: "A client that has sent FIN goes on receiving, as long as the idle timeout allows.",
		steps: steps(handshake,
			fromClient(flagged("FA", clientISN+1, targetISN+1)),
			fromTarget(flagged("A", targetISN+1, clientISN+2)),
			wait(300*time.Second),
			fromTarget(data(targetISN+1, clientISN+2, "late")),
			fromClient(ack(clientISN+2, targetISN+5))),
	},
	{
		name:  "syn-retransmitted",
		about: "A repeated SYN takes the way of the first: the same target, the same NAT port.",
		with:  []func(*vpc.State){withTargets(4)},
		steps: steps(fromClient(syn), wait(time.Second), fromClient(syn), wait(2*time.Second), fromClient(syn)),
	},
	{
		name:  "tuple-reused-with-new-isn",
		about: "A client that uses its port again with another initial number gets a new connection, perhaps to another target.",
		with:  []func(*vpc.State){withTargets(4)},
		steps: steps(fromClient(syn), fromClient(pkttest.TCP{Seq: 77777, Flags: "S", Window: 1000}),
			fromClient(pkttest.TCP{Seq: 88888, Flags: "S", Window: 1000})),
	},
	{
		name:  "mss-clamped",
		about: "An MSS of 8960 is lowered to 8460 in SYN and SYN-ACK, so that no packet is longer than 8500 bytes.",
		steps: steps(fromClient(pkttest.TCP{Seq: 1, Flags: "S", Window: 1000, Options: []layers.TCPOption{pkttest.NOP(), pkttest.MSS(8960)}}),
			fromTarget(pkttest.TCP{Seq: 2, Ack: 2, Flags: "SA", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(8960)}})),
	},
	{
		name:  "mss-small-kept",
		about: "An MSS below the limit passes unchanged, and a SYN without the option gets none.",
		steps: steps(fromClient(pkttest.TCP{Seq: 1, Flags: "S", Window: 1000, Options: []layers.TCPOption{pkttest.MSS(1460)}}),
			fromTarget(pkttest.TCP{Seq: 2, Ack: 2, Flags: "SA", Window: 1000})),
	},
	{
		name:  "idle-expired-answered-with-rst",
		about: "After 350 s without a packet the connection is gone: data is answered with RST, on both sides.",
		steps: steps(handshake, wait(350*time.Second-2*time.Millisecond),
			fromClient(ack(clientISN+1, targetISN+1)),
			wait(351*time.Second),
			fromClient(data(clientISN+1, targetISN+1, "too late")),
			fromTarget(data(targetISN+1, clientISN+1, "too late"))),
	},
	{
		name:  "idle-found-before-expiry-swept",
		about: "A connection whose time has just run out is refused even before expiry has visited it.",
		steps: steps(handshake,
			func(s *story) { s.now += 350 * time.Second },
			fromTarget(data(targetISN+1, clientISN+1, "too late")),
			wantDrops(FlowExpired, 1)),
	},
	{
		name:  "keepalive-keeps-alive",
		about: "A keepalive of either side restarts the idle timeout.",
		steps: steps(handshake,
			wait(200*time.Second), fromClient(ack(clientISN, targetISN+1)),
			wait(200*time.Second), fromTarget(ack(targetISN+1, clientISN+1)),
			wait(200*time.Second), fromClient(data(clientISN+1, targetISN+1, "in time"))),
	},
	{
		name:  "half-open-expires",
		about: "A connection that is not established within 30 s is forgotten, however often its SYN is repeated.",
		steps: steps(fromClient(syn), wait(20*time.Second), fromClient(syn), wait(11*time.Second),
			fromTarget(synAck), wantDrops(NoFlow, 1)),
	},
	{
		name:  "reset-leaves-tombstone",
		about: "After a RST stray segments of both sides are answered with RST, before and after the connection is forgotten.",
		steps: steps(handshake,
			fromTarget(flagged("R", targetISN+1, 0)),
			fromClient(data(clientISN+1, targetISN+1, "stray")),
			fromTarget(data(targetISN+1, clientISN+1, "stray")),
			wait(6*time.Second),
			fromClient(data(clientISN+1, targetISN+1, "late"))),
	},
	{
		name:  "refused-by-target",
		about: "A target without a listener refuses with RST, which reaches the client from the endpoint.",
		steps: steps(fromClient(syn), fromTarget(flagged("RA", 0, clientISN+1)), fromClient(syn)),
	},
	{
		name:  "reset-of-old-ignored",
		about: "A RST from before what its receiver has acknowledged is passed on, but does not end the connection.",
		steps: steps(handshake,
			fromClient(data(clientISN+1, targetISN+1, "hello")),
			fromTarget(ack(targetISN+1, clientISN+6)),
			fromClient(flagged("R", clientISN+1, 0)),
			fromTarget(data(targetISN+1, clientISN+6, "hi")),
			fromClient(ack(clientISN+6, targetISN+3)),
			fromTarget(flagged("R", targetISN+1, 0)),
			fromClient(data(clientISN+6, targetISN+3, "still here"))),
	},
	{
		name:  "syn-ack-duplicated-late",
		about: "A SYN-ACK that arrives again late takes back nothing of what has been acknowledged since: an old RST stays an old one.",
		steps: steps(handshake,
			fromClient(data(clientISN+1, targetISN+1, "hello")),
			fromTarget(ack(targetISN+1, clientISN+6)),
			fromTarget(synAck),
			fromClient(flagged("R", clientISN+1, 0)),
			fromClient(data(clientISN+6, targetISN+1, "still here"))),
	},
	{
		name:  "reset-behind-lost-data",
		about: "A target that cannot take the client's RST, because data before it was lost, asks again and is answered with one it takes.",
		steps: steps(handshake,
			fromClient(data(clientISN+1, targetISN+1, "lost behind us")),
			fromClient(flagged("R", clientISN+15, 0)),
			fromTarget(ack(targetISN+1, clientISN+1))),
	},
	{
		name:  "icmp-error-translated",
		about: "Host unreachable about a segment to the target comes to the client from the endpoint, about the client's own segment.",
		steps: steps(handshake, fromClient(data(clientISN+1, targetISN+1, "hello")),
			packets("provider", func(s *story) [][]byte { return s.icmpAbout(3, 1, 28) }),
			packets("provider", func(s *story) [][]byte { return s.icmpAbout(11, 0, 57) })),
	},
}

// withTargets gives the group n targets, 10.0.1.20 and those after it.
func withTargets(n int) func(*vpc.State) {
	return func(st *vpc.State) {
		g := &st.TargetGroups[0]
		g.Targets = nil
		for i := range n {
			g.Targets = append(g.Targets, vpc.Target{Address: targetN(i).Addr(), Port: targetN(i).Port(), Zone: zone})
		}
	}
}

// targetN is the address of a target.
func targetN(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(20 + i)}), 8080)
}

// webTarget names a target of the group.
func webTarget(i int) TargetID { return TargetID{Group: "web", Address: targetN(i)} }

// icmpAbout is an ICMP error of a router in the provider's network about the last packet toward the target, of which it
// quotes n bytes.
func (s *story) icmpAbout(typ, code uint8, n int) [][]byte {
	list := s.out["provider"]
	quoted := list[len(list)-1].data
	return [][]byte{pkttest.ICMPError(typ, code, routerAddr, s.node.Addr(), quoted[:min(n, len(quoted))])}
}

var routerAddr = netip.MustParseAddr("10.0.1.1")
