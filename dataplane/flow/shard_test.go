// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// entriesOf is what tables of entries E can do alike.
type entriesOf[E any] interface {
	Len() int
	Max() int
	HighWater() int
	At(h Handle) *E
	Sweep(n int, visit func(h Handle, e *E))
	Walk(from uint32, n int, fn func(h Handle, e *E)) (next uint32, done bool)
}

// checkFlows compares a table with the flows it should have.
func checkFlows[E, V any](t *rapid.T, s entriesOf[E], flows map[Handle]V, limit, highWater int) {
	if s.Len() != len(flows) || s.Max() != limit || s.HighWater() != highWater {
		t.Fatalf("Len, Max, HighWater = %d, %d, %d, want %d, %d, %d",
			s.Len(), s.Max(), s.HighWater(), len(flows), limit, highWater)
	}
	seen := map[Handle]bool{}
	s.Sweep(highWater+3, func(h Handle, e *E) {
		if _, ok := flows[h]; !ok || seen[h] || e != s.At(h) {
			t.Fatalf("Sweep visits %d wrongly, or again", h)
		}
		seen[h] = true
	})
	if len(seen) != len(flows) {
		t.Fatalf("Sweep visits %d of %d flows", len(seen), len(flows))
	}
}

func usedSlots(x index) (n int) {
	for _, s := range x {
		if s != 0 {
			n++
		}
	}
	return n
}

// checkWalk walks a table in steps, and wants to see the given flows in the order of their numbers.
func checkWalk[E, V any](t *rapid.T, s entriesOf[E], flows map[Handle]V) {
	n := rapid.IntRange(1, 5).Draw(t, "n")
	var seen []Handle
	for from, done := uint32(0), false; !done; {
		from, done = s.Walk(from, n, func(h Handle, _ *E) { seen = append(seen, h) })
	}
	if want := slices.Sorted(maps.Keys(flows)); !slices.Equal(seen, want) {
		t.Fatalf("Walk sees %v, want %v", seen, want)
	}
}

// checkSearches wants searches to be short in the index of a full table.
func checkSearches(t *testing.T, x index) {
	t.Helper()
	longest, sum := 0, 0
	for i, s := range x {
		if s != 0 {
			d := x.behind(i, x.home(s))
			sum += d + 1
			longest = max(longest, d+1)
		}
	}
	// Knuth, The Art of Computer Programming 3, 6.4: (1 + 1/(1-load))/2 = 2 slots for a hit at a load of 2/3.
	if mean := float64(sum) / float64(usedSlots(x)); mean > 2.1 || longest > 200 {
		t.Errorf("a hit looks at %.2f slots on average and %d at most", mean, longest)
	}
}
