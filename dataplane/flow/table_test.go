// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Keys of a hash that a test controls. Under sameHash all keys hash to 0. Under chosenHash a key whose upper eight
// bytes of the address are zero hashes to its lower eight, read as a little-endian number.
var (
	sameHash   = HashKey{0, 0}
	chosenHash = HashKey{0, 1}
)

func TestControlledHashes(t *testing.T) {
	k := Key{Remote: [16]byte{1, 2, 3, 4, 5, 6, 7, 8}, RemotePort: 9, LocalPort: 10, ENI: 11}
	if h := sameHash.Hash(&k); h != 0 {
		t.Errorf("sameHash: %#x", h)
	}
	if h := chosenHash.Hash(&k); h != 0x0807060504030201 {
		t.Errorf("chosenHash: %#x", h)
	}
}

// twin is a table as one would write it without a thought for speed.
type twin struct {
	limit, highWater int
	flows            map[Handle][2]Key // keys out and reply
}

func (w *twin) find(k Key) (h Handle, reply, ok bool) {
	for h, keys := range w.flows {
		if i := slices.Index(keys[:], k); i >= 0 {
			return h, i == 1, true
		}
	}
	return 0, false, false
}

// openable says whether a flow may be opened.
func (w *twin) openable(out, reply Key) bool {
	_, _, haveOut := w.find(out)
	_, _, haveReply := w.find(reply)
	return len(w.flows) < w.limit && out != reply && !haveOut && !haveReply
}

// drawKey makes keys that are often equal, and whose hashes under chosenHash collide, are neighbours, and wrap.
func drawKey(t *rapid.T, label string) Key {
	hash := rapid.SampledFrom([]uint64{0, 1, 1 << 32, 1 << 62, 3 << 62, 0xfffffffe << 32, 0xffffffff << 32}).Draw(t, label+"Hash")
	k := Key{
		RemotePort: rapid.Uint16Range(0, 1).Draw(t, label+"RemotePort"),
		LocalPort:  rapid.Uint16Range(0, 1).Draw(t, label+"LocalPort"),
		ENI:        rapid.Uint16Range(0, 1).Draw(t, label+"ENI"),
	}
	binary.LittleEndian.PutUint64(k.Remote[:], hash)
	return k
}

// checkTable compares a table with its twin in everything that can be asked.
func checkTable(t *rapid.T, table *Table, w *twin) {
	checkFlows(t, table, w.flows, w.limit, w.highWater)
	if used := usedSlots(table.index); used != 2*len(w.flows) {
		t.Fatalf("%d slots are used by %d flows", used, len(w.flows))
	}
	for h, keys := range w.flows {
		for i := range keys {
			got, reply, ok := table.Find(&keys[i])
			if got != h || reply != (i == 1) || !ok {
				t.Fatalf("Find(%v) = %d, %v, %v, want %d, %v, true", keys[i], got, reply, ok, h, i == 1)
			}
		}
	}
}

// tableProperty runs random operations on a table and its twin.
func tableProperty(t *rapid.T) {
	key := rapid.SampledFrom([]HashKey{sameHash, chosenHash, testKey()}).Draw(t, "hash")
	w := &twin{limit: rapid.IntRange(0, 9).Draw(t, "limit"), flows: map[Handle][2]Key{}}
	table := NewTable(w.limit, key)
	t.Repeat(map[string]func(*rapid.T){
		"open": func(t *rapid.T) {
			out, reply := drawKey(t, "out"), drawKey(t, "reply")
			want := w.openable(out, reply)
			h, ok := table.Open(&out, &reply)
			if ok != want {
				t.Fatalf("Open(%v, %v) = %v, want %v", out, reply, ok, want)
			}
			if !ok {
				return
			}
			if _, taken := w.flows[h]; taken {
				t.Fatalf("Open gave entry %d, which is in use", h)
			}
			w.flows[h] = [2]Key{out, reply}
			w.highWater = max(w.highWater, len(w.flows))
			if e := *table.At(h); e != wantEntry(out, reply) {
				t.Fatalf("new entry %+v, want %+v", e, wantEntry(out, reply))
			}
			// What a worker then writes must not matter to the table.
			e := table.At(h)
			e.State, e.ISN, e.Flags, e.Endpoint.Gen, e.Node.Gen, e.BytesIn = Established, 7, 255, 8, 9, 10
		},
		"close": func(t *rapid.T) {
			h := Handle(rapid.IntRange(0, 12).Draw(t, "handle"))
			table.Close(h)
			delete(w.flows, h)
		},
		"find": func(t *rapid.T) {
			k := drawKey(t, "key")
			h, reply, ok := w.find(k)
			gotH, gotReply, gotOK := table.FindHash(&k, table.Hash(&k))
			if gotH != h || gotReply != reply || gotOK != ok {
				t.Fatalf("FindHash(%v) = %d, %v, %v, want %d, %v, %v", k, gotH, gotReply, gotOK, h, reply, ok)
			}
			table.Touch(table.Hash(&k))
		},
		"sweep": func(t *rapid.T) {
			table.Sweep(rapid.IntRange(0, 3).Draw(t, "n"), func(h Handle, e *Entry) {
				if e.Client[0]&1 != 0 || e.ClientPort == 0 {
					table.Close(h)
					delete(w.flows, h)
				}
			})
		},
		"walk": func(t *rapid.T) {
			checkWalk(t, table, w.flows)
		},
		"": func(t *rapid.T) { checkTable(t, table, w) },
	})
}

