// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// bed is an engine on memory ports with virtual time: a consumer VPC and a provider VPC of the same CIDR, an endpoint, a
// load balancer node and a target.
type bed struct {
	testing.TB
	engine             *Engine
	state              *vpc.State
	ports              map[string]port.Port
	consumer, provider *port.Mem
	now                time.Duration
}

const (
	endpointID = "vpce-0123456789abcdef0"
	serviceID  = "vpce-svc-0123456789abcdef0"
	zone       = "use1-az1"
	zone2      = "use1-az2"
)

var (
	clientAddr   = netip.MustParseAddrPort("10.0.3.7:45678")
	endpointAddr = netip.MustParseAddrPort("10.0.9.9:80")
	nodeAddr     = netip.MustParseAddr("10.0.1.10")
	targetAddr   = netip.MustParseAddrPort("10.0.1.20:8080")
)

// newState is the smallest state that carries traffic.
func newState() *vpc.State {
	cidr := netip.MustParsePrefix("10.0.0.0/16")
	return &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1, 2, 3},
		VPCs:     []vpc.VPC{{ID: "vpc-c", CIDRs: []netip.Prefix{cidr}}, {ID: "vpc-p", CIDRs: []netip.Prefix{cidr}}},
		Ports: []vpc.Port{
			{ID: "consumer", VPC: "vpc-c", Kind: vpc.TUN, Netns: "/c", Device: "c0"},
			{ID: "provider", VPC: "vpc-p", Kind: vpc.TUN, Netns: "/p", Device: "p0"},
		},
		LoadBalancers: []vpc.LoadBalancer{{ID: "nlb", VPC: "vpc-p",
			Nodes:     []vpc.ENI{{Address: nodeAddr, Zone: zone, Ports: []string{"provider"}}},
			Listeners: []vpc.Listener{{Port: 80, TargetGroup: "web", IdleTimeout: 350 * time.Second}}}},
		TargetGroups: []vpc.TargetGroup{{ID: "web", VPC: "vpc-p", TerminateOnUnhealthy: true, TerminateOnDeregistration: true,
			Targets: []vpc.Target{{Address: targetAddr.Addr(), Port: targetAddr.Port(), Zone: zone}}}},
		Services: []vpc.EndpointService{{ID: serviceID, LoadBalancers: []string{"nlb"}}},
		Endpoints: []vpc.Endpoint{{ID: endpointID, Service: serviceID, VPC: "vpc-c",
			ENIs: []vpc.ENI{{Address: endpointAddr.Addr(), Zone: zone, Ports: []string{"consumer"}}}}},
	}
}

// clone is a deep copy, for a state that follows another: the engine owns what it was given.
func clone(st *vpc.State) *vpc.State {
	b, err := json.Marshal(st)
	if err != nil {
		panic(err)
	}
	out := new(vpc.State)
	if err := json.Unmarshal(b, out); err != nil {
		panic(err)
	}
	out.Revision++
	return out
}

// withProxy turns the PROXY header on.
func withProxy(st *vpc.State) { st.TargetGroups[0].ProxyProtocol.Enabled = true }

// withEarlyProxy turns the PROXY header on, alone after the handshake.
func withEarlyProxy(st *vpc.State) {
	st.TargetGroups[0].ProxyProtocol = vpc.ProxyProtocol{Enabled: true, Placement: vpc.FirstACK}
}

// newBed is an engine that runs st. Its NAT ports are the same in every run.
func newBed(tb testing.TB, st *vpc.State, cfg Config) *bed {
	tb.Helper()
	b := &bed{TB: tb, now: time.Second, ports: map[string]port.Port{}}
	cfg.Workers = max(cfg.Workers, 1)
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = 1 << 12
	}
	cfg.Clock = func() time.Duration { return b.now }
	e, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	b.engine = e
	b.apply(st)
	for _, w := range e.workers {
		seedPorts(w.leases)
	}
	b.consumer, b.provider = b.mem("consumer"), b.mem("provider")
	return b
}

