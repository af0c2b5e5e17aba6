// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// waitPort is a memory port that a worker can wait for, and whose other end can wait too.
type waitPort struct {
	*port.Mem
	fds  []int         // readable while a queue may have packets
	sent chan struct{} // one is in it when something has been sent
}

func newWaitPort(t *testing.T, name string, queues int) *waitPort {
	p := &waitPort{Mem: port.NewMem(port.MemConfig{Name: name, Queues: queues, Depth: 4096}), sent: make(chan struct{}, 1)}
	for range queues {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		p.fds = append(p.fds, fd)
	}
	return p
}

func (p *waitPort) FD(queue int) int { return p.fds[queue] }

func (p *waitPort) ready(queue int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(p.fds[queue], one[:])
}

func (p *waitPort) Receive(queue int, bufs []*port.Buffer) (int, error) {
	var count [8]byte
	_, _ = unix.Read(p.fds[queue], count[:])
	n, err := p.Mem.Receive(queue, bufs)
	if n > 0 {
		p.ready(queue) // there may be more
	}
	return n, err
}

func (p *waitPort) Send(queue int, bufs []*port.Buffer) int {
	n := p.Mem.Send(queue, bufs)
	select {
	case p.sent <- struct{}{}:
	default:
	}
	return n
}

// deliver makes packets ready on any queue.
func (p *waitPort) deliver(r *rand.Rand, pkt []byte) {
	q := r.IntN(len(p.fds))
	p.Inject(q, pkt)
	p.ready(q)
}

// takeAll is what has been sent on all queues.
func (p *waitPort) takeAll() (list [][]byte) {
	for q := range p.fds {
		list = append(list, p.Take(q)...)
	}
	return list
}

// running is an engine whose workers run.
type running struct {
	*testing.T
	engine             *Engine
	consumer, provider *waitPort
	ports              map[string]port.Port
	ended              chan error
	stop               context.CancelFunc
}

func startEngine(t *testing.T, workers int) *running {
	e, err := New(Config{Workers: workers, MaxFlows: 1 << 12, Spin: 50 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{T: t, engine: e, consumer: newWaitPort(t, "consumer", workers), provider: newWaitPort(t, "provider", workers),
		ended: make(chan error, 1)}
	r.ports = map[string]port.Port{"consumer": r.consumer, "provider": r.provider}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(t.Context())
	go func() { r.ended <- e.Run(ctx) }()
	return r
}

// end stops the engine.
func (r *running) end() {
	r.Helper()
	r.stop()
	select {
	case err := <-r.ended:
		if err != nil {
			r.Error(err)
		}
	case <-time.After(20 * time.Second):
		r.Fatal("the workers have not ended after 20 s")
	}
}

// serve is all targets: it accepts every connection and answers data with as much.
func (r *running) serve(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for ctx.Err() == nil {
		select {
		case <-r.provider.sent:
		case <-ctx.Done():
		}
		for _, pkt := range r.provider.takeAll() {
			p := pkttest.Decode(r, pkt)
			src, dst := endsOf(p)
			answer := pkttest.TCP{Src: dst, Dst: src, Seq: p.TCP.Ack, Ack: p.TCP.Seq + uint32(len(p.Payload)), Flags: "PA", Window: 1000, Payload: p.Payload}
			if p.TCP.SYN {
				answer.Seq, answer.Ack, answer.Flags = targetISN, p.TCP.Seq+1, "SA"
			}
			if p.TCP.SYN || len(p.Payload) > 0 {
				r.provider.deliver(rnd, answer.Bytes())
			}
		}
	}
}

// ask opens connections one after the other, each with a question and its answer, repeating what is not answered.
func (r *running) ask(connections int) {
	rnd := rand.New(rand.NewPCG(2, 2))
	deadline := time.After(60 * time.Second)
	for i := range connections {
		client := manyClient(i)
		for _, p := range []pkttest.TCP{syn, data(firstSeq, targetISN+1, "question")} {
			p.Src, p.Dst = client, endpointAddr
			for answered := false; !answered; {
				r.consumer.deliver(rnd, p.Bytes())
				select {
				case <-r.consumer.sent:
				case <-time.After(20 * time.Millisecond):
				case <-deadline:
					r.Errorf("connection %d of %d is not answered; drops %v", i, connections, r.engine.Stats().Drops)
					return
				}
				for _, pkt := range r.consumer.takeAll() {
					got := pkttest.Decode(r, pkt)
					_, dst := endsOf(got)
					answered = answered || dst == client && (got.TCP.SYN == (p.Flags == "S"))
				}
			}
		}
	}
}

// TestRunWhileEverythingChanges runs real workers while states, health and questions come from other goroutines. It is
// made for the race detector.
func TestRunWhileEverythingChanges(t *testing.T) {
	r := startEngine(t, 2)
	st := newState()
	withTargets(3)(st)
	withProxy(st)
	if err := r.engine.Apply(clone(st), r.ports); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.serve(ctx) })
	for _, change := range r.changes(ctx, st) {
		wg.Go(func() {
			for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-tick.C {
				if err := change(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	r.ask(150)
	cancel()
	wg.Wait()
	r.end()
	s := r.engine.Stats()
	if s.Flows.New < 150 || s.Drops[Unexplained] != 0 || s.Flows.HeadersSent < 150 {
		t.Errorf("%+v", s)
	}
}

// changes are what others do to the engine meanwhile.
func (r *running) changes(ctx context.Context, st *vpc.State) []func() error {
	revision := uint64(1)
	return []func() error{
		func() error {
			next := clone(st)
			revision++
			if next.Revision = revision; revision%2 == 0 {
				withSecondZone(next)
				withTargets(4)(next)
			}
			return r.engine.Apply(next, r.ports)
		},
		func() error { return r.engine.SetHealth(map[TargetID]Health{webTarget(3): Unhealthy}) },
		func() error { return r.engine.EndDraining([]TargetID{webTarget(3)}) },
		func() error {
			_ = r.engine.Stats()
			_ = r.engine.ProbeRoutes()
			_ = r.engine.Revision()
			return nil
		},
		func() error { return r.engine.Flows(ctx, func(FlowInfo) bool { return true }) },
	}
}

// TestApplyWhileStopping asks things of workers that are just ending: nobody may wait for an answer for ever.
func TestApplyWhileStopping(t *testing.T) {
	for range 10 {
		r := startEngine(t, 2)
		done := make(chan error, 20)
		for range 20 {
			go func() { done <- r.engine.Apply(newState(), r.ports) }()
		}
		r.end()
		for range 20 {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("Apply has not returned after 20 s")
			}
		}
	}
}

// TestApplyLetsGoOfPorts checks that a port may be closed when Apply has returned without it.
func TestApplyLetsGoOfPorts(t *testing.T) {
	r := startEngine(t, 2)
	if err := r.engine.Apply(newState(), r.ports); err != nil {
		t.Fatal(err)
	}
	if err := r.engine.Apply(newState(), map[string]port.Port{"consumer": r.consumer}); err != nil {
		t.Fatal(err)
	}
	before := r.provider.Stats()
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		r.provider.deliver(rnd, atEndpoint(syn).Bytes())
	}
	r.end()
	if after := r.provider.Stats(); after != before {
		t.Errorf("the port was used: %+v", after)
	}
}