// wantEntry is the entry of a flow just opened.
func wantEntry(out, reply Key) Entry {
	var e Entry
	e.Client, e.ClientPort, e.ListenerPort, e.Endpoint.Slot = out.Remote, out.RemotePort, out.LocalPort, out.ENI
	e.Target, e.TargetPort, e.NATPort, e.Node.Slot = reply.Remote, reply.RemotePort, reply.LocalPort, reply.ENI
	e.State = Opening
	return e
}

func TestTableMatchesTwin(t *testing.T) { rapid.Check(t, tableProperty) }

func FuzzTable(f *testing.F) { f.Fuzz(rapid.MakeFuzz(tableProperty)) }

// flowKeys are the keys of the i-th of many flows that look like traffic.
func flowKeys(i uint32) (out, reply Key) {
	out = Key{Remote: mapped(0x0a000000 + i/64), RemotePort: uint16(32768 + i%64), LocalPort: 443, ENI: 1}
	n := i / 20 // of the connections to one target
	reply = Key{
		Remote: mapped(0x0a800000 + i%20), RemotePort: 8443,
		LocalPort: uint16(NATBase + n%NATCount), ENI: uint16(2 + n/NATCount),
	}
	return out, reply
}

func filledTable(t testing.TB, flows int) *Table {
	table := NewTable(flows, testKey())
	for i := range uint32(flows) {
		out, reply := flowKeys(i)
		if h, ok := table.Open(&out, &reply); !ok || h != i {
			t.Fatalf("flow %d: entry %d, %v", i, h, ok)
		}
	}
	return table
}

// TestFullTable fills a table of realistic size to the last entry, and checks that searches stay short.
func TestFullTable(t *testing.T) {
	const flows = 100_000
	table := filledTable(t, flows)
	out, reply := flowKeys(flows)
	if _, ok := table.Open(&out, &reply); ok {
		t.Error("a full table opened a flow")
	}
	checkSearches(t, table.index)
	for h := range Handle(flows) {
		table.Close(h)
	}
	if table.Len() != 0 || usedSlots(table.index) != 0 {
		t.Errorf("%d flows are left after all were closed, or slots of the index are", table.Len())
	}
}

func TestTableReusesLastClosed(t *testing.T) {
	table := filledTable(t, 4)
	table.Close(1)
	table.Close(3)
	table.Close(3) // closed already
	for i, want := range []Handle{3, 1} {
		out, reply := flowKeys(uint32(100 + i))
		if h, ok := table.Open(&out, &reply); h != want || !ok {
			t.Errorf("Open = %d, %v, want %d", h, ok, want)
		}
	}
}

// TestSweepGoesAround sweeps in steps that do not divide the table.
func TestSweepGoesAround(t *testing.T) {
	table := filledTable(t, 5)
	table.Close(2)
	var seen []Handle
	for range 5 {
		table.Sweep(2, func(h Handle, _ *Entry) { seen = append(seen, h) })
	}
	if want := []Handle{0, 1, 3, 4, 0, 1, 3, 4}; !slices.Equal(seen, want) {
		t.Errorf("visited %v, want %v", seen, want)
	}
}

func TestTableDoesNotAllocate(t *testing.T) {
	table := filledTable(t, 1000)
	out, reply := flowKeys(500)
	visit := func(Handle, *Entry) {}
	check := func(name string, f func()) {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	check("Find", func() { table.Find(&out); table.Find(&reply) })
	check("Close and Open", func() {
		h, _, _ := table.Find(&out)
		table.Close(h)
		table.Open(&out, &reply)
	})
	check("Sweep", func() { table.Sweep(10, visit) })
	check("Walk", func() { table.Walk(0, 10, visit) })
}
