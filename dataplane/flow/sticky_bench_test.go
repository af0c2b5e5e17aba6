// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkSticky finds flows in random order, see BenchmarkFind: one at a time, in batches, and by cookie.
func BenchmarkSticky(b *testing.B) {
	for _, flows := range []int{1_000, 100_000, 1_000_000} {
		table := filledSticky(b, flows)
		r := rand.New(rand.NewPCG(1, 2))
		keys, cookies := make([]StickyKey, 1<<16), make([]uint32, 1<<16)
		for i := range keys {
			n := r.Uint32N(uint32(flows))
			keys[i] = stickyFlow(n, i&1 != 0)
			cookies[i] = table.At(n).Cookie
		}
		b.Run(fmt.Sprintf("hit/%d", flows), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				k := &keys[i&(len(keys)-1)]
				if _, ok := table.Find(k, table.Hash(k)); !ok {
					b.Fatal("lost a flow")
				}
			}
		})
		b.Run(fmt.Sprintf("batch/%d", flows), func(b *testing.B) { benchmarkStickyBatch(b, table, keys) })
		b.Run(fmt.Sprintf("cookie/%d", flows), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, ok := table.ByCookie(cookies[i&(len(cookies)-1)]); !ok {
					b.Fatal("lost a flow")
				}
			}
		})
	}
}

// benchmarkStickyBatch is what a turn does, see benchmarkBatch. A figure is for one key.
func benchmarkStickyBatch(b *testing.B, table *StickyTable, keys []StickyKey) {
	const batch = 64
	var hashes [batch]uint64
	var sink uint64
	for i := 0; b.Loop(); i += batch {
		some := keys[i&(len(keys)-1):][:batch]
		for j := range some {
			hashes[j] = table.Hash(&some[j])
			sink += table.Touch(hashes[j])
		}
		for j := range some {
			if _, ok := table.Find(&some[j], hashes[j]); !ok {
				b.Fatal("lost a flow")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/key")
	_ = sink
}

// BenchmarkStickyOpenClose closes the oldest flow and opens a new one, in a table that is full but for one.
func BenchmarkStickyOpenClose(b *testing.B) {
	for _, flows := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			table := filledSticky(b, flows)
			for i := uint32(0); b.Loop(); i++ {
				oldest, next := stickyFlow(i, false), stickyFlow(i+uint32(flows), false)
				h, _ := table.Find(&oldest, table.Hash(&oldest))
				table.Close(h)
				if _, ok := table.Open(&next, table.Hash(&next)); !ok {
					b.Fatal("no room")
				}
			}
		})
	}
}

// BenchmarkStickyHash makes and hashes keys that do not wait for each other, as those of a batch.
func BenchmarkStickyHash(b *testing.B) {
	k := testKey()
	src, dst := mapped(0x0a000001), mapped(0x0a000002)
	var sum uint64
	for i := 0; b.Loop(); i++ {
		key, _ := NewStickyKey(FiveTuple, 1, protoTCP, src, dst, uint16(i), 443)
		sum ^= k.HashSticky(&key)
	}
	_ = sum
}

// BenchmarkFragments remembers packets, and looks each up for a second and a third fragment.
func BenchmarkFragments(b *testing.B) {
	f := NewFragments(1024, testKey())
	for i := uint32(0); b.Loop(); i++ {
		k := fragmentKey(i)
		f.Remember(&k, FirstFragment{}, i)
		for range 2 {
			if _, ok := f.Lookup(&k, i); !ok {
				b.Fatal("lost a packet")
			}
		}
	}
}
