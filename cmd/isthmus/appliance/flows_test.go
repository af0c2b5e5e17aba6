// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// The twin is a slice, searched from end to end.
func TestLRUForgetsTheLeastRecent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var twin, evicted, want []int
	l := newLRU(5, func(k int, v *int) {
		if *v != -k {
			t.Fatalf("the value of %d is %d", k, *v)
		}
		evicted = append(evicted, k)
	})
	for range 2000 {
		k := random.IntN(12) + 1
		at := slices.Index(twin, k)
		v := l.get(k)
		if (v != nil) != (at >= 0) {
			t.Fatalf("%d is there: %v, want %v", k, v != nil, at >= 0)
		}
		if at >= 0 {
			twin = slices.Delete(twin, at, at+1)
		} else {
			*l.add(k) = -k
			if len(twin) == 5 {
				want = append(want, twin[4])
				twin = twin[:4]
			}
		}
		twin = slices.Insert(twin, 0, k)
		var order []int
		l.each(func(k int, _ *int) bool { order = append(order, k); return true })
		if !slices.Equal(order, twin) || l.len() != len(twin) || *l.oldest() != -twin[len(twin)-1] {
			t.Fatalf("in order %v, want %v", order, twin)
		}
	}
	if !slices.Equal(evicted, want) {
		t.Error("the wrong ones were evicted")
	}
}

func TestKeyOfIsTheSameBothWays(t *testing.T) {
	for _, pair := range [][2][]byte{
		{pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes(), pkttest.TCP{Src: dst4, Dst: src4, Flags: "SA"}.Bytes()},
		{pkttest.UDP(src6, dst6, nil), pkttest.UDP(dst6, src6, nil)},
		{pkttest.ICMPEcho(src4.Addr(), dst4.Addr(), 1, 1, nil), pkttest.ICMPEcho(dst4.Addr(), src4.Addr(), 1, 1, nil)},
	} {
		there, way := keyOf(7, tupleOf(t, pair[0]))
		back, other := keyOf(7, tupleOf(t, pair[1]))
		if there != back || way == other {
			t.Errorf("%v in direction %d and %v in direction %d: want one flow, two directions", there, way, back, other)
		}
		if elsewhere, _ := keyOf(8, tupleOf(t, pair[0])); elsewhere == there {
			t.Error("another scope has the same key")
		}
	}
	// Between two ports of one address the ports decide.
	self := src4.Addr()
	a, way := keyOf(0, tupleOf(t, pkttest.UDP(withPort(self, 1), withPort(self, 2), nil)))
	b, other := keyOf(0, tupleOf(t, pkttest.UDP(withPort(self, 2), withPort(self, 1), nil)))
	if a != b || way == other {
		t.Error("two ports of one address are two flows")
	}
}

func TestFlowsAreForgotten(t *testing.T) {
	table := newFlowTable(2)
	key := func(n uint16) *flowKey { return &flowKey{aPort: n} }
	table.open(key(1)).seen = 0
	table.open(key(2)).seen = time.Second
	if table.find(key(1), flowIdle) == nil || table.find(key(1), flowIdle+1) != nil {
		t.Error("a flow lives for flowIdle after its last packet")
	}
	table.forget(flowIdle + 1)
	if table.flows.len() != 2 {
		t.Error("flow 2, heard of less recently, hides flow 1 and is still live")
	}
	table.forget(flowIdle + time.Second + 1)
	if table.flows.len() != 0 || table.find(key(2), 0) != nil {
		t.Error("idle flows stay")
	}
	for n := range uint16(3) {
		table.open(key(n))
	}
	if table.find(key(0), 0) != nil || table.find(key(2), 0) == nil {
		t.Error("the table holds two flows, the newest")
	}
	table.find(key(2), 0).first = 1
	if table.open(key(2)).first != 0 {
		t.Error("a flow that is opened anew remembers the old one")
	}
}
