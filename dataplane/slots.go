// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-net/isthmus/dataplane/flow"
)

// maxSlots is how many objects of one kind a view holds: a flow names them by 16 bits.
const maxSlots = 1 << 16

// slots gives the objects of one kind their places in the view, so that an object keeps its place from view to view
// and a place that changes hands changes its generation. An identity is all that makes an object another one when it
// changes.
type slots[ID comparable] struct {
	byID map[ID]uint16
	ids  []ID   // by place; of those that are taken
	held []bool // the place is taken
	gens []uint16
	free []uint16 // released places, oldest first
}

// assign returns the slots for the next view, in which exactly ids have places, and those for which keep, unless it is
// nil, says so of what is no more among ids; and the places of ids. The receiver stays as it is, in case that view is
// refused. Generations start at 1, so that the zero flow.Ref names nothing.
func (s *slots[ID]) assign(ids []ID, kind string, keep func(slot uint16) bool) (*slots[ID], []flow.Ref, error) {
	next := &slots[ID]{byID: s.byID, ids: s.ids, held: s.held, gens: slices.Clone(s.gens), free: s.free}
	refs := make([]flow.Ref, len(ids))
	here := make([]bool, len(s.gens))
	var fresh []int // of ids
	for i, id := range ids {
		if slot, ok := s.byID[id]; ok {
			refs[i].Slot, here[slot] = slot, true
		} else {
			fresh = append(fresh, i)
		}
	}
	var gone []uint16
	for i, held := range s.held {
		if slot := uint16(i); held && !here[i] && (keep == nil || !keep(slot)) {
			gone = append(gone, slot)
		}
	}
	if len(fresh)+len(gone) > 0 { // what does not change is shared
		next.byID, next.ids, next.held, next.free = maps.Clone(s.byID), slices.Clone(s.ids), slices.Clone(s.held), slices.Clone(s.free)
	}
	for _, slot := range gone {
		next.release(slot)
	}
	for _, i := range fresh {
		slot, ok := next.place(ids[i])
		if !ok {
			return nil, nil, fmt.Errorf("more than %d %s: split the state over several daemons", maxSlots, kind)
		}
		refs[i].Slot = slot
	}
	for i := range refs {
		refs[i].Gen = next.gens[refs[i].Slot]
	}
	return next, refs, nil
}

// release takes a place from its owner.
func (s *slots[ID]) release(slot uint16) {
	var none ID
	delete(s.byID, s.ids[slot])
	s.ids[slot], s.held[slot] = none, false
	s.renew(slot)
	s.free = append(s.free, slot)
}

// place is the place that id has, or gets.
func (s *slots[ID]) place(id ID) (slot uint16, ok bool) {
	if slot, ok = s.byID[id]; ok {
		return slot, true
	}
	switch {
	case len(s.free) > 0:
		slot, s.free = s.free[0], s.free[1:]
	case len(s.gens) < maxSlots:
		var none ID
		slot = uint16(len(s.gens))
		s.gens, s.ids, s.held = append(s.gens, 1), append(s.ids, none), append(s.held, false)
	default:
		return 0, false
	}
	if s.byID == nil {
		s.byID = map[ID]uint16{}
	}
	s.byID[id], s.ids[slot], s.held[slot] = slot, id, true
	return slot, true
}

// renew gives a place another generation.
func (s *slots[ID]) renew(slot uint16) {
	if s.gens[slot]++; s.gens[slot] == 0 {
		s.gens[slot] = 1
	}
}
