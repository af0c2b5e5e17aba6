// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// inHand is what may still pass at once: what the bucket of Rate holds, and what is on lease.
func (l *limiter) inHand(now time.Duration) int64 {
	n := l.rate.level(now)
	for i := range l.leases {
		n += l.leases[i].left
	}
	return n
}

// limitedState is one with a limit that is not reached.
func limitedState() *vpc.State {
	st := newState()
	withBandwidth(vpc.Bandwidth{Rate: 8e9, Burst: 16e9, BurstTime: time.Second})(st)
	return st
}

// TestWhatIsCharged sends packets one by one and looks at what each cost.
func TestWhatIsCharged(t *testing.T) {
	const head = 20 + 20 + 12 // with timestamps
	b := newBed(t, limitedState(), Config{})
	node := b.connect(clientAddr, clientISN, 8960)
	charged := func(want int64, what string, id string, bufs ...*port.Buffer) {
		t.Helper()
		l := b.limiterIn(zone)
		before := l.inHand(b.now)
		b.mem(id).InjectBuffers(0, bufs...)
		b.step(0)
		b.provider.Take(0)
		b.consumer.Take(0)
		if got := before - l.inHand(b.now); got != want {
			t.Errorf("%s was charged %d bytes, want %d; drops %v", what, got, want, b.drops())
		}
	}
	back := func(payload string) pkttest.TCP {
		p := data(9001, clientISN+1, payload)
		p.Src, p.Dst = targetAddr, node
		return p
	}
	unknown := atEndpoint(data(1, 2, "hello"))
	unknown.Src = manyClient(1)
	opening := unknown
	opening.Flags, opening.Payload, opening.Options = "S", nil, nil
	charged(head+5, "a segment", "consumer", plain(atEndpoint(data(clientISN+1, 9001, "hello")).Bytes()))
	charged(head+7, "a segment back", "provider", plain(back("answers").Bytes()))
	charged(4*head+3001, "a super-packet of four segments", "consumer", super(data(clientISN+1, 9001, long(3001)), 1000))
	charged(3*head+3000, "a super-packet of three", "consumer", super(data(clientISN+1, 9001, long(3000)), 1000))
	charged(0, "a segment of nobody's", "consumer", plain(unknown.Bytes()))
	charged(40, "a SYN", "consumer", plain(opening.Bytes()))
	charged(0, "one that is too big", "consumer", plain(atEndpoint(data(clientISN+1, 9001, long(8500))).Bytes()))
	charged(0, "what is no TCP", "consumer", plain(pkttest.UDP(clientAddr, endpointAddr, []byte("hello"))))
	charged(0, "a segment of the provider's own", "provider", plain(pkttest.TCP{Src: targetAddr, Dst: netip.AddrPortFrom(nodeAddr, 20000), Ack: 1, Flags: "A"}.Bytes()))
	icmp := pkttest.ICMPError(3, 1, routerAddr, nodeAddr, pkttest.TCP{Src: node, Dst: targetAddr, Seq: clientISN + 1, Flags: "A"}.Bytes()[:28])
	charged(int64(len(icmp)), "an error", "provider", plain(icmp))
}

// TestWhatIsChargedOfInspection is TestWhatIsCharged for GWLB endpoints, fragments from another worker included.
func TestWhatIsChargedOfInspection(t *testing.T) {
	st := gatewayState()
	withBandwidth(vpc.Bandwidth{Rate: 8e9, Burst: 16e9, BurstTime: time.Second})(st)
	for workers := 1; workers <= 3; workers++ {
		b := newBed(t, clone(st), Config{Workers: workers})
		l := b.limiterIn(zone)
		var outer [][]byte
		charged := func(want int, what string, id string, bufs ...*port.Buffer) {
			t.Helper()
			before := l.inHand(b.now)
			b.mem(id).InjectBuffers(0, bufs...)
			b.step(0)
			outer = nil
			for q := range workers {
				b.consumer.Take(q)
				outer = append(outer, b.provider.Take(q)...)
			}
			if got := before - l.inHand(b.now); got != int64(want) {
				t.Errorf("%d workers: %s was charged %d bytes, want %d; drops %v", workers, what, got, want, b.drops())
			}
		}
		charged(40, "a SYN", "consumer", plain(fromHere(pkttest.TCP{Seq: 1, Flags: "S"}).Bytes()))
		charged(40, "a SYN on its way back", "provider", plain(hairpin(outer[0])))
		charged(4*52+3001, "a super-packet", "consumer", offloaded(fromHere(data(2, 1, long(3001))).Bytes(), 1000))
		var answers []*port.Buffer
		for _, p := range outer {
			answers = append(answers, plain(hairpin(p)))
		}
		charged(4*52+3001, "its segments on their way back", "provider", answers...)
		for i := range 8 { // of different flows, so that some come to another worker than their flow's
			src := netip.AddrPortFrom(clientAddr.Addr(), uint16(3000+i))
			total, list := 0, []*port.Buffer{}
			for _, f := range fragmentsOf(pkttest.UDP(src, serverAddr, []byte(long(100)))) {
				f[5] = byte(i)
				complete(f)
				total += len(f)
				list = append(list, plain(f))
			}
			charged(total, "a fragmented datagram", "consumer", list...)
		}
		charged(0, "what does not come from an appliance", "provider", plain(returned(hairpin(outer[0]), cookieTo(1))))
		if drops := b.drops(); drops[Bandwidth.String()] > 0 || drops[InboxFull.String()] > 0 {
			t.Errorf("drops %v", drops)
		}
	}
}

