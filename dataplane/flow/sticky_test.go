// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestControlledStickyHashes says which keys chosenHash lets a test place: those with nothing in the lower eight bytes of
// A and the upper eight of B. They hash to the upper eight bytes of A, with ports, scope and what else there is by XOR.
func TestControlledStickyHashes(t *testing.T) {
	k := StickyKey{A: [16]byte{1, 2, 3, 4, 5, 6, 7, 8}, B: [16]byte{8: 9}, APort: 0x10, Scope: 0x20}
	if h := sameHash.HashSticky(&k); h != 0 {
		t.Errorf("sameHash: %#x", h)
	}
	if h := chosenHash.HashSticky(&k); h != 0x0807062504030211 {
		t.Errorf("chosenHash: %#x", h)
	}
}

// stickyTwin is a StickyTable as one would write it without a thought for speed.
type stickyTwin struct {
	limit, highWater int
	flows            map[Handle]StickyKey
	cookies          map[Handle][]uint32 // all that an entry was given, the newest last
}

func (w *stickyTwin) find(k StickyKey) (Handle, bool) {
	for h, key := range w.flows {
		if key == k {
			return h, true
		}
	}
	return 0, false
}

// drawStickyKey makes keys that are often equal, and whose hashes under chosenHash collide, are neighbours, and wrap.
func drawStickyKey(t *rapid.T) StickyKey {
	hash := rapid.SampledFrom([]uint64{0, 1, 1 << 32, 1 << 62, 3 << 62, 0xfffffffe << 32, 0xffffffff << 32}).Draw(t, "hash")
	k := StickyKey{B: [16]byte{15: rapid.ByteRange(0, 1).Draw(t, "b")}, APort: rapid.Uint16Range(0, 1).Draw(t, "port")}
	binary.LittleEndian.PutUint64(k.A[:], hash)
	return k
}

// given notes the cookie that a flow has been given, and checks that it is one that no flow has, nor had of late.
func (w *stickyTwin) given(t *rapid.T, table *StickyTable, h Handle) {
	cookie := table.At(h).Cookie
	for other, cookies := range w.cookies {
		if other == h {
			cookies = cookies[max(0, len(cookies)-generations+2):]
		}
		if cookie == 0 || slices.Contains(cookies, cookie) {
			t.Fatalf("flow %d is given cookie %#x, which flow %d has or had", h, cookie, other)
		}
	}
	w.cookies[h] = append(w.cookies[h], cookie)
}

// check compares a table with its twin in everything that can be asked.
func (w *stickyTwin) check(t *rapid.T, table *StickyTable) {
	checkFlows(t, table, w.flows, w.limit, w.highWater)
	if used := usedSlots(table.index); used != len(w.flows) {
		t.Fatalf("%d slots are used by %d flows", used, len(w.flows))
	}
	for h, key := range w.flows {
		if got, ok := table.Find(&key, table.Hash(&key)); got != h || !ok {
			t.Fatalf("Find(%v) = %d, %v, want %d, true", key, got, ok, h)
		}
	}
	for h, cookies := range w.cookies {
		newest := cookies[len(cookies)-1]
		for _, cookie := range cookies {
			_, want := w.flows[h]
			want = want && cookie == newest
			if got, ok := table.ByCookie(cookie); ok != want || ok && got != h {
				t.Fatalf("ByCookie(%#x) = %d, %v, want %d, %v", cookie, got, ok, h, want)
			}
			if got := table.CookieWorker(cookie); got != int(table.worker) {
				t.Fatalf("CookieWorker(%#x) = %d, want %d", cookie, got, table.worker)
			}
		}
	}
}

// stickyProperty runs random operations on a table and its twin.
func stickyProperty(t *rapid.T) {
	key := rapid.SampledFrom([]HashKey{sameHash, chosenHash, testKey()}).Draw(t, "hash")
	w := &stickyTwin{limit: rapid.IntRange(0, 9).Draw(t, "limit"), flows: map[Handle]StickyKey{}, cookies: map[Handle][]uint32{}}
	table := NewSticky(w.limit, key, rapid.IntRange(0, MaxStickyWorkers-1).Draw(t, "worker"))
	handle := func(t *rapid.T) Handle { return Handle(rapid.IntRange(0, 12).Draw(t, "handle")) }
	t.Repeat(map[string]func(*rapid.T){
		"open": func(t *rapid.T) {
			k := drawStickyKey(t)
			_, have := w.find(k)
			h, ok := table.Open(&k, table.Hash(&k))
			if want := !have && len(w.flows) < w.limit; ok != want {
				t.Fatalf("Open(%v) = %v, want %v", k, ok, want)
			}
			if !ok {
				return
			}
			if _, taken := w.flows[h]; taken {
				t.Fatalf("Open gave entry %d, which is in use", h)
			}
			e := table.At(h)
			if want := (StickyEntry{Key: k, Cookie: e.Cookie, State: Opening, generation: e.generation}); *e != want {
				t.Fatalf("new entry %+v, want %+v", *e, want)
			}
			w.flows[h] = k
			w.highWater = max(w.highWater, len(w.flows))
			w.given(t, table, h)
			// What a worker then writes must not matter to the table.
			e.State, e.Seen, e.ISN[0], e.Flags, e.Target.Gen, e.Bytes[1] = Established, 7, 8, 255, 9, 10
		},
		"close": func(t *rapid.T) {
			h := handle(t)
			table.Close(h)
			delete(w.flows, h)
		},
		"renew": func(t *rapid.T) {
			h := handle(t)
			table.Renew(h)
			if _, ok := w.flows[h]; ok {
				w.given(t, table, h)
			}
		},
		"find": func(t *rapid.T) {
			k := drawStickyKey(t)
			h, ok := w.find(k)
			table.Touch(table.Hash(&k))
			if gotH, gotOK := table.Find(&k, table.Hash(&k)); gotH != h || gotOK != ok {
				t.Fatalf("Find(%v) = %d, %v, want %d, %v", k, gotH, gotOK, h, ok)
			}
		},
		"forge": func(t *rapid.T) {
			cookie := rapid.Uint32().Draw(t, "cookie")
			if h, ok := table.ByCookie(cookie); ok && table.At(h).Cookie != cookie {
				t.Fatalf("ByCookie(%#x) finds %d, which has %#x", cookie, h, table.At(h).Cookie)
			}
		},
		"sweep": func(t *rapid.T) {
			table.Sweep(rapid.IntRange(0, 3).Draw(t, "n"), func(h Handle, e *StickyEntry) {
				if e.Key.A[0]&1 != 0 || e.Key.APort == 0 {
					table.Close(h)
					delete(w.flows, h)
				}
			})
		},
		"walk": func(t *rapid.T) { checkWalk(t, table, w.flows) },
		"":     func(t *rapid.T) { w.check(t, table) },
	})
}

