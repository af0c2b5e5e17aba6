// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// The PROXY header sits in the client's stream, as the target sees it, from the number of the client's first byte on:
// at isn+1, for headerLen bytes. These functions convert numbers of the client's stream between the client's view,
// without header, and the target's, with it. They depend on nothing but the flow and the segment, so that a
// retransmission, a duplicate or a late segment gets the same answer as the first time. All arithmetic is modulo 2^32.

// firstByte is the number of the client's first byte.
func firstByte(e *flow.Entry) uint32 { return e.ISN + 1 }

// seqToTarget is the number under which the target sees a segment of the client, payload bytes long. A segment with
// payload at the first byte keeps its number, since the header is prepended to it.
func seqToTarget(e *flow.Entry, seq, payload uint32, flags uint8) uint32 {
	if e.Flags&flow.Proxy == 0 || flags&wire.TCPSyn != 0 {
		return seq
	}
	first := firstByte(e)
	switch {
	case wire.SeqAfter(seq, first):
		return seq + headerLen
	case seq == first && payload == 0 && e.Flags&flow.ProxySent != 0:
		if e.Flags&flow.ProxyEarly != 0 && flags&wire.TCPRst == 0 {
			// The header went alone: this is an ACK or FIN of a client that has still said nothing, and comes after it.
			return first + headerLen
		}
		// An old ACK, or the RST of an aborting client: exactly what the target expects next, of the header's bytes,
		// since a RST counts nowhere else (RFC 5961).
		return within(e.AckTarget, first, first+headerLen)
	}
	return seq
}

// ackToClient is the client's number for an acknowledgement, or any edge in the client's stream, of the target.
// Numbers inside the header become the first byte's: the client has sent none of it. Whether the header has been sent
// does not matter: a segment that overtakes the first is shifted too, and so are the SACK blocks about it.
func ackToClient(e *flow.Entry, ack uint32) uint32 {
	if e.Flags&flow.Proxy == 0 {
		return ack
	}
	d := int32(ack - firstByte(e))
	switch {
	case d <= 0:
		return ack
	case d < headerLen:
		return firstByte(e)
	}
	return ack - headerLen
}

// headerOwed is how many bytes of the header the target has still to acknowledge: what its window holds for them is not
// the client's to fill.
func headerOwed(e *flow.Entry, ack uint32) uint32 {
	d := int32(ack - firstByte(e))
	switch {
	case d <= 0:
		return headerLen
	case d < headerLen:
		return headerLen - uint32(d)
	}
	return 0
}

// within is n, or the nearer end of [low, high].
func within(n, low, high uint32) uint32 {
	switch {
	case wire.SeqBefore(n, low):
		return low
	case wire.SeqAfter(n, high):
		return high
	}
	return n
}