// seedPorts makes the first ports that are leased the same in every run. Outside tests they are random on purpose, and
// package flow offers no other way.
func seedPorts(p *flow.Ports) {
	random := reflect.ValueOf(p).Elem().FieldByName("random")
	(*rand.PCG)(unsafe.Pointer(random.UnsafeAddr())).Seed(1, 2)
}

// mem is the memory port with an ID.
func (b *bed) mem(id string) *port.Mem { return b.ports[id].(*port.Mem) }

// addPort opens a memory port unless it is open.
func (b *bed) addPort(id string) {
	if b.ports[id] == nil {
		b.ports[id] = port.NewMem(port.MemConfig{Name: id, Queues: b.engine.cfg.Workers})
	}
}

// apply makes st the state, with a port for each of its ports and one for probes where a group has health checks.
func (b *bed) apply(st *vpc.State) {
	b.Helper()
	for _, p := range st.Ports {
		b.addPort(p.ID)
	}
	for _, g := range st.TargetGroups {
		if g.HealthCheck.Protocol != vpc.CheckNone {
			b.addPort(ProbePortID)
		}
	}
	b.applyPorts(st)
}

// applyPorts makes st the state with the ports as they are.
func (b *bed) applyPorts(st *vpc.State) {
	b.Helper()
	if err := b.engine.Apply(st, b.ports); err != nil {
		b.Fatal(err)
	}
	b.state = st
}

// step lets time pass and takes turns until nothing is left to do.
func (b *bed) step(d time.Duration) {
	b.now += d
	for b.engine.Turn(b.now) {
	}
}

// fromClient sends a packet from the consumer's side and returns what leaves on the provider's and on the consumer's.
func (b *bed) fromClient(pkt []byte) (toTarget, back [][]byte) {
	b.consumer.Inject(0, pkt)
	b.step(0)
	return b.provider.Take(0), b.consumer.Take(0)
}

// fromTarget sends a packet from the provider's side and returns what leaves on the consumer's and on the provider's.
func (b *bed) fromTarget(pkt []byte) (toClient, back [][]byte) {
	b.provider.Inject(0, pkt)
	b.step(0)
	return b.consumer.Take(0), b.provider.Take(0)
}

// connect takes a client through the handshake and returns the node's address that the target saw.
func (b *bed) connect(client netip.AddrPort, isn uint32, mss uint16) netip.AddrPort {
	b.Helper()
	syn := pkttest.TCP{Src: client, Dst: endpointAddr, Seq: isn, Flags: "S", Window: 64000, Options: []layers.TCPOption{pkttest.MSS(8960), pkttest.WScale(7)}}
	out, _ := b.fromClient(syn.Bytes())
	p := pkttest.Decode(b, b.one(out))
	node := netip.AddrPortFrom(nodeAddr, uint16(p.TCP.SrcPort))
	ack := pkttest.TCP{Src: targetAddr, Dst: node, Seq: 9000, Ack: isn + 1, Flags: "SA", Window: 65000, Options: []layers.TCPOption{pkttest.MSS(mss), pkttest.WScale(7)}}
	in, _ := b.fromTarget(ack.Bytes())
	b.one(in)
	out, _ = b.fromClient(pkttest.TCP{Src: client, Dst: endpointAddr, Seq: isn + 1, Ack: 9001, Flags: "A", Window: 500}.Bytes())
	b.one(out)
	return node
}

// dropped is how often a reason has been counted.
func (b *bed) dropped(r Reason) uint64 { return b.engine.Stats().Drops[r] }

// one is the single packet of a list, with its checksums verified.
func (b *bed) one(list [][]byte) []byte {
	b.Helper()
	if len(list) != 1 {
		for _, p := range list {
			b.Log(pkttest.Describe(p))
		}
		b.Fatalf("%d packets, want 1; drops %v", len(list), b.drops())
	}
	pkttest.Verify(b, list[0])
	return list[0]
}

// drops are the reasons that have been counted.
func (b *bed) drops() map[string]uint64 {
	out := map[string]uint64{}
	for r, n := range b.engine.Stats().Drops {
		if n > 0 {
			out[Reason(r).String()] = n
		}
	}
	return out
}
