// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// twinLetsIn is what groups mean, without haste.
func twinLetsIn(groups []vpc.SecurityGroup, client netip.Addr, port uint16) bool {
	for _, g := range groups {
		for _, r := range g.Ingress {
			for _, p := range r.Sources {
				if r.FromPort <= port && port <= r.ToPort && p.Contains(client) {
					return true
				}
			}
		}
	}
	return false
}

// anyAddr is an address out of few networks, so that prefixes meet.
func anyAddr(r *rand.Rand) netip.Addr {
	if r.IntN(3) == 0 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 5: byte(r.IntN(4)), 14: byte(r.IntN(256)), 15: byte(r.IntN(256))})
	}
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(4)), byte(r.IntN(256))})
}

func anyPrefix(r *rand.Rand) netip.Prefix {
	a := anyAddr(r)
	bits := a.BitLen() - r.IntN(14)
	if r.IntN(20) == 0 {
		bits = r.IntN(a.BitLen() + 1)
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// anyGroup is a group of rules with few sources and with many, some of which have the same ports, or none.
func anyGroup(r *rand.Rand) (g vpc.SecurityGroup) {
	for range r.IntN(5) {
		rule := vpc.SecurityRule{FromPort: uint16(r.IntN(8))}
		rule.ToPort = rule.FromPort + uint16(r.IntN(3))
		for range r.IntN([]int{2, 6, 40}[r.IntN(3)]) {
			rule.Sources = append(rule.Sources, anyPrefix(r))
		}
		g.Ingress = append(g.Ingress, rule)
	}
	return g
}

// TestGroupsLetInWhomTheyShould compares endpoints with random groups with the twin, for clients of both families.
func TestGroupsLetInWhomTheyShould(t *testing.T) {
	in, out := 0, 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		var groups []vpc.SecurityGroup
		eni := viewENI{filtered: true}
		for range r.IntN(4) {
			groups = append(groups, anyGroup(r))
			eni.groups = append(eni.groups, newGroup(groups[len(groups)-1].Ingress))
		}
		for range 200 {
			client, port := anyAddr(r), uint16(r.IntN(11))
			want := twinLetsIn(groups, client, port)
			if got := eni.letsIn(client.As16(), port); got != want {
				t.Fatalf("seed %d: %v to port %d: %v, want %v by %v", seed, client, port, got, want, groups)
			}
			if want {
				in++
			} else {
				out++
			}
		}
	}
	if in < 5000 || out < 5000 {
		t.Errorf("%d let in, %d not: the test is too tame", in, out)
	}
	if open := (&viewENI{}); !open.letsIn(clientAddr.Addr().As16(), 80) {
		t.Error("an endpoint that is not filtered refuses")
	}
}

// TestGroupsAreShared checks that groups whose rules are the same are not compiled again, and that endpoints share them.
func TestGroupsAreShared(t *testing.T) {
	st := newState()
	withSecurityGroup(80, 80, "10.0.3.0/24")(st)
	st.SecurityGroups = append(st.SecurityGroups, vpc.SecurityGroup{ID: "sg-other", Ingress: st.SecurityGroups[0].Ingress})
	withSecondConsumer(st)
	st.Endpoints[1].Filtered, st.Endpoints[1].SecurityGroups = true, []string{"sg-other", "sg-clients"}
	b := newBed(t, st, Config{})
	before := b.engine.view.Load()
	if before.enis[1].groups[0] != before.groups["sg-clients"] || before.enis[2].groups[1] != before.groups["sg-clients"] {
		t.Error("the endpoints do not share their group")
	}
	next := clone(st)
	next.SecurityGroups[1].Ingress[0].Sources[0] = netip.MustParsePrefix("10.0.4.0/24")
	b.apply(next)
	after := b.engine.view.Load()
	if after.groups["sg-clients"] != before.groups["sg-clients"] || after.groups["sg-other"] == before.groups["sg-other"] {
		t.Error("the group that changed was kept, or the other one was not")
	}
}

// TestStrangersDoNotPassAsStrays sends a stranger's SYN and a client's to the wrong worker each.
func TestStrangersDoNotPassAsStrays(t *testing.T) {
	st := newState()
	withSecurityGroup(80, 80, "10.0.3.0/24")(st)
	b := newBed(t, st, Config{Workers: 2})
	for i, src := range []netip.AddrPort{strangerAddr, clientAddr} {
		p := syn
		p.Src, p.Dst = src, endpointAddr
		owner := b.ownerOf("consumer", p.Bytes())
		b.consumer.Inject(1-owner, p.Bytes())
		b.step(0)
		if got := len(b.provider.Take(owner)) + len(b.provider.Take(1-owner)); got != i {
			t.Errorf("%d SYNs of %v passed; drops %v", got, src, b.drops())
		}
	}
	for _, n := range b.engine.Stats().ENIs {
		if want := uint64(0); n.Role == RoleEndpoint {
			if want = 1; n.Drops[SecurityGroup] != want {
				t.Errorf("%d refusals at %v", n.Drops[SecurityGroup], n.Address)
			}
		} else if n.Drops[SecurityGroup] != want {
			t.Errorf("%d refusals at %v", n.Drops[SecurityGroup], n.Address)
		}
	}
}

// TestRefusalsAllocateNothing replays clients that are refused, by a short list and by a long one.
func TestRefusalsAllocateNothing(t *testing.T) {
	for _, sources := range [][]string{{"10.9.0.0/16"}, {"10.9.0.0/16", "10.10.0.0/16", "10.11.0.0/16", "fd00::/8"}} {
		st := newState()
		withSecurityGroup(80, 80, sources...)(st)
		b := newBed(t, st, Config{})
		b.replay([]*port.Buffer{plain(atEndpoint(syn).Bytes()), plain(atEndpoint(ack(1, 2)).Bytes())})
		if n := testing.AllocsPerRun(100, b.turnOnce); n != 0 {
			t.Errorf("%v allocations a turn, want none", n)
		}
		if n := b.dropped(SecurityGroup); n < 100 || n != b.engine.Stats().Workers[0].Packets {
			t.Errorf("drops %v", b.drops())
		}
	}
}

// replay has the consumer's port deliver packets for ever.
func (b *bed) replay(bufs []*port.Buffer) {
	b.ports = map[string]port.Port{
		"consumer": port.NewMem(port.MemConfig{Name: "consumer", Queues: b.engine.cfg.Workers, Discard: true, Replay: bufs}),
		"provider": port.NewMem(port.MemConfig{Name: "provider", Queues: b.engine.cfg.Workers, Discard: true}),
	}
	b.apply(clone(b.state))
}

// everyPort is the ports of a bed of two, as ready.
var everyPort = []uint32{0, 1}

// turnOnce is one turn of the first worker.
func (b *bed) turnOnce() {
	w := b.engine.workers[0]
	w.turn(b.now, everyPort)
	w.publish()
}

// BenchmarkGroup asks lists of several lengths for clients, half of whom they let in, by a scan and by the table; see fewSources.
func BenchmarkGroup(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8, 32, 1000} {
		r := rand.New(rand.NewPCG(1, 2))
		var list []netip.Prefix
		for range n {
			a := netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
			list = append(list, netip.PrefixFrom(a, 16+r.IntN(17)).Masked())
		}
		var clients [256]netip.Addr
		for i := range clients {
			clients[i] = list[r.IntN(n)].Addr()
			if i%2 == 0 {
				clients[i] = netip.AddrFrom4([4]byte{11, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
			}
		}
		scan := openPorts{to: 65535, few: list}
		table := newOpenPorts(0, 65535, append(slices.Clone(list), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")))
		for name, o := range map[string]*openPorts{"scan": &scan, "table": &table} {
			b.Run(fmt.Sprintf("prefixes=%d/%s", n, name), func(b *testing.B) {
				in := 0
				for i := range b.N {
					if o.has(clients[i%256]) {
						in++
					}
				}
				_ = in
			})
		}
	}
}

// BenchmarkRefusal is a SYN that is refused, beside one of a connection that exists.
func BenchmarkRefusal(b *testing.B) {
	st := newState()
	withSecurityGroup(80, 80, "10.9.0.0/16", "10.10.0.0/16", "10.11.0.0/16")(st)
	bed := newBed(b, st, Config{})
	bed.replay([]*port.Buffer{plain(pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: 1, Flags: "S"}.Bytes())})
	bed.spin(b)
}

// spin carries b.N packets of the ports, which replay.
func (b *bed) spin(bench *testing.B) {
	w := b.engine.workers[0]
	bench.ReportAllocs()
	bench.ResetTimer()
	for start := w.total.live[totalPackets]; w.total.live[totalPackets]-start < uint64(bench.N); {
		b.turnOnce()
	}
}
