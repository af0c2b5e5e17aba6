// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// limitScenarios are what happens at the limits of the dataplane itself.
var limitScenarios = []scenario{
	{
		name:  "flow-table-full",
		about: "When the flow table is full a new connection is refused with RST, and those that exist go on.",
		cfg:   Config{MaxFlows: 2},
		steps: steps(handshake,
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("10.0.3.8:1"), Seq: 5, Flags: "S"}),
			fromClient(pkttest.TCP{Src: netip.MustParseAddrPort("10.0.3.8:2"), Seq: 5, Flags: "S"}),
			hello),
	},
	{
		name:   "ports-exhausted",
		about:  "The 55,001st connection to a target is refused with RST; another target is not concerned.",
		cfg:    Config{MaxFlows: 60_000},
		with:   []func(*vpc.State){withOtherGroup},
		noPcap: true,
		steps: steps(
			openMany(flow.NATCount, 80), wantDrops(PortsExhausted, 0),
			openMany(flow.NATCount+3, 80), wantDrops(PortsExhausted, 3),
			openMany(1, 81), wantDrops(PortsExhausted, 3),
			func(s *story) {
				st := s.engine.Stats()
				if st.Flows.PortAllocationErrors != 3 || st.Targets[0].PortAllocationErrors != 3 || st.Flows.Active != flow.NATCount+1 {
					s.Errorf("flows %+v, targets %+v", st.Flows, st.Targets)
				}
			},
			// A port that has been closed rests for 60 s.
			fromClient(pkttest.TCP{Src: manyClient(0), Seq: 1, Flags: "R"}),
			wait(5*time.Second), openMany(flow.NATCount+1, 80), wantDrops(PortsExhausted, 5)),
	},
	{
		name:   "port-refuses",
		about:  "What a port does not take, because its queue is full, is counted.",
		noPcap: true,
		steps: steps(func(s *story) {
			s.ports["provider"] = port.NewMem(port.MemConfig{Name: "provider", Depth: 1})
			s.applyPorts(s.state)
			syns := [][]byte{}
			for i := range 3 {
				p := syn
				p.Src, p.Dst = manyClient(i), endpointAddr
				syns = append(syns, p.Bytes())
			}
			s.inject("consumer", syns...)
		}, wantDrops(PortRefused, 2)),
	},
	{
		name:   "inbox-full",
		about:  "A worker takes a batch of strays of another before it gets to them; what is more, here from a second port, is dropped and counted.",
		cfg:    Config{Workers: 2},
		noPcap: true,
		steps: steps(func(s *story) {
			var syns [][]byte
			for i := range 300 {
				p := syn
				p.Src, p.Dst = manyClient(i), endpointAddr
				syns = append(syns, p.Bytes())
			}
			var of1 [][]byte
			for _, p := range syns {
				if s.ownerOf("consumer", p) == 1 && len(of1) < inboxSize {
					of1 = append(of1, p)
				}
			}
			late := ack(firstSeq, targetISN+1)
			late.Src, late.Dst = targetAddr, netip.AddrPortFrom(nodeAddr, 65000) // a NAT port of worker 1
			for range 7 {
				s.mem("provider").Inject(0, late.Bytes())
			}
			s.inject("consumer", of1...)
			if st := s.engine.Stats(); st.Flows.New != inboxSize || st.Workers[0].Strays != inboxSize+7 {
				s.Errorf("%d flows, %d strays", st.Flows.New, st.Workers[0].Strays)
			}
		}, wantDrops(InboxFull, 7)),
	},
	{
		name:   "out-of-buffers",
		about:  "A first segment that has to be split while all of the worker's own buffers are lent is dropped and counted.",
		with:   proxyOn,
		noPcap: true,
		steps: steps(handshake, func(s *story) {
			w := s.engine.workers[0]
			w.spares = spareSize
			s.mem("consumer").InjectBuffers(0, super(data(firstSeq, targetISN+1, long(65400)), 8348))
			s.settle()
			if len(s.last["provider"]) != 0 {
				s.Errorf("%d packets were sent", len(s.last["provider"]))
			}
		}),
	},
}

// withOtherGroup adds a listener on port 81 with a group of its own.
func withOtherGroup(st *vpc.State) {
	st.TargetGroups = append(st.TargetGroups, vpc.TargetGroup{ID: "other", VPC: "vpc-p",
		Targets: []vpc.Target{{Address: netip.MustParseAddr("10.0.1.99"), Port: 8080, Zone: zone}}})
	st.LoadBalancers[0].Listeners = append(st.LoadBalancers[0].Listeners,
		vpc.Listener{Port: 81, TargetGroup: "other", IdleTimeout: 350 * time.Second})
}

// manyClient is the n-th of very many clients.
func manyClient(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 4, byte(n / 50_000)}), uint16(1024+n%50_000))
}

// openMany sends the SYNs of the first n clients to a listener, as often as it is called.
func openMany(n int, listener uint16) step {
	return func(s *story) {
		p := syn
		p.Src, p.Dst = clientAddr, netip.AddrPortFrom(endpointAddr.Addr(), listener)
		pkt := p.Bytes()
		for i := range n {
			client := manyClient(i)
			copy(pkt[12:16], client.Addr().AsSlice())
			pkt[20], pkt[21] = byte(client.Port()>>8), byte(client.Port())
			complete(pkt)
			s.consumer.Inject(0, pkt)
			if i%64 == 63 || i == n-1 {
				s.engine.Turn(s.now)
				s.consumer.Take(0)
				s.provider.Take(0)
			}
		}
	}
}
