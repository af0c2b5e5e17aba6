// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// TestGatewayBulk moves a lot each way through an endpoint, an appliance and back, with and without offloads, and
// measures what it costs the dataplane.
//
// The cost is the time on a processor of the worker's thread. That includes what the kernel does inside the worker's
// writes, which is most of it: routing, and TCP up to the receiver's socket.
func TestGatewayBulk(t *testing.T) {
	cost := map[string]float64{}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			size := load[int64](64<<20, 128<<20, 10<<30)
			if m.off.Plain { // it takes time, and is not compared
				size = load[int64](64<<20, 128<<20, 1<<30)
			}
			cost[m.name] = gatewayBulk(t, m.off, size)
		})
	}
	if t.Failed() || cost["on"] == 0 || cost["off"] == 0 {
		return
	}
	ratio := cost["on"] / cost["off"]
	t.Logf("CPU with offloads: %.2f of that without", ratio)
	// A shorter run measures the noise of the machine.
	if long := os.Getenv("ISTHMUS_LONG") == "1"; long && ratio > 0.5 {
		t.Errorf("with offloads the dataplane needs %.2f of the CPU time that it needs without, want at most 0.5", ratio)
	}
}

// gatewayBulk is TestGatewayBulk for one mode; it returns the CPU seconds of the dataplane for 10^9 bytes.
func gatewayBulk(t *testing.T, off port.Switches, size int64) float64 {
	var spy threadSpy
	g := newGatewayBed(t, options{off: off, wrap: spy.wrap})
	g.startServer()
	before, stats := g.counters(), g.daemon.Stats()
	g.upload(sourcePort, 1<<20) // the first packet gives the worker away
	worker, process := spy.cpu(t), processCPU(t)
	g.upload(sourcePort, size)
	g.download(sourcePort, size)
	worker, process = spy.cpu(t)-worker, processCPU(t)-process
	g.closed()
	g.unmoved(before, corrupt...)
	g.unmoved(before, outOfWindow...)
	g.nothingLost(stats)
	gb := float64(2*size) / 1e9
	t.Logf("CPU: %.3f s/GB in the dataplane; %.3f s/GB in clients, servers and it", worker.Seconds()/gb, process.Seconds()/gb)
	for _, p := range g.daemon.Stats().Ports {
		if p.RxPackets > 0 && p.ID != dataplane.ProbePortID {
			t.Logf("port %s: %d bytes a packet received, %d sent", p.ID, p.RxBytes/p.RxPackets, p.TxBytes/p.TxPackets)
		}
	}
	return worker.Seconds() / gb
}

// nothingLost fails the test for what the dataplane has dropped, or a device has refused.
func (g *gatewayBed) nothingLost(before dataplane.Stats) {
	g.Helper()
	if drops := g.drops(before); len(drops) > 0 {
		g.Errorf("the dataplane dropped %v", drops)
	}
	for _, p := range g.daemon.Stats().Ports {
		if p.TxRefused+p.RxInvalid != 0 {
			g.Errorf("port %s: %+v", p.ID, p.Stats)
		}
	}
}

// threadSpy finds out which thread the only worker of an engine runs on.
type threadSpy struct {
	mu  sync.Mutex
	tid int
}

func (s *threadSpy) wrap(_ string, p port.Port) port.Port { return &spiedPort{Port: p, spy: s} }

// spiedPort tells its spy of the thread that it is first received from.
type spiedPort struct {
	port.Port
	spy  *threadSpy
	once sync.Once
}

// Receive is part of port.Port.
func (p *spiedPort) Receive(queue int, bufs []*port.Buffer) (int, error) {
	p.once.Do(func() {
		p.spy.mu.Lock()
		defer p.spy.mu.Unlock()
		p.spy.tid = unix.Gettid()
	})
	return p.Port.Receive(queue, bufs)
}

// cpu is the time that the thread has had on processors, of which it may have spent some as another's. Something must
// have been received.
func (s *threadSpy) cpu(t testing.TB) time.Duration {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tid == 0 {
		t.Fatal("the worker has received nothing")
	}
	// The number of a thread's clock (include/linux/posix-timers.h: CPUCLOCK_PERTHREAD_MASK, CPUCLOCK_SCHED).
	const perThread, sched = 4, 2
	return readClock(t, int32(^s.tid<<3|perThread|sched))
}

// processCPU is the time that all threads of this process have had on processors.
func processCPU(t testing.TB) time.Duration {
	t.Helper()
	return readClock(t, unix.CLOCK_PROCESS_CPUTIME_ID)
}

func readClock(t testing.TB, clock int32) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		t.Fatalf("read clock %d: %v", clock, err)
	}
	return time.Duration(now.Nano())
}
