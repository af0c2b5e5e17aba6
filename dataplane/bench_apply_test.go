// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Sizes of bigState.
const (
	bigServices  = 200
	bigEndpoints = 1000
	bigTargets   = 50 // of each service
)

// bigAddr is the n-th address of a large network.
func bigAddr(net byte, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, net, byte(n >> 8), byte(n)})
}

// bigState is a VPC with a thousand endpoints of two hundred services, each with a load balancer, a node and fifty targets,
// all on one port.
func bigState(checks vpc.CheckProtocol) *vpc.State {
	on := []string{"port"}
	st := &vpc.State{Revision: 1, HashKey: [16]byte{7},
		VPCs:  []vpc.VPC{{ID: "vpc-big", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		Ports: []vpc.Port{{ID: "port", VPC: "vpc-big", Kind: vpc.TUN, Netns: "/n", Device: "d0"}}}
	for i := range bigServices {
		lb, group := fmt.Sprintf("nlb-%03d", i), fmt.Sprintf("group-%03d", i)
		g := vpc.TargetGroup{ID: group, VPC: "vpc-big", TerminateOnUnhealthy: true, HealthCheck: vpc.HealthCheck{Protocol: checks}}
		for j := range bigTargets {
			g.Targets = append(g.Targets, vpc.Target{Address: bigAddr(1, i*bigTargets+j), Port: 8080, Zone: zone})
		}
		st.TargetGroups = append(st.TargetGroups, g)
		st.LoadBalancers = append(st.LoadBalancers, vpc.LoadBalancer{ID: lb, VPC: "vpc-big",
			Nodes:     []vpc.ENI{{Address: bigAddr(2, i), Zone: zone, Ports: on}},
			Listeners: []vpc.Listener{{Port: 80, TargetGroup: group, IdleTimeout: 350 * time.Second}}})
		st.Services = append(st.Services, vpc.EndpointService{ID: fmt.Sprintf("vpce-svc-%03d", i), LoadBalancers: []string{lb}})
	}
	for i := range bigEndpoints {
		st.Endpoints = append(st.Endpoints, vpc.Endpoint{ID: fmt.Sprintf("vpce-%017x", i), VPC: "vpc-big",
			Service: st.Services[i%bigServices].ID, ENIs: []vpc.ENI{{Address: bigAddr(3, i), Zone: zone, Ports: on}}})
	}
	return st
}

// bigPorts are the ports of bigState.
func bigPorts(checks vpc.CheckProtocol) map[string]port.Port {
	ports := map[string]port.Port{"port": port.NewMem(port.MemConfig{Name: "port"})}
	if checks != vpc.CheckNone {
		ports[ProbePortID] = port.NewMem(port.MemConfig{Name: ProbePortID})
	}
	return ports
}

// without is bigState less its i-th endpoint, and with has one more target in its i-th group: what is not changed is shared,
// as a state is never written to.
func without(st *vpc.State, i int) *vpc.State {
	next := *st
	next.Revision++
	next.Endpoints = slices.Delete(slices.Clone(st.Endpoints), i, i+1)
	return &next
}

func withTarget(st *vpc.State, i int) *vpc.State {
	next := *st
	next.Revision++
	next.TargetGroups = slices.Clone(st.TargetGroups)
	g := &next.TargetGroups[i]
	g.Targets = append(slices.Clone(g.Targets), vpc.Target{Address: bigAddr(4, i), Port: 8080, Zone: zone})
	return &next
}

// BenchmarkApply is how long a state as big as bigState takes to become what the dataplane runs: at first, and when a
// thing of it changes. Each change is undone outside of the measured time.
func BenchmarkApply(b *testing.B) {
	for _, checks := range []vpc.CheckProtocol{vpc.CheckNone, vpc.CheckTCP} {
		name := map[vpc.CheckProtocol]string{vpc.CheckNone: "", vpc.CheckTCP: "/checked"}[checks]
		b.Run("first"+name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				e, err := New(Config{Workers: 1, MaxFlows: 1024})
				if err != nil {
					b.Fatal(err)
				}
				st, ports := bigState(checks), bigPorts(checks)
				b.StartTimer()
				if err := e.Apply(st, ports); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, c := range []struct {
			name   string
			change func(*vpc.State, int) *vpc.State
			n      int
		}{{"endpoint-removed", without, bigEndpoints}, {"target-added", withTarget, bigServices}} {
			b.Run(c.name+name, func(b *testing.B) { benchmarkChange(b, checks, c.change, c.n) })
		}
	}
}

// benchmarkChange measures a change of bigState, to one after another of n things.
func benchmarkChange(b *testing.B, checks vpc.CheckProtocol, change func(*vpc.State, int) *vpc.State, n int) {
	e, err := New(Config{Workers: 1, MaxFlows: 1024})
	if err != nil {
		b.Fatal(err)
	}
	changeAround(b, e, bigState(checks), bigPorts(checks), change, n)
}

// threadTime is the processor time of this thread, which knows nothing of what else the machine is doing.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// changeAround applies a state, and then changes it and back b.N times. It measures the changes only, and reports the 99th
// percentile as well, and the processor time of the thread that applies.
func changeAround(b *testing.B, e *Engine, st *vpc.State, ports map[string]port.Port, change func(*vpc.State, int) *vpc.State, n int) {
	apply := func(st *vpc.State) time.Duration {
		start := time.Now()
		if err := e.Apply(st, ports); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	apply(st)
	var took []time.Duration
	busy := time.Duration(0)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ResetTimer()
	for i := range b.N {
		next, before := change(st, i%n), threadTime()
		took = append(took, apply(next))
		busy += threadTime() - before
		b.StopTimer()
		apply(st)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[(99*len(took)+99)/100-1])/1e6, "p99-ms")
	b.ReportMetric(float64(busy)/1e6/float64(b.N), "cpu-ms/op")
}

// busyPort is a memory port from which a worker can always receive.
type busyPort struct {
	*port.Mem
	fd int
}

func (p *busyPort) FD(int) int { return p.fd }

// newBusyPort replays a packet for ever.
func newBusyPort(b *testing.B, pkt []byte) *busyPort {
	fd, err := unix.Eventfd(1, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	return &busyPort{port.NewMem(port.MemConfig{Name: "port", Discard: true, Replay: []*port.Buffer{plain(pkt)}}), fd}
}

// BenchmarkApplyUnderTraffic is BenchmarkApply for changes while the worker carries as many packets of a connection as it
// can, without a pause. All of them pass: none of the changes is about them.
func BenchmarkApplyUnderTraffic(b *testing.B) {
	for _, checks := range []vpc.CheckProtocol{vpc.CheckNone, vpc.CheckTCP} {
		for _, c := range []struct {
			name   string
			change func(*vpc.State, int) *vpc.State
			n      int
		}{{"endpoint-removed", without, bigEndpoints - 1}, {"target-added", withTarget, bigServices}} {
			b.Run(fmt.Sprintf("%s/checks=%v", c.name, checks), func(b *testing.B) {
				e, err := New(Config{Workers: 1, MaxFlows: 1024})
				if err != nil {
					b.Fatal(err)
				}
				ctx, stop := context.WithCancel(b.Context())
				ended := make(chan error, 1)
				go func() { ended <- e.Run(ctx) }()
				st, ports := bigState(checks), bigPorts(checks)
				ports["port"] = newBusyPort(b, pkttest.TCP{Src: netip.AddrPortFrom(bigAddr(9, 1), 4000), Dst: netip.AddrPortFrom(bigAddr(3, bigEndpoints-1), 80), Seq: 1, Flags: "S"}.Bytes())
				changeAround(b, e, st, ports, c.change, c.n)
				b.StopTimer()
				stop()
				if err := <-ended; err != nil {
					b.Error(err)
				}
				s := e.Stats()
				b.ReportMetric(float64(s.Workers[0].Packets)/float64(b.N), "packets/op")
				for r, n := range s.Drops {
					if n > 0 && Reason(r) != NoENI { // before the first state
						b.Errorf("%d packets dropped: %v", n, Reason(r))
					}
				}
			})
		}
	}
}
