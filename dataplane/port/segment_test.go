// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// cut is all segments of b.
func cut(b *Buffer) [][]byte {
	var seg Segmenter
	var out [][]byte
	dst := NewBuffer()
	seg.Start(b)
	for seg.Next(dst) {
		out = append(out, bytes.Clone(dst.Bytes()))
	}
	return out
}

func comparePackets(t testing.TB, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d of %d:\n got %x\nwant %x", i, len(got), got[i], want[i])
		}
	}
}

// TestSegmentsAgainstGopacket compares the segmenter with packets that were never joined.
func TestSegmentsAgainstGopacket(t *testing.T) {
	for seed := range uint64(2000) {
		spec := randomSpec(rand.New(rand.NewPCG(seed, 1)))
		b := spec.super(t)
		if !b.check() {
			t.Fatalf("seed %d: own super-packet refused: %+v", seed, b.Offload)
		}
		want := spec.plain(t)
		if b.Segments() != len(want) {
			t.Fatalf("seed %d: Segments() is %d, want %d", seed, b.Segments(), len(want))
		}
		comparePackets(t, cut(b), want)
	}
}

func TestSegmenterLeavesSourceAlone(t *testing.T) {
	spec := superSpec{gso: 100, payload: make([]byte, 950), psh: true, ttl: 64}
	b := spec.super(t)
	before := NewBuffer()
	before.CopyFrom(b)
	cut(b)
	if !bytes.Equal(b.Bytes(), before.Bytes()) || b.Offload != before.Offload {
		t.Fatal("the source changed")
	}
}

func TestCompleteUDPZero(t *testing.T) {
	// The payload is chosen so that the checksum comes out as zero, which UDP writes as all ones.
	spec := superSpec{udp: true, payload: []byte{0, 0}, ttl: 64}
	b := spec.super(t)
	Complete(b)
	c := b.Bytes()[26:28]
	spec.payload = bytes.Clone(c)
	b = spec.super(t)
	Complete(b)
	if got := b.Bytes()[26:28]; got[0] != 0xff || got[1] != 0xff {
		t.Fatalf("checksum %x, want ffff", got)
	}
	if b.Flags&NeedsCsum != 0 {
		t.Fatal("still partial")
	}
}

func TestSegmenterDoesNotAllocate(t *testing.T) {
	spec := superSpec{gso: 1000, payload: make([]byte, 20500), ttl: 64}
	b, dst := spec.super(t), NewBuffer()
	var seg Segmenter
	if n := testing.AllocsPerRun(100, func() {
		seg.Start(b)
		for seg.Next(dst) {
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkSegmenter(b *testing.B) {
	spec := superSpec{gso: 1448, payload: make([]byte, 60000), ttl: 64}
	src, dst := spec.super(b), NewBuffer()
	var seg Segmenter
	b.SetBytes(60000)
	for b.Loop() {
		seg.Start(src)
		for seg.Next(dst) {
		}
	}
}
