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
// and a place that changes hands changes its generation. Identities are strings of all that makes an object another
// one when it changes.
type slots struct {
	byID map[string]uint16
	gens []uint16
	free []uint16 // released places, oldest first
}

// assign returns the slots for the next view, in which exactly ids have places. The receiver stays as it is, in case that
// view is refused. Generations start at 1, so that the zero flow.Ref names nothing.
func (s *slots) assign(ids []string, kind string) (*slots, error) {
	next := &slots{byID: make(map[string]uint16, len(ids)), gens: slices.Clone(s.gens), free: slices.Clone(s.free)}
	old := maps.Clone(s.byID)
	var fresh []string
	for _, id := range ids {
		if slot, ok := old[id]; ok {
			next.byID[id] = slot
			delete(old, id)
		} else if _, twice := next.byID[id]; !twice {
			fresh = append(fresh, id)
			next.byID[id] = 0
		}
	}
	for _, slot := range slices.Sorted(maps.Values(old)) {
		next.renew(slot)
		next.free = append(next.free, slot)
	}
	for _, id := range fresh {
		switch {
		case len(next.free) > 0:
			next.byID[id] = next.free[0]
			next.free = next.free[1:]
		case len(next.gens) < maxSlots:
			next.byID[id] = uint16(len(next.gens))
			next.gens = append(next.gens, 1)
		default:
			return nil, fmt.Errorf("more than %d %s: split the state over several daemons", maxSlots, kind)
		}
	}
	return next, nil
}

// renew gives a place another generation.
func (s *slots) renew(slot uint16) {
	if s.gens[slot]++; s.gens[slot] == 0 {
		s.gens[slot] = 1
	}
}

// ref is the place of id and its generation.
func (s *slots) ref(id string) flow.Ref {
	slot := s.byID[id]
	return flow.Ref{Slot: slot, Gen: s.gens[slot]}
}