// TestOverLimitIsCountedAtTheEndpoint exceeds the limit both ways.
func TestOverLimitIsCountedAtTheEndpoint(t *testing.T) {
	b := newBed(t, limitedState(), Config{})
	node := b.connect(clientAddr, clientISN, 8960)
	b.limiterIn(zone).empty(b.now)
	b.fromClient(atEndpoint(data(clientISN+1, 9001, "hello")).Bytes())
	answer := data(9001, clientISN+1, "world")
	answer.Src, answer.Dst = targetAddr, node
	b.fromTarget(answer.Bytes())
	for _, n := range b.engine.Stats().ENIs {
		want := uint64(0)
		if n.Role == RoleEndpoint {
			want = 2
		}
		if n.Drops[Bandwidth] != want {
			t.Errorf("%d drops at the %v, want %d", n.Drops[Bandwidth], n.Role, want)
		}
	}
	if f := listFlows(b)[0]; f.BytesIn > 100 {
		t.Errorf("what was dropped is counted in %+v", f)
	}
}

// empty leaves a debt that lasts half a second, and no lease.
func (l *limiter) empty(now time.Duration) {
	debt := -int64(l.limits.Rate / 16)
	l.rate.fill(debt, now)
	l.burst.fill(debt, now)
	for i := range l.leases {
		l.leases[i].left = 0
	}
}

// TestBucketsSurviveViews changes the state around a limit, and the limit itself.
func TestBucketsSurviveViews(t *testing.T) {
	b := newBed(t, limitedState(), Config{Workers: 2})
	at := func() *limiter { return b.limiterIn(zone) }
	change := func(edit func(*vpc.State)) {
		st := clone(b.state)
		edit(st)
		b.apply(st)
	}
	first := at()
	first.empty(b.now)
	debt := first.rate.level(b.now)
	change(withTargets(3))
	change(func(st *vpc.State) { st.Endpoints[0].ENIs[0].Address = netip.MustParseAddr("10.0.9.10") })
	change(withSecurityGroup(1, 2))
	if err := b.engine.SetHealth(map[TargetID]Health{webTarget(0): Unhealthy}); err != nil {
		t.Fatal(err)
	}
	if at() != first {
		t.Error("the limiter did not survive changes that are not its own")
	}
	change(withBandwidth(vpc.Bandwidth{Rate: 80e9, Burst: 80e9}))
	if l := at(); l == first || l.rate.level(b.now) != debt || l.rate.depth != 100e6 {
		t.Errorf("after the limit rose the level is %d of %d, want %d", l.rate.level(b.now), l.rate.depth, debt)
	}
	b.now += 10 * time.Second // full
	change(withBandwidth(vpc.Bandwidth{Rate: 8e6, Burst: 8e6}))
	if l := at(); l.rate.level(b.now) != leastDepth || l.burst.level(b.now) != leastDepth {
		t.Errorf("after the limit fell the levels are %d and %d, want %d", l.rate.level(b.now), l.burst.level(b.now), leastDepth)
	}
	change(withBandwidth(vpc.Bandwidth{}))
	if at() != nil {
		t.Error("there is a limiter without a limit")
	}
	change(withBandwidth(vpc.Bandwidth{Rate: 8e6, Burst: 8e6}))
	at().empty(b.now)
	change(func(st *vpc.State) { st.Endpoints[0].Generation++ })
	if level := at().rate.level(b.now); level != leastDepth {
		t.Errorf("another endpoint has a level of %d", level)
	}
}

