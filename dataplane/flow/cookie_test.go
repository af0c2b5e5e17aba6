// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// TestCookiesNameEntries takes cookies apart again, which also says that no two entries or generations share one.
func TestCookiesNameEntries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		c := newCookies(HashKey{r.Uint64(), r.Uint64()})
		worker, h, generation := r.Uint32N(MaxStickyWorkers), r.Uint32N(MaxStickyFlows), uint8(r.UintN(generations))
		cookie := c.cookie(worker, h, generation)
		if c.worker(cookie) != int(worker) || c.handle(cookie) != h || c.unseal(cookie)%generations != uint32(generation) {
			t.Fatalf("%d, %d, %d becomes %#x becomes %d, %d, %d", worker, h, generation,
				cookie, c.worker(cookie), c.handle(cookie), c.unseal(cookie)%generations)
		}
		if other := r.Uint32(); c.seal(c.unseal(other)) != other {
			t.Fatalf("%#x becomes %#x", other, c.seal(c.unseal(other)))
		}
	}
}

// TestCookiesAreStable holds cookies to values that flows in a file may have.
func TestCookiesAreStable(t *testing.T) {
	c := newCookies(testKey())
	for plain, want := range map[uint32]uint32{0: 0xf9da40bc, 1: 0x8a282bb9, 1 << 31: 0x48b2db57} {
		if got := c.seal(plain); got != want {
			t.Errorf("%#x becomes %#08x, want %#08x", plain, got, want)
		}
	}
}

// TestCookiesAreNotSequential flips each bit of what a cookie is made from, and wants about half of its bits to change
// on average.
func TestCookiesAreNotSequential(t *testing.T) {
	const rounds = 4000
	r := rand.New(rand.NewPCG(3, 4))
	for bit := range 32 {
		var changed [32]int
		sum := 0
		for range rounds {
			c := newCookies(HashKey{r.Uint64(), r.Uint64()})
			plain := r.Uint32()
			d := c.seal(plain) ^ c.seal(plain^1<<bit)
			sum += bits.OnesCount32(d)
			for i := range changed {
				changed[i] += int(d >> i & 1)
			}
		}
		if mean := float64(sum) / rounds; mean < 15 || mean > 17 {
			t.Errorf("bit %d changes %.2f bits of the cookie on average", bit, mean)
		}
		for i, n := range changed {
			if n < rounds*40/100 || n > rounds*60/100 {
				t.Errorf("bit %d changes bit %d of the cookie %d times of %d", bit, i, n, rounds)
			}
		}
	}
}

// TestCookiesDoNotStep counts through generations and through entries, as one flow after another does, and wants the
// steps between cookies to differ.
func TestCookiesDoNotStep(t *testing.T) {
	c := newCookies(testKey())
	for name, step := range map[string]uint32{"generations": 1, "entries": generations} {
		differences := map[uint32]int{}
		for i := range uint32(10_000) {
			d := c.seal((i+1)*step) - c.seal(i*step)
			if differences[d]++; differences[d] > 2 {
				t.Errorf("%s: step %#x is seen again and again", name, d)
			}
		}
	}
}

// TestNoCookieIsZero renews the cookie of an entry that has 0 among its own.
func TestNoCookieIsZero(t *testing.T) {
	var key HashKey
	var c cookies
	for c = newCookies(key); c.handle(0) > 100; c = newCookies(key) {
		key[0]++
	}
	table := NewSticky(101, key, c.worker(0))
	k := StickyKey{}
	for h := range c.handle(0) + 1 {
		k.Scope = uint16(h)
		table.Open(&k, table.Hash(&k))
	}
	h := table.high - 1
	seen := map[uint32]bool{}
	for range 2 * generations {
		e := table.At(h)
		if got, ok := table.ByCookie(e.Cookie); e.Cookie == 0 || got != h || !ok {
			t.Fatalf("ByCookie(%#x) = %d, %v, want %d", e.Cookie, got, ok, h)
		}
		seen[e.Cookie] = true
		table.Renew(h)
	}
	if len(seen) != generations-1 {
		t.Errorf("%d cookies, want %d", len(seen), generations-1)
	}
	if got, ok := table.ByCookie(0); ok {
		t.Errorf("0 is the cookie of %d", got)
	}
}

// TestCookiesReturnAfterGenerations closes and reopens a flow, and renews it in between.
func TestCookiesReturnAfterGenerations(t *testing.T) {
	table := NewSticky(1, testKey(), 5)
	k := StickyKey{}
	hash := table.Hash(&k)
	h, _ := table.Open(&k, hash)
	first := table.At(h).Cookie
	for i := 1; ; i++ {
		if i%3 == 0 {
			table.Close(h)
			if _, ok := table.ByCookie(first); ok {
				t.Fatalf("a closed flow has a cookie after %d others", i)
			}
			table.Open(&k, hash)
		} else {
			table.Renew(h)
		}
		if table.At(h).Cookie == first {
			if i != generations {
				t.Errorf("the first cookie is back as number %d, want %d", i, generations)
			}
			return
		}
		if _, ok := table.ByCookie(first); ok {
			t.Fatalf("the first cookie is found after %d others", i)
		}
		if w := table.CookieWorker(table.At(h).Cookie); w != 5 {
			t.Fatalf("CookieWorker = %d, want 5", w)
		}
	}
}