func TestStickyMatchesTwin(t *testing.T) { rapid.Check(t, stickyProperty) }

func FuzzSticky(f *testing.F) { f.Fuzz(rapid.MakeFuzz(stickyProperty)) }

// stickyFlow is the key of the i-th of many flows that look like traffic, from one of its ends.
func stickyFlow(i uint32, back bool) StickyKey {
	h := header{
		proto: protoTCP, src: mapped(0x0a000000 + i/64), dst: mapped(0x0a800000 + i%20),
		sport: uint16(32768 + i%64), dport: 443,
	}
	if back {
		h = h.back()
	}
	k, _ := h.key()
	return k
}

func filledSticky(t testing.TB, flows int) *StickyTable {
	table := NewSticky(flows, testKey(), 1)
	for i := range uint32(flows) {
		k := stickyFlow(i, false)
		if h, ok := table.Open(&k, table.Hash(&k)); !ok || h != i {
			t.Fatalf("flow %d: entry %d, %v", i, h, ok)
		}
	}
	return table
}

// TestFullSticky fills a table of realistic size to the last entry, finds all flows by both ends and by cookie, and
// empties it.
func TestFullSticky(t *testing.T) {
	const flows = 100_000
	table := filledSticky(t, flows)
	k := stickyFlow(flows, false)
	if _, ok := table.Open(&k, table.Hash(&k)); ok {
		t.Error("a full table opened a flow")
	}
	checkSearches(t, table.index)
	seen := map[uint32]bool{}
	for i := range uint32(flows) {
		k := stickyFlow(i, true)
		h, ok := table.Find(&k, table.Hash(&k))
		byCookie, known := table.ByCookie(table.At(i).Cookie)
		if h != i || !ok || byCookie != i || !known || seen[table.At(i).Cookie] {
			t.Fatalf("flow %d: found as %d, %v, by cookie as %d, %v", i, h, ok, byCookie, known)
		}
		seen[table.At(i).Cookie] = true
	}
	for h := range Handle(flows) {
		table.Close(h)
	}
	if table.Len() != 0 || usedSlots(table.index) != 0 {
		t.Errorf("%d flows are left after all were closed, or slots of the index are", table.Len())
	}
}

// TestStickyWorkersAgree gives two workers of one key each other's cookies.
func TestStickyWorkersAgree(t *testing.T) {
	tables := []*StickyTable{NewSticky(10, testKey(), 0), NewSticky(10, testKey(), 63)}
	for i := range uint32(10) {
		k := stickyFlow(i, false)
		for n, table := range tables {
			other := tables[1-n]
			h, _ := table.Open(&k, table.Hash(&k))
			cookie := table.At(h).Cookie
			if table.CookieWorker(cookie) != n*63 || other.CookieWorker(cookie) != n*63 {
				t.Errorf("cookie %#x of worker %d is taken for one of %d", cookie, n*63, other.CookieWorker(cookie))
			}
			if got, ok := other.ByCookie(cookie); ok {
				t.Errorf("cookie %#x of worker %d finds flow %d of the other", cookie, n*63, got)
			}
		}
	}
}

// TestStickyLimit makes a table as large as a cookie can name, and does not fill it.
func TestStickyLimit(t *testing.T) {
	if got := NewSticky(MaxStickyFlows+1, testKey(), 0).Max(); got != MaxStickyFlows {
		t.Errorf("Max = %d, want %d", got, MaxStickyFlows)
	}
	if got := NewSticky(-1, testKey(), 0).Max(); got != 0 {
		t.Errorf("Max = %d, want 0", got)
	}
}

func TestStickyDoesNotAllocate(t *testing.T) {
	table := filledSticky(t, 1000)
	visit := func(Handle, *StickyEntry) {}
	check := func(name string, f func()) {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	check("Find", func() {
		k := stickyFlow(500, true)
		table.Find(&k, table.Hash(&k))
	})
	check("ByCookie and Renew", func() {
		h, _ := table.ByCookie(table.At(500).Cookie)
		table.Renew(h)
	})
	check("Close and Open", func() {
		k := stickyFlow(500, false)
		hash := table.Hash(&k)
		h, _ := table.Find(&k, hash)
		table.Close(h)
		table.Open(&k, hash)
	})
	check("Sweep", func() { table.Sweep(10, visit) })
	check("Walk", func() { table.Walk(0, 10, visit) })
}
