// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// In these stories "consumer" is the port of a GWLB endpoint between a client and the rest of the world, "edge" that of
// another endpoint of the VPC, at its other side, and "provider" that of the appliances' VPC.

const (
	edgeID      = "vpce-0fedcba9876543210"
	edgeNumber  = 0xfedcba9876543210
	gwlbNumber  = 0x123456789abcdef0 // of endpointID
	strangerID  = "vpce-0aaaaaaaaaaaaaaaa"
	geneveStart = 28 // of the GENEVE header in a packet between node and appliance
	innerStart  = 68 // of the inner packet
)

var (
	serverAddr  = netip.MustParseAddrPort("192.0.2.1:443")
	edgeAddr    = netip.MustParseAddr("10.0.8.8")
	client6Addr = netip.MustParseAddrPort("[2001:db8::7]:45678")
	server6Addr = netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
)

// gatewayState has one endpoint, one node and two appliances.
func gatewayState() *vpc.State {
	st := newState()
	withGateway(st)
	return st
}

// withGateway makes the state one of a gateway load balancer with two appliances.
func withGateway(st *vpc.State) {
	lb := &st.LoadBalancers[0]
	lb.ID, lb.Type = "gwlb", vpc.Gateway
	lb.Listeners[0].Port, lb.Listeners[0].TargetGroup = 0, "fw"
	st.TargetGroups = []vpc.TargetGroup{{ID: "fw", VPC: "vpc-p"}}
	withAppliances(2)(st)
	st.Services[0].LoadBalancers = []string{"gwlb"}
	st.Endpoints[0].Type = vpc.GatewayLoadBalancer
}

// applianceN is the address of the n-th appliance, fw its name as a target.
func applianceN(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(20 + n)}), 6081)
}

func fw(n int) TargetID { return TargetID{"fw", applianceN(n)} }

func withAppliances(n int) func(*vpc.State) {
	return func(st *vpc.State) {
		g := &st.TargetGroups[0]
		g.Targets = nil
		for i := range n {
			g.Targets = append(g.Targets, vpc.Target{Address: applianceN(i).Addr(), Port: 6081, Zone: zone})
		}
	}
}

// withEdge adds an endpoint of the VPC in the same zone.
func withEdge(st *vpc.State) {
	st.Ports = append(st.Ports, vpc.Port{ID: "edge", VPC: "vpc-c", Kind: vpc.TUN, Netns: "/c", Device: "c1"})
	st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: edgeID, Type: vpc.GatewayLoadBalancer, Service: serviceID, VPC: "vpc-c",
		ENIs: []vpc.ENI{{Address: edgeAddr, Zone: zone, Ports: []string{"edge"}}}})
}

// withStranger adds an endpoint of the same service in another VPC with the same addresses, on port "stranger".
func withStranger(st *vpc.State) {
	st.VPCs = append(st.VPCs, vpc.VPC{ID: "vpc-s", CIDRs: st.VPCs[0].CIDRs})
	st.Ports = append(st.Ports, vpc.Port{ID: "stranger", VPC: "vpc-s", Kind: vpc.TUN, Netns: "/s", Device: "s0"})
	st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: strangerID, Type: vpc.GatewayLoadBalancer, Service: serviceID, VPC: "vpc-s",
		ENIs: []vpc.ENI{{Address: endpointAddr.Addr(), Zone: zone, Ports: []string{"stranger"}}}})
}

func withStickiness(s vpc.Stickiness) func(*vpc.State) {
	return func(st *vpc.State) { st.TargetGroups[0].Stickiness = s }
}

func withRebalance(st *vpc.State) { st.TargetGroups[0].Rebalance = true }

// fromHere is a segment from the client to the server, fromThere one back, unless they say otherwise.
func fromHere(p pkttest.TCP) pkttest.TCP  { return between(p, clientAddr, serverAddr) }
func fromThere(p pkttest.TCP) pkttest.TCP { return between(p, serverAddr, clientAddr) }

func between(p pkttest.TCP, src, dst netip.AddrPort) pkttest.TCP {
	if !p.Src.IsValid() {
		p.Src = src
	}
	if !p.Dst.IsValid() {
		p.Dst = dst
	}
	return p
}

// hairpin is what the simplest appliance does with a GENEVE packet: it swaps the outer addresses.
func hairpin(pkt []byte) []byte {
	b := bytes.Clone(pkt)
	copy(b[12:16], pkt[16:20])
	copy(b[16:20], pkt[12:16])
	return b
}

// edit is a change that an appliance makes to a packet that it returns.
type edit func(b []byte) []byte

// inspected has the appliances return what was last sent to them.
func inspected(edits ...edit) step {
	return func(s *story) {
		var back [][]byte
		for _, pkt := range s.last["provider"] {
			back = append(back, returned(pkt, edits...))
		}
		s.inject("provider", back...)
	}
}

// inspectedBefore has an appliance return the n-th packet that was ever sent to one, counted from the last, which is 1.
func inspectedBefore(n int, edits ...edit) step {
	return func(s *story) { s.inject("provider", returned(s.sent(n), edits...)) }
}

