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

// TestSlots gives places to objects that come and go, of whom some are kept when they have gone. A place and generation never
// name two objects, and an object keeps both while it stays.
func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &slots[string]{}
		owners := map[flow.Ref]string{}
		held := map[string]flow.Ref{}
		at := map[uint16]string{} // owners by place
		for range rapid.IntRange(1, 30).Draw(t, "views") {
			var ids []string
			for _, n := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 12).Draw(t, "objects") { // some of them twice
				ids = append(ids, fmt.Sprint(n))
			}
			haunting := rapid.IntRange(0, 9).Draw(t, "haunting")
			before := fmt.Sprint(*s)
			now := map[string]flow.Ref{}
			next, refs, err := s.assign(ids, "objects", func(slot uint16) bool {
				id := at[slot]
				if slices.Contains(ids, id) || held[id].Slot != slot {
					t.Fatalf("asked to keep %q at %d", id, slot)
				}
				if id > fmt.Sprint(haunting) {
					now[id] = held[id]
				}
				return id > fmt.Sprint(haunting)
			})
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(*s) != before {
				t.Fatal("the view before has changed")
			}
			for i, id := range ids {
				if r, again := now[id]; again {
					if r != refs[i] {
						t.Fatalf("%s is at %v and at %v", id, r, refs[i])
					}
					continue
				}
				r := refs[i]
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
			s, held, at = next, now, map[uint16]string{}
			for id, r := range held {
				at[r.Slot] = id
			}
		}
	})
}

func TestSlotsAreReusedOldestFirst(t *testing.T) {
	s, refs := &slots[string]{}, []flow.Ref(nil)
	for _, ids := range [][]string{{"a", "b", "c"}, {"b", "c"}, {"c"}, {"c", "d", "e"}} {
		var err error
		if s, refs, err = s.assign(ids, "objects", nil); err != nil {
			t.Fatal(err)
		}
	}
	if d, e := refs[1], refs[2]; d != (flow.Ref{Slot: 0, Gen: 2}) || e != (flow.Ref{Slot: 1, Gen: 2}) {
		t.Errorf("d is %v, e is %v", d, e)
	}
}

func TestGenerationsSkipZero(t *testing.T) {
	s := &slots[string]{gens: []uint16{0xffff}}
	if s.renew(0); s.gens[0] != 1 {
		t.Errorf("generation %d follows the last", s.gens[0])
	}
}

func TestSlotsRunOut(t *testing.T) {
	s := &slots[string]{gens: make([]uint16, maxSlots), held: make([]bool, maxSlots)}
	if _, _, err := s.assign([]string{"one too many"}, "ports", nil); err == nil {
		t.Error("there is room for one more")
	}
}
