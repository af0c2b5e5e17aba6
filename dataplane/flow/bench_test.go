// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkFind finds flows in random order, as a cache meets them that holds none of a large table. The cost of making
// the key is in the figures.
func BenchmarkFind(b *testing.B) {
	for _, flows := range []int{1_000, 100_000, 1_000_000} {
		table := filledTable(b, flows)
		r := rand.New(rand.NewPCG(1, 2))
		keys := make([]Key, 1<<16)
		for i := range keys {
			out, reply := flowKeys(r.Uint32N(uint32(flows)))
			keys[i] = out
			if i&1 != 0 {
				keys[i] = reply
			}
		}
		b.Run(fmt.Sprintf("hit/%d", flows), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, _, ok := table.Find(&keys[i&(len(keys)-1)]); !ok {
					b.Fatal("lost a flow")
				}
			}
		})
		b.Run(fmt.Sprintf("batch/%d", flows), func(b *testing.B) { benchmarkBatch(b, table, keys) })
		b.Run(fmt.Sprintf("miss/%d", flows), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				k := &keys[i&(len(keys)-1)]
				k.ENI |= 0x8000
				if _, _, ok := table.Find(k); ok {
					b.Fatal("found a flow that is not there")
				}
			}
		})
	}
}

// benchmarkBatch is what a turn does: hash and Touch all keys of a batch, then find them, so that misses of the cache
// overlap. A figure is for one key.
func benchmarkBatch(b *testing.B, table *Table, keys []Key) {
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
			if _, _, ok := table.FindHash(&some[j], hashes[j]); !ok {
				b.Fatal("lost a flow")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/key")
	_ = sink
}

// BenchmarkOpenClose closes the oldest flow and opens a new one, in a table that is full but for one.
func BenchmarkOpenClose(b *testing.B) {
	for _, flows := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			table := filledTable(b, flows)
			for i := uint32(0); b.Loop(); i++ {
				oldest, _ := flowKeys(i)
				h, _, _ := table.Find(&oldest)
				table.Close(h)
				out, reply := flowKeys(i + uint32(flows))
				if _, ok := table.Open(&out, &reply); !ok {
					b.Fatal("no room")
				}
			}
		})
	}
}

// BenchmarkSweep visits flows that have nothing to expire. A figure is for one entry.
func BenchmarkSweep(b *testing.B) {
	const step = 64
	table := filledTable(b, 1_000_000)
	expired := 0
	visit := func(_ Handle, e *Entry) {
		if Expired(1, e.Seen, 350_000) {
			expired++
		}
	}
	for b.Loop() {
		table.Sweep(step, visit)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/step, "ns/entry")
}

func BenchmarkLeaseRelease(b *testing.B) {
	p := NewPorts(0, 2)
	pairs := make([]Pair, 100)
	for i := range pairs {
		pairs[i] = Pair{Node: 1, Target: mapped(0x0a000000 + uint32(i)), TargetPort: 443}
	}
	i, now := 0, uint32(0)
	for b.Loop() {
		now += 100
		port, ok := p.Lease(pairs[i], now)
		if !ok {
			b.Fatal("no port")
		}
		p.Release(pairs[i], port, now)
		if i++; i == len(pairs) {
			i = 0
		}
	}
}
