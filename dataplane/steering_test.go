// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"math/rand/v2"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// TestInspectorIsWhereTheKernelSteers compares the owner of GWLB flows with the queue of their packets, IPv4 and IPv6,
// with and without ports that count, in both directions. What the kernel's program does is compared in package port.
func TestInspectorIsWhereTheKernelSteers(t *testing.T) {
	b := newBed(t, gatewayState(), Config{Workers: 3})
	w := b.engine.workers[0]
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[int]int{}
	for range 3000 {
		var src, dst [16]byte
		for i := range src {
			src[i], dst[i] = byte(r.Uint32()), byte(r.Uint32())
		}
		from, to := port.Fold(src), port.Fold(dst)
		if r.IntN(2) == 0 {
			from, to = [4]byte(src[:4]), [4]byte(dst[:4])
			src, dst = mapped(from), mapped(to)
		}
		sport, dport := uint16(r.Uint32()), uint16(r.Uint32())
		for _, kind := range []flow.Kind{flow.FiveTuple, flow.ThreeTuple, flow.TwoTuple} {
			out, _ := flow.NewStickyKey(kind, 1, 6, src, dst, sport, dport)
			back, _ := flow.NewStickyKey(kind, 1, 6, dst, src, dport, sport)
			want := port.QueueByFlow(port.FlowHash(from, to, sport, dport), 3)
			if kind != flow.FiveTuple {
				want = port.QueueByFlow(port.FlowHash(from, to, 0, 0), 3)
			}
			if a, b := w.inspector(&out), w.inspector(&back); a != want || b != want {
				t.Fatalf("kind %d: owners %d and %d, steered to %d", kind, a, b, want)
			}
			seen[want]++
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v: not every worker owns flows", seen)
	}
}