// returned is a packet as it comes back.
func returned(pkt []byte, edits ...edit) []byte {
	b := hairpin(pkt)
	for _, e := range edits {
		b = e(b)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if len(b) >= geneveStart && b[9] == 17 {
		binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^slowSum(b[:20]))
	return b
}

// sent is the n-th packet from the end that went to an appliance.
func (s *story) sent(n int) []byte {
	s.Helper()
	list := s.out["provider"]
	if len(list) < n {
		s.Fatalf("%d packets went to appliances, not %d; drops %v", len(list), n, s.drops())
	}
	return list[len(list)-n].data
}

// byte changes one byte, and swapInner the inner packet.
func setByte(at int, v byte) edit { return func(b []byte) []byte { b[at] = v; return b } }

func swapInner(inner []byte) edit {
	return func(b []byte) []byte { return append(b[:innerStart:innerStart], inner...) }
}

// through sends a packet into a port, has it inspected, and checks that it comes out of the same port as it was.
func through(id string, pkt []byte) step { return throughTo(id, id, pkt) }

// throughTo is through for a packet that is to come out of another port.
func throughTo(id, out string, pkt []byte) step {
	return func(s *story) {
		s.inject(id, pkt)
		inspected()(s)
		came(out, pkt)(s)
	}
}

// came checks what the last step has sent to a port, and that it has sent nothing to another.
func came(id string, want ...[]byte) step {
	return func(s *story) {
		s.Helper()
		for port, list := range s.last {
			if port != id {
				s.Errorf("%d packets left by %s, none was to", len(list), port)
			}
		}
		if got := s.last[id]; len(got) != len(want) {
			s.Errorf("%d packets left by %s, want %d; drops %v", len(got), id, len(want), s.drops())
			return
		}
		for i, pkt := range s.last[id] {
			if d := pkttest.Diff(want[i], pkt); d != "" {
				s.Errorf("packet %d at %s:\n%s", i, id, d)
			}
		}
	}
}

// vanished checks that the last step has sent nothing, for a reason that has been counted n times by now.
func vanished(r Reason, n uint64) step {
	return func(s *story) {
		s.Helper()
		if len(s.last) != 0 {
			s.Errorf("%d packets left, none was to", len(s.last))
		}
		wantDrops(r, n)(s)
	}
}

// wentTo checks to how many appliances the last n packets went.
func wentTo(appliances, n int) step {
	return func(s *story) {
		s.Helper()
		to := map[netip.Addr]bool{}
		for i := range n {
			to[outerDst(s.sent(i+1))] = true
		}
		if len(to) != appliances {
			s.Errorf("%d packets went to %v, %d appliances wanted", n, to, appliances)
		}
	}
}

func outerDst(pkt []byte) netip.Addr { return netip.AddrFrom4([4]byte(pkt[16:20])) }

// cookieOf and endpointOf are what the GENEVE header says.
func cookieOf(pkt []byte) uint32   { return binary.BigEndian.Uint32(pkt[geneveStart+36:]) }
func endpointOf(pkt []byte) uint64 { return binary.BigEndian.Uint64(pkt[geneveStart+12:]) }

// cookies checks how many cookies the last n packets had.
func cookies(want, n int) step {
	return func(s *story) {
		s.Helper()
		seen := map[uint32]bool{}
		for i := range n {
			seen[cookieOf(s.sent(i+1))] = true
		}
		if len(seen) != want {
			s.Errorf("%d cookies in %d packets, want %d", len(seen), n, want)
		}
	}
}

// current is the number of the appliance that the last packet went to.
func (s *story) current() int {
	s.Helper()
	for i := range len(s.state.TargetGroups[0].Targets) + 4 {
		if applianceN(i).Addr() == outerDst(s.sent(1)) {
			return i
		}
	}
	s.Fatalf("a packet went to %v, which is no appliance", outerDst(s.sent(1)))
	return 0
}

// fails makes the appliance that the last packet went to unhealthy; drains drains it.
func fails(s *story) { health(map[TargetID]Health{fw(s.current()): Unhealthy})(s) }

func drains(s *story) { change("the appliance drains", drain(applianceN(s.current())))(s) }

// others sends the first packets of other flows, n of them.
func others(n int) step {
	return func(s *story) {
		for i := range n {
			src := netip.AddrPortFrom(clientAddr.Addr(), uint16(2000+i))
			s.inject("consumer", fromHere(pkttest.TCP{Src: src, Seq: 1, Flags: "S"}).Bytes())
		}
	}
}

// reset checks that the last step was answered with RST through a port.
func reset(id string) step {
	return func(s *story) {
		s.Helper()
		if list := s.last[id]; len(s.last) != 1 || len(list) != 1 || !pkttest.Decode(s, list[0]).TCP.RST {
			s.Errorf("no RST at %s but %s; drops %v", id, describeAll(list), s.drops())
		}
	}
}

func describeAll(list [][]byte) string {
	out := fmt.Sprint(len(list), " packets")
	for _, p := range list {
		out += "\n" + pkttest.Describe(p)
	}
	return out
}