// TestWorkersShareABucket floods an endpoint over all workers, by both ways, and measures what passes.
func TestWorkersShareABucket(t *testing.T) {
	const rate, span = 80e6, 2 * time.Second
	for workers := 1; workers <= 4; workers++ {
		st := newState()
		withBandwidth(vpc.Bandwidth{Rate: rate, Burst: 2 * rate, BurstTime: span / 2})(st)
		b := newBed(t, st, Config{Workers: workers})
		var all []*port.Buffer
		for i := range 64 {
			p := pkttest.TCP{Src: manyClient(i), Dst: endpointAddr, Seq: 1, Flags: "S"}
			b.consumer.Inject(b.ownerOf("consumer", p.Bytes()), p.Bytes())
			p.Seq, p.Flags, p.Ack, p.Payload = 2, "A", 1, []byte(long(1460))
			all = append(all, plain(p.Bytes()))
		}
		b.step(0)
		b.replay(all)
		l := b.limiterIn(zone)
		l.empty(b.now)
		start := b.engine.Stats()
		for end := b.now + span; b.now < end; b.now += 5 * time.Millisecond {
			b.engine.Turn(b.now)
		}
		b.engine.Turn(b.now)
		passed := int64(0)
		for i, n := range b.engine.Stats().ENIs {
			if n.Role == RoleEndpoint {
				passed += int64(n.BytesIn-start.ENIs[i].BytesIn) - 1500*int64(n.Drops[Bandwidth]-start.ENIs[i].Drops[Bandwidth])
			}
		}
		strays := 1500 * int64(b.dropped(InboxFull)) // have not come so far
		want := bytesAt(rate, span-span/4)
		if got := passed - strays; got < want*9/10 || got > want+l.burst.depth {
			t.Errorf("%d workers: %d bytes passed, want %d; drops %v", workers, got, want, b.drops())
		}
	}
}

// TestLimitsAllocateNothing replays what is within a limit and what is over it.
func TestLimitsAllocateNothing(t *testing.T) {
	for _, rate := range []uint64{vpc.MinBandwidth, vpc.MaxBandwidth} {
		st := newState()
		withBandwidth(vpc.Bandwidth{Rate: rate, Burst: rate})(st)
		b := newBed(t, st, Config{})
		b.connect(clientAddr, clientISN, 8960)
		b.replay([]*port.Buffer{plain(atEndpoint(data(clientISN+1, 9001, "hello")).Bytes()), super(data(clientISN+1, 9001, long(30000)), 1448)})
		turn := func() {
			b.now += time.Millisecond
			b.turnOnce()
		}
		turn()
		if n := testing.AllocsPerRun(100, turn); n != 0 {
			t.Errorf("%v allocations a turn at %d bits a second, want none", n, rate)
		}
		drops := b.drops()
		over := drops[Bandwidth.String()]
		delete(drops, Bandwidth.String())
		if (over > 100) != (rate == vpc.MinBandwidth) || len(drops) > 0 {
			t.Errorf("at %d bits a second: %d over the limit, other drops %v", rate, over, drops)
		}
	}
}

// TestGatewayLimitsAllocateNothing is TestLimitsAllocateNothing for GWLB endpoints, both ways.
func TestGatewayLimitsAllocateNothing(t *testing.T) {
	for _, rate := range []uint64{vpc.MinBandwidth, vpc.MaxBandwidth} {
		for _, inward := range []bool{false, true} {
			b := loadBed(t, &loads[5], inward, 1)
			st := clone(b.state)
			withBandwidth(vpc.Bandwidth{Rate: rate, Burst: rate})(st)
			b.apply(st)
			turn := func() {
				b.now += time.Microsecond
				b.turnOnce()
			}
			for range 200 {
				turn()
			}
			if n := testing.AllocsPerRun(50, turn); n != 0 {
				t.Errorf("inward %v: %v allocations a turn at %d bits a second, want none", inward, n, rate)
			}
			if over := b.dropped(Bandwidth); (over > 50) != (rate == vpc.MinBandwidth) {
				t.Errorf("inward %v: %d over the limit of %d", inward, over, rate)
			}
		}
	}
}

// BenchmarkLimit is BenchmarkRoute's first route, without a limit, within one and over one.
func BenchmarkLimit(b *testing.B) {
	for _, rate := range []uint64{0, vpc.MaxBandwidth, vpc.MinBandwidth} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			bed := replayBed(b, 1, 64, false, false)
			st := clone(bed.state)
			withBandwidth(vpc.Bandwidth{Rate: rate, Burst: rate})(st)
			bed.apply(st)
			w := bed.engine.workers[0]
			b.ReportAllocs()
			b.ResetTimer()
			for start := w.total.live[totalPackets]; w.total.live[totalPackets]-start < uint64(b.N); {
				bed.now += 10 * time.Microsecond
				bed.turnOnce()
			}
		})
	}
}
