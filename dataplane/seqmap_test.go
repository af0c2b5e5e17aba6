// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// tape is the obvious twin of seqmap.go: the client's stream, and the stream as the target sees it, written down byte by
// byte. Cells stand for numbers, beginning a little before the first byte.
type tape struct {
	client []int // the client's byte in each cell, negative before the first
	target []int // the same as the target sees it; header bytes are headerCell
}

const (
	headerCell = 1 << 20
	before     = 5
	length     = 300
)

func newTape() (t tape) {
	for i := -before; i < length; i++ {
		t.client = append(t.client, i)
		if i == 0 {
			for range headerLen {
				t.target = append(t.target, headerCell)
			}
		}
		t.target = append(t.target, i)
	}
	return t
}

// find is the cell that holds a byte of the client's.
func find(cells []int, b int) int {
	for i, c := range cells {
		if c == b {
			return i
		}
	}
	return -1
}

// mappedEntry is a flow with a header, and numbers near their end as often as not.
func mappedEntry(t *rapid.T) *flow.Entry {
	isn := rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(0xffffff00, 0xffffffff)).Draw(t, "isn")
	return &flow.Entry{ISN: isn, AckTarget: isn + 1, Flags: flow.Proxy | flow.ProxySent}
}

// TestSegmentsKeepTheirBytes checks that a segment's number names the same byte of the client's to both sides.
func TestSegmentsKeepTheirBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cells, e := newTape(), mappedEntry(t)
		b := rapid.IntRange(-before, length-1).Draw(t, "byte")
		payload := rapid.Uint32Range(0, 2).Draw(t, "payload")
		got := int(int32(seqToTarget(e, firstByte(e)+uint32(b), payload, wire.TCPAck) - firstByte(e)))
		want := find(cells.target, b) - before
		if b == 0 { // the header is prepended, or the target's own count decides
			want = 0
		}
		if got != want {
			t.Fatalf("byte %d is at %d for the target, want %d", b, got, want)
		}
	})
}

// TestAcknowledgementsNameTheSameBytes checks that the client learns of exactly its own bytes.
func TestAcknowledgementsNameTheSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cells, e := newTape(), mappedEntry(t)
		if rapid.Bool().Draw(t, "not sent") {
			e.Flags &^= flow.ProxySent
		}
		at := rapid.IntRange(0, len(cells.target)).Draw(t, "acknowledged cells")
		want := before // cells of the client's before the first byte, which count the SYN and what came before it
		if at < before {
			want = at
		}
		for _, c := range cells.target[before:max(at, before)] {
			if c != headerCell {
				want++
			}
		}
		ack := firstByte(e) + uint32(at-before)
		if got := int(int32(ackToClient(e, ack) - firstByte(e))); got != want-before {
			t.Fatalf("%d of the target's cells are %d of the client's, want %d", at-before, got, want-before)
		}
		owed := 0
		for _, c := range cells.target[at:] {
			if c == headerCell {
				owed++
			}
		}
		if got := headerOwed(e, ack); got != uint32(owed) {
			t.Fatalf("after %d cells %d bytes of the header are owed, want %d", at-before, got, owed)
		}
	})
}

// TestMapsAreInverse checks that what the target acknowledges of a segment is what the client sent.
func TestMapsAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := mappedEntry(t)
		seq := firstByte(e) + rapid.Uint32Range(1, 1<<30).Draw(t, "number")
		if got := ackToClient(e, seqToTarget(e, seq, 0, wire.TCPAck)); got != seq {
			t.Fatalf("%d comes back as %d", seq, got)
		}
	})
}

// TestEmptySegmentAtFirstByte lists what a segment without data at the first byte becomes.
func TestEmptySegmentAtFirstByte(t *testing.T) {
	const first = clientISN + 1
	for _, c := range []struct {
		name  string
		flags uint8 // of the entry
		acked uint32
		tcp   uint8
		want  uint32
	}{
		{"no header ever", 0, first, wire.TCPAck, first},
		{"not sent yet", flow.Proxy, first, wire.TCPAck, first},
		{"RST, not sent yet", flow.Proxy, first, wire.TCPRst, first},
		{"old ACK", flow.Proxy | flow.ProxySent, first, wire.TCPAck, first},
		{"old ACK, half of the header acknowledged", flow.Proxy | flow.ProxySent, first + 50, wire.TCPAck, first + 50},
		{"RST, half of the header acknowledged", flow.Proxy | flow.ProxySent, first + 50, wire.TCPRst, first + 50},
		{"RST, more acknowledged", flow.Proxy | flow.ProxySent, first + 150, wire.TCPRst, first + 100},
		{"early ACK", flow.Proxy | flow.ProxyEarly | flow.ProxySent, first, wire.TCPAck, first + 100},
		{"early FIN", flow.Proxy | flow.ProxyEarly | flow.ProxySent, first, wire.TCPFin | wire.TCPAck, first + 100},
		{"early RST", flow.Proxy | flow.ProxyEarly | flow.ProxySent, first, wire.TCPRst, first},
		{"SYN", flow.Proxy | flow.ProxySent, first, wire.TCPSyn, first},
	} {
		e := &flow.Entry{ISN: clientISN, AckTarget: c.acked, Flags: c.flags}
		if got := seqToTarget(e, first, 0, c.tcp); got != c.want {
			t.Errorf("%s: first byte%+d, want %+d", c.name, int32(got-first), int32(c.want-first))
		}
	}
}
