// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import "unsafe"

// StickyEntry is one flow through Gateway Load Balancer endpoints, both directions. Arrays by direction hold that from A
// to B first. As Entry it holds no pointers. Its owner's table keeps Key, Cookie and the generation; only StickyTable may
// change those.
type StickyEntry struct {
	Key StickyKey

	Bytes [2]uint64 // inner layer 3 bytes, by direction

	Target   Ref
	Previous Ref    // the target before, from which packets may still return; zero: none
	Node     Ref    // the ENI whose address the target sees
	Ends     [2]Ref // endpoint ENI that packets of a direction came to, and leave from after inspection
	Sides    [2]Ref // port that packets of a direction came from

	Seen   uint32    // milliseconds of engine time, modulo 2^32, of the last packet or state change
	ISN    [2]uint32 // initial sequence number of the SYN seen last in a direction
	Cookie uint32    // names the flow on the way back from the target, see cookies; never 0

	SourcePort uint16 // of the outer UDP header
	IdleTenths uint16 // idle timeout, in tenths of a second
	State      State
	Flags      uint8 // given by the engine
	Ended      uint8 // why the dataplane ended the flow, 0 while it lives; given by the engine
	generation uint8 // of Cookie; outlives the flow
}

// StickyEntrySize is the size of a StickyEntry in bytes.
const StickyEntrySize = 112

var _ [StickyEntrySize]struct{} = [unsafe.Sizeof(StickyEntry{})]struct{}{}
