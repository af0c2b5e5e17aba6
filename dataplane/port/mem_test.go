// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"errors"
	"testing"
)

func TestMemCarriesPackets(t *testing.T) {
	m := NewMem(MemConfig{Name: "m", Queues: 2, Depth: 3})
	if n := m.Inject(1, []byte("a"), []byte("bb"), []byte("ccc"), []byte("dddd")); n != 3 {
		t.Fatalf("%d injected into three places", n)
	}
	bufs := newBuffers(2)
	if n, _ := m.Receive(0, bufs); n != 0 {
		t.Fatal("queues mix")
	}
	var got []string
	for {
		n, err := m.Receive(1, bufs)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		for _, b := range bufs[:n] {
			if b.Headroom() != Headroom {
				t.Errorf("headroom %d", b.Headroom())
			}
			got = append(got, string(b.Bytes()))
		}
	}
	if len(got) != 3 || got[0] != "a" || got[2] != "ccc" {
		t.Fatalf("received %q", got)
	}
	if s := m.Stats(); s.RxPackets != 3 || s.RxBytes != 6 {
		t.Errorf("%+v", s)
	}
}

func TestMemKeepsOrCutsSuperPackets(t *testing.T) {
	spec := superSpec{gso: 100, payload: bytes.Repeat([]byte("payload"), 50), ttl: 64}
	m := NewMem(MemConfig{Name: "m", Depth: 2})
	super := spec.super(t)
	super.Via = [4]byte{1, 2, 3, 4}
	if n := m.InjectBuffers(0, super); n != 1 {
		t.Fatal(n)
	}
	bufs := newBuffers(2)
	n, _ := m.Receive(0, bufs)
	if n != 1 || bufs[0].Offload != super.Offload || bufs[0].Via != super.Via || !bytes.Equal(bufs[0].Bytes(), super.Bytes()) {
		t.Fatalf("received %+v", bufs[0].Offload)
	}
	if n := m.Send(0, []*Buffer{bufs[0], bufs[0], bufs[0]}); n != 2 {
		t.Fatalf("%d sent into two places", n)
	}
	if whole := m.TakeBuffers(0); len(whole) != 2 || whole[1].Offload != super.Offload {
		t.Fatalf("took %d", len(whole))
	}
	m.Send(0, bufs[:1])
	comparePackets(t, m.Take(0), spec.plain(t))
	if s := m.Stats(); s.TxPackets != 3 || s.TxRefused != 1 || m.Take(0) != nil {
		t.Errorf("%+v", s)
	}
}

func TestMemClosed(t *testing.T) {
	m := NewMem(MemConfig{Name: "m"})
	m.Send(0, newBuffers(1))
	m.Close()
	m.Close()
	if _, err := m.Receive(0, newBuffers(1)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if m.Send(0, newBuffers(1)) != 0 || len(m.TakeBuffers(0)) != 1 {
		t.Error("closing loses or keeps the wrong packets")
	}
}

func TestMemDoesNotAllocate(t *testing.T) {
	spec := superSpec{gso: 1000, payload: make([]byte, 30000), ttl: 64}
	super := spec.super(t)
	replay := NewMem(MemConfig{Name: "r", Replay: []*Buffer{super}, Discard: true})
	ring := NewMem(MemConfig{Name: "m", Depth: 4})
	bufs := newBuffers(4)
	for range 4 { // fill the slots' memory
		ring.InjectBuffers(0, super)
	}
	ring.Receive(0, bufs)
	if n := testing.AllocsPerRun(100, func() {
		if n, _ := replay.Receive(0, bufs); n != 4 {
			t.Fatal(n)
		}
		replay.Send(0, bufs)
		ring.InjectBuffers(0, super)
		ring.Receive(0, bufs[:1])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
