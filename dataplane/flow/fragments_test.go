// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// fragmentTwin is an entry of Fragments in a list with the oldest first.
type fragmentTwin struct {
	key   FragmentKey
	first FirstFragment
	at    uint32
	gone  bool // its place is taken until its time is over, or others need it
}

// drawFragmentKey makes keys that are often equal, and whose hashes under chosenHash collide, are neighbours, and wrap.
func drawFragmentKey(t *rapid.T) FragmentKey {
	hash := rapid.SampledFrom([]uint64{0, 1 << 62, 0xfffffffe << 32, 0xffffffff << 32}).Draw(t, "hash")
	k := FragmentKey{Dst: [16]byte{15: rapid.ByteRange(0, 1).Draw(t, "dst")}, ID: rapid.Uint32Range(0, 1).Draw(t, "id")}
	binary.LittleEndian.PutUint64(k.Src[:], hash)
	return k
}

// fragmentsProperty runs random operations on a table and a list.
func fragmentsProperty(t *rapid.T) {
	key := rapid.SampledFrom([]HashKey{sameHash, chosenHash, testKey()}).Draw(t, "hash")
	limit := rapid.IntRange(1, 6).Draw(t, "limit")
	f := NewFragments(limit, key)
	var list []fragmentTwin
	now := uint32(math.MaxUint32 - 50_000)
	expire := func() {
		for len(list) > 0 && (list[0].gone || now-list[0].at >= FragmentTime) {
			list = list[1:]
		}
	}
	find := func(k FragmentKey) int {
		return slices.IndexFunc(list, func(e fragmentTwin) bool { return e.key == k && !e.gone })
	}
	t.Repeat(map[string]func(*rapid.T){
		"remember": func(t *rapid.T) {
			e := fragmentTwin{key: drawFragmentKey(t), first: FirstFragment{SrcPort: rapid.Uint16().Draw(t, "port")}, at: now}
			f.Remember(&e.key, e.first, now)
			expire()
			if i := find(e.key); i >= 0 {
				list[i].gone = true
			}
			if len(list) == limit {
				list = list[1:]
			}
			list = append(list, e)
		},
		"lookup": func(t *rapid.T) {
			k := drawFragmentKey(t)
			expire()
			var want FirstFragment
			i := find(k)
			if i >= 0 {
				want = list[i].first
			}
			if got, ok := f.Lookup(&k, now); ok != (i >= 0) || got != want {
				t.Fatalf("Lookup(%v) = %v, %v, want %v, %v", k, got, ok, want, i >= 0)
			}
		},
		"pass":   func(t *rapid.T) { now += rapid.SampledFrom([]uint32{1, 10_000, FragmentTime}).Draw(t, "time") },
		"expire": func(t *rapid.T) { f.Expire(now); expire() },
		"": func(t *rapid.T) {
			live := 0
			for _, e := range list {
				if !e.gone {
					live++
				}
			}
			if used := usedSlots(f.index); f.len != len(list) || used != live {
				t.Fatalf("%d entries and %d slots, want %d and %d", f.len, used, len(list), live)
			}
		},
	})
}

func TestFragmentsMatchTwin(t *testing.T) { rapid.Check(t, fragmentsProperty) }

func FuzzFragments(f *testing.F) { f.Fuzz(rapid.MakeFuzz(fragmentsProperty)) }

func fragmentKey(i uint32) FragmentKey {
	return FragmentKey{Src: mapped(0x0a000001), Dst: mapped(0x0a000002), ID: i & 0xffff, Scope: 3, Proto: protoUDP}
}

// TestFragmentsOfManyPackets sends more packets than there is room for, in less time than they are remembered.
func TestFragmentsOfManyPackets(t *testing.T) {
	const room, packets = 1024, 5000
	f := NewFragments(room, testKey())
	for i := range uint32(packets) {
		k := fragmentKey(i)
		f.Remember(&k, FirstFragment{SrcPort: uint16(i), DstPort: 53, Proto: protoUDP}, i)
	}
	for i := range uint32(packets) {
		k := fragmentKey(i)
		got, ok := f.Lookup(&k, packets)
		if ok != (i >= packets-room) || ok && got.SrcPort != uint16(i) {
			t.Fatalf("packet %d: %v, %v", i, got, ok)
		}
		k.Scope++ // another VPC
		if _, ok := f.Lookup(&k, packets); ok {
			t.Fatalf("packet %d is found under another scope", i)
		}
	}
	f.Expire(packets + FragmentTime)
	if f.len != 0 || usedSlots(f.index) != 0 {
		t.Errorf("%d entries are left after all have expired, or slots of the index are", f.len)
	}
}

// TestFragmentsExpire looks at the moment when a packet is forgotten, over the wrap of engine time.
func TestFragmentsExpire(t *testing.T) {
	const start = math.MaxUint32 - 10
	f := NewFragments(4, testKey())
	k, first, now := fragmentKey(1), FirstFragment{SrcPort: 1}, uint32(start)
	f.Remember(&k, first, now)
	if got, ok := f.Lookup(&k, now+FragmentTime-1); got != first || !ok {
		t.Errorf("a packet is forgotten a millisecond early")
	}
	if _, ok := f.Lookup(&k, now+FragmentTime); ok {
		t.Errorf("a packet is not forgotten in time")
	}
}

func TestFragmentsDoNotAllocate(t *testing.T) {
	f := NewFragments(16, testKey())
	i := uint32(0)
	if n := testing.AllocsPerRun(100, func() {
		i++
		k := fragmentKey(i)
		f.Remember(&k, FirstFragment{}, i)
		f.Lookup(&k, i)
		f.Expire(i)
	}); n != 0 {
		t.Errorf("Fragments allocates %v times", n)
	}
}
