// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/dataplane/flow"
)

// TestSlots gives places to objects that come and go. A place and generation never name two objects, and an object keeps
// both while it stays.
func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &slots{}
		owners := map[flow.Ref]string{}
		held := map[string]flow.Ref{}
		for range rapid.IntRange(1, 30).Draw(t, "views") {
			var ids []string
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 12).Draw(t, "objects") { // some of them twice
				ids = append(ids, fmt.Sprint(n))
			}
			kept := slices.Clone(s.gens)
			next, err := s.assign(ids, "objects")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(kept, s.gens) {
				t.Fatal("the view before has changed")
			}
			now := map[string]flow.Ref{}
			for _, id := range ids {
				if _, again := now[id]; again {
					continue
				}
				r := next.ref(id)
				if was, ok := held[id]; ok && was != r {
					t.Fatalf("%s moved from %v to %v", id, was, r)
				} else if _, known := owners[r]; !ok && known {
					t.Fatalf("%v was %s and is %s", r, owners[r], id)
				}
				if r.Gen == 0 {
					t.Fatalf("%s has generation 0", id)
				}
				owners[r], now[id] = id, r
			}
			if len(now) != len(next.byID) || len(slices.Compact(slices.Sorted(maps.Values(next.byID)))) != len(now) {
				t.Fatalf("%v for %v", next.byID, ids)
			}
			s, held = next, now
		}
	})
}

func TestSlotsAreReusedOldestFirst(t *testing.T) {
	s := &slots{}
	for _, ids := range [][]string{{"a", "b", "c"}, {"b", "c"}, {"c"}, {"c", "d", "e"}} {
		var err error
		if s, err = s.assign(ids, "objects"); err != nil {
			t.Fatal(err)
		}
	}
	if d, e := s.ref("d"), s.ref("e"); d != (flow.Ref{Slot: 0, Gen: 2}) || e != (flow.Ref{Slot: 1, Gen: 2}) {
		t.Errorf("d is %v, e is %v", d, e)
	}
}

func TestGenerationsSkipZero(t *testing.T) {
	s := &slots{gens: []uint16{0xffff}}
	if s.renew(0); s.gens[0] != 1 {
		t.Errorf("generation %d follows the last", s.gens[0])
	}
}

func TestSlotsRunOut(t *testing.T) {
	s := &slots{gens: make([]uint16, maxSlots)}
	if _, err := s.assign([]string{"one too many"}, "ports"); err == nil {
		t.Error("there is room for one more")
	}
}
