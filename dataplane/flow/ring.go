// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// Lengths of a ring: the first it gets, and the longest that is kept for the next pair when a pair is forgotten.
const (
	ringFirst = 16
	ringKeep  = 64
)

// resting is a port that was released at a time.
type resting struct {
	at   uint32
	port uint16
}

// ring is a queue of resting ports in the order of their release, which need not be that of their times.
type ring struct {
	buf  []resting
	head int // position of the oldest
	len  int
}

// at is the i-th resting port, counted from the oldest.
func (r *ring) at(i int) *resting {
	if i += r.head; i >= len(r.buf) {
		i -= len(r.buf)
	}
	return &r.buf[i]
}

// push adds a port as the newest. The ring grows by doubling up to limit, which the caller must not exceed.
func (r *ring) push(p resting, limit int) {
	if r.len == len(r.buf) {
		grown := make([]resting, min(max(2*len(r.buf), ringFirst), limit))
		n := copy(grown, r.buf[r.head:])
		copy(grown[n:], r.buf[:r.head])
		r.buf, r.head = grown, 0
	}
	r.len++
	*r.at(r.len - 1) = p
}

// pop takes the oldest port, if there is one and it has rested for PortQuiet.
func (r *ring) pop(now uint32) (port uint16, ok bool) {
	if r.len == 0 || !Expired(now, r.at(0).at, PortQuiet) {
		return 0, false
	}
	port = r.at(0).port
	if r.head++; r.head == len(r.buf) {
		r.head = 0
	}
	r.len--
	return port, true
}

// over reports whether all ports have rested for PortQuiet. It begins with the newest, so that it mostly ends at once
// unless the answer is yes, which is the end of the ring.
func (r *ring) over(now uint32) bool {
	for i := r.len - 1; i >= 0; i-- {
		if !Expired(now, r.at(i).at, PortQuiet) {
			return false
		}
	}
	return true
}

// emptied is an empty ring, with the memory of this one if that is little.
func (r *ring) emptied() ring {
	if len(r.buf) > ringKeep {
		return ring{}
	}
	return ring{buf: r.buf}
}
