// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// impaired is a memory port behind impairments, with a clock set by the test.
type impaired struct {
	t     testing.TB
	mem   *Mem
	port  *Impaired
	clock time.Duration
	bufs  []*Buffer
}

func newImpaired(t testing.TB, cfg ImpairConfig) *impaired {
	t.Helper()
	i := &impaired{t: t, mem: NewMem(MemConfig{Name: "m", Depth: 4096}), clock: time.Hour, bufs: newBuffers(4)}
	cfg.Now = func() time.Duration { return i.clock }
	var err error
	if i.port, err = Impair(i.mem, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.port.Close() })
	return i
}

func numbered(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// received drains the port.
func (i *impaired) received() (got []int) {
	i.t.Helper()
	for idle := 0; idle < 2; idle++ {
		n, err := i.port.Receive(0, i.bufs)
		if err != nil {
			i.t.Fatal(err)
		}
		for _, b := range i.bufs[:n] {
			got = append(got, int(binary.BigEndian.Uint32(b.Bytes())))
			idle = 0
		}
	}
	return got
}

func (i *impaired) inject(from, to int) {
	for n := from; n < to; n++ {
		i.mem.Inject(0, numbered(n))
	}
}

func TestImpairNothing(t *testing.T) {
	i := newImpaired(t, ImpairConfig{})
	i.inject(0, 100)
	got := i.received()
	if len(got) != 100 || !slices.IsSorted(got) {
		t.Fatal(got)
	}
	spec := superSpec{gso: 100, payload: bytes.Repeat([]byte("abc"), 400), ttl: 64}
	if i.port.Send(0, []*Buffer{spec.super(t)}) != 1 {
		t.Fatal("refused")
	}
	if whole := i.mem.TakeBuffers(0); len(whole) != 12 || whole[0].Offload != (Offload{}) {
		t.Fatalf("%d packets sent on", len(whole))
	}
}

func TestImpairLossIsRepeatable(t *testing.T) {
	var runs [2][]int
	for run := range runs {
		i := newImpaired(t, ImpairConfig{Seed: 7, Rx: Impairment{Loss: 0.1, Duplicate: 0.05}})
		i.inject(0, 4000)
		runs[run] = i.received()
		rx, tx := i.port.Counts()
		if rx.Packets != 4000 || rx.Lost < 300 || rx.Lost > 500 || rx.Duplicated < 120 || rx.Duplicated > 280 ||
			tx != (ImpairCounts{}) {
			t.Errorf("%+v %+v", rx, tx)
		}
		if len(runs[run]) != int(4000-rx.Lost+rx.Duplicated) {
			t.Errorf("%d received with %+v", len(runs[run]), rx)
		}
	}
	if !slices.Equal(runs[0], runs[1]) {
		t.Error("two runs differ")
	}
}

func TestImpairDelay(t *testing.T) {
	i := newImpaired(t, ImpairConfig{
		Rx: Impairment{Delay: 10 * time.Millisecond}, Tx: Impairment{Delay: 20 * time.Millisecond}})
	i.inject(0, 3)
	if got := i.received(); len(got) != 0 {
		t.Fatal(got)
	}
	i.clock += 5 * time.Millisecond
	i.inject(3, 5)
	i.received()
	i.clock += 5 * time.Millisecond
	if got := i.received(); !slices.Equal(got, []int{0, 1, 2}) {
		t.Fatal(got)
	}
	i.clock += 5 * time.Millisecond
	if got := i.received(); !slices.Equal(got, []int{3, 4}) {
		t.Fatal(got)
	}
	b := NewBuffer()
	b.Set(numbered(1))
	i.port.Send(0, []*Buffer{b})
	i.clock += 19 * time.Millisecond
	i.received()
	if i.mem.Take(0) != nil {
		t.Fatal("sent on early")
	}
	i.clock += time.Millisecond
	i.received() // a worker receives when FD wakes it
	if len(i.mem.Take(0)) != 1 {
		t.Fatal("not sent on")
	}
}

func TestImpairReorder(t *testing.T) {
	i := newImpaired(t, ImpairConfig{Rx: Impairment{Reorder: 0.2, ReorderBy: 3 * time.Millisecond}})
	var got []int
	for n := range 1000 {
		i.inject(n, n+1)
		got = append(got, i.received()...)
		i.clock += time.Millisecond
	}
	i.clock += time.Second
	got = append(got, i.received()...)
	if slices.IsSorted(got) {
		t.Error("in order")
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != 1000 {
		t.Error("packets are missing")
	}
	if rx, _ := i.port.Counts(); rx.Reordered < 140 || rx.Reordered > 260 {
		t.Errorf("%+v", rx)
	}
}

// TestImpairFilter loses exactly one packet.
func TestImpairFilter(t *testing.T) {
	done := false
	i := newImpaired(t, ImpairConfig{Tx: Impairment{Loss: 1, Filter: func(p []byte) bool {
		hit := !done && bytes.Contains(p, []byte("header"))
		done = done || hit
		return hit
	}}})
	first := superSpec{payload: []byte("header and data"), ttl: 64}
	other := superSpec{payload: []byte("data"), ttl: 64}
	for range 2 {
		i.port.Send(0, []*Buffer{first.super(t), other.super(t)})
	}
	got := i.mem.Take(0)
	comparePackets(t, got, [][]byte{other.plain(t)[0], first.plain(t)[0], other.plain(t)[0]})
}

func TestImpairHoldsNoMoreThanItMay(t *testing.T) {
	i := newImpaired(t, ImpairConfig{Rx: Impairment{Delay: time.Hour}})
	for n := range impairHeld + 10 {
		i.inject(n, n+1)
		i.received()
	}
	if rx, _ := i.port.Counts(); rx.Lost != 10 {
		t.Errorf("%+v", rx)
	}
}

// TestImpairWakes waits for a delayed packet by its descriptor, and by that of the port behind.
func TestImpairWakes(t *testing.T) {
	p, err := Impair(NewMem(MemConfig{Name: "m"}), ImpairConfig{Tx: Impairment{Delay: 20 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	poller := newPoller(t)
	if err := poller.Add(p.FD(0), 5); err != nil {
		t.Fatal(err)
	}
	ready := make([]uint32, 1)
	for range 3 {
		start := time.Now()
		p.Send(0, newBuffers(1))
		if poller.Wait(5*time.Second, ready) != 1 || ready[0] != 5 {
			t.Fatal("not woken")
		}
		if d := time.Since(start); d < 19*time.Millisecond {
			t.Errorf("woken after %v", d)
		}
		for len(p.Port.(*Mem).TakeBuffers(0)) == 0 {
			if _, err := p.Receive(0, newBuffers(1)); err != nil {
				t.Fatal(err)
			}
		}
		if poller.Wait(0, ready) != 0 {
			t.Error("awake with nothing to do")
		}
	}
}

func TestImpairClosed(t *testing.T) {
	i := newImpaired(t, ImpairConfig{})
	i.port.SetAddresses([]netip.Addr{eni}) // a memory port has no use for them
	for range 2 {
		if err := i.port.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.port.Receive(0, newBuffers(1)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if i.port.Send(0, newBuffers(1)) != 0 || i.port.FD(0) != -1 {
		t.Error("a closed port works")
	}
}

// TestTCPThroughImpairedPorts has the kernels repair what the impairments break.
func TestTCPThroughImpairedPorts(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	bad := Impairment{Loss: 0.005, Duplicate: 0.01, Reorder: 0.01, Delay: time.Millisecond}
	cfg := ImpairConfig{Seed: 1, Rx: bad, Tx: bad}
	pa, err := Impair(openTUN(a, Config{Name: "a", Device: "tun0"}, "10.0.0.1/24"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pa.Close()
	pb := openTUN(b, Config{Name: "b", Device: "tun0"}, "10.0.1.1/24")
	a.do(func() error { return a.route("tun0", "10.0.1.0/24") })
	b.do(func() error { return b.route("tun0", "10.0.0.0/24") })
	defer both(t, pa, pb)()
	exchange(t, a, b, "10.0.1.1:80", 1<<20)
	if rx, tx := pa.Counts(); rx.Packets == 0 || tx.Packets == 0 || rx.Reordered+tx.Reordered == 0 {
		t.Errorf("%+v %+v", rx, tx)
	}
}
