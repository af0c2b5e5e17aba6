// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func testKey() [16]byte { return [16]byte([]byte("0123456789abcdef")) }

// testNames are n backends of one network.
func testNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("10.0.%d.%d:443", i/250, 1+i%250)
	}
	return names
}

// owners are the names in the entries of a table of these names, which compare across tables of different backends.
func (t *Table) owners(names []string) []string {
	owners := make([]string, len(t.entries))
	for i, n := range t.entries {
		owners[i] = names[n]
	}
	return owners
}

// slowTable is the table of the paper's pseudocode (Maglev, section 3.4): permutations in full, then turns.
func slowTable(key [16]byte, names []string, size int) []string {
	sorted := slices.Sorted(slices.Values(names))
	permutations := make([][]int, len(sorted))
	for i, p := range preferences(key, sorted, size) {
		for j := range size {
			permutations[i] = append(permutations[i], (int(p.next)+j*int(p.skip))%size)
		}
	}
	entries, next := make([]string, size), make([]int, len(sorted))
	for n := 0; n < size; {
		for i := range sorted {
			for entries[permutations[i][next[i]]] != "" {
				next[i]++
			}
			entries[permutations[i][next[i]]] = sorted[i]
			if n++; n == size {
				break
			}
		}
	}
	return entries
}

// balanceProperty checks tables of random backends against the paper's pseudocode and against themselves in another
// order.
func balanceProperty(t *rapid.T) {
	names := rapid.SliceOfNDistinct(rapid.StringN(1, 8, -1), 0, 30, rapid.ID).Draw(t, "names")
	key := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
	size := rapid.SampledFrom([]int{2, 3, 31, 251, 1009}).Draw(t, "size")
	table := Build(key, names, size)
	if table.Len() != len(names) {
		t.Fatalf("Len = %d, want %d", table.Len(), len(names))
	}
	if len(names) == 0 {
		if table.Size() != 0 || table.Pick(1<<63) != -1 {
			t.Fatalf("an empty table has %d entries and picks %d", table.Size(), table.Pick(1<<63))
		}
		return
	}
	owners := table.owners(names)
	if want := slowTable(key, names, size); !slices.Equal(owners, want) {
		t.Fatalf("table of %q is %q, want %q", names, owners, want)
	}
	shuffled := rapid.Permutation(names).Draw(t, "shuffled")
	if !slices.Equal(Build(key, shuffled, size).owners(shuffled), owners) {
		t.Fatalf("%q and %q give different tables", names, shuffled)
	}
	counts := make([]int, len(names))
	for _, n := range table.entries {
		counts[n]++
	}
	// Turns give everyone the same number of entries, or one more.
	if slices.Max(counts)-slices.Min(counts) > 1 {
		t.Fatalf("shares are uneven: %v", counts)
	}
}

func TestTableMatchesPaper(t *testing.T) { rapid.Check(t, balanceProperty) }

func FuzzTable(f *testing.F) { f.Fuzz(rapid.MakeFuzz(balanceProperty)) }

// TestTableIsStable holds tables to what earlier releases built.
func TestTableIsStable(t *testing.T) {
	for _, c := range []struct {
		backends int
		want     uint64
	}{
		{1, 0xb103efe9f72b196d},
		{3, 0x7d606f43a1dd605d},
		{300, 0x71147fde67d4460d},
	} {
		h := fnv.New64a()
		for _, n := range Build(testKey(), testNames(c.backends), TableSize(c.backends)).entries {
			h.Write([]byte{byte(n), byte(n >> 8)})
		}
		if got := h.Sum64(); got != c.want {
			t.Errorf("table of %d backends: digest %#016x, want %#016x", c.backends, got, c.want)
		}
	}
}

// TestDisruption removes each of some backends, which read the other way is adding it, and counts the entries that
// change hands between others. The bound is generous over what the paper reports for tables of such length.
func TestDisruption(t *testing.T) {
	for _, n := range []int{2, 3, 10, 40, 160, 655} {
		names, size := testNames(n), TableSize(n)
		before := Build(testKey(), names, size).owners(names)
		worst := 0.0
		for gone := 0; gone < n; gone += max(1, n/5) {
			left := slices.Delete(slices.Clone(names), gone, gone+1)
			after := Build(testKey(), left, size).owners(left)
			moved := 0
			for i := range before {
				if before[i] != names[gone] && before[i] != after[i] {
					moved++
				}
			}
			worst = max(worst, float64(moved)/float64(size))
		}
		t.Logf("%d backends in %d entries: at most %.2f %% move needlessly", n, size, 100*worst)
		if worst > 0.03 {
			t.Errorf("%d backends in %d entries: %.2f %% move needlessly, want at most 3 %%", n, size, 100*worst)
		}
	}
}

// TestPickIsUniform picks with random hashes. Each backend is picked 10,000 times on average, with a standard deviation
// of 100.
func TestPickIsUniform(t *testing.T) {
	const backends, each = 20, 10_000
	r := rand.New(rand.NewPCG(1, 2))
	table := Build(testKey(), testNames(backends), TableSize(backends))
	var counts [backends]int
	for range backends * each {
		counts[table.Pick(r.Uint64())]++
	}
	for n, count := range counts {
		if count < each*95/100 || count > each*105/100 {
			t.Errorf("backend %d is picked %d times, want about %d", n, count, each)
		}
	}
}

func TestPickReachesBothEnds(t *testing.T) {
	table := Build(testKey(), testNames(3), 31)
	if got, want := table.Pick(0), int(table.entries[0]); got != want {
		t.Errorf("Pick(0) = %d, want %d", got, want)
	}
	if got, want := table.Pick(1<<64-1), int(table.entries[30]); got != want {
		t.Errorf("Pick(2^64-1) = %d, want %d", got, want)
	}
}

func TestKeyMatters(t *testing.T) {
	names := testNames(10)
	if slices.Equal(Build([16]byte{1}, names, 1009).entries, Build([16]byte{2}, names, 1009).entries) {
		t.Error("two keys give the same table")
	}
}

func TestEqualNames(t *testing.T) {
	table := Build(testKey(), []string{"b", "a", "a"}, 31)
	counts := make([]int, 3)
	for _, n := range table.entries {
		counts[n]++
	}
	if slices.Min(counts) != 10 || slices.Max(counts) != 11 {
		t.Errorf("shares %v, want 10 or 11 each", counts)
	}
}

func TestTableSize(t *testing.T) {
	for _, size := range sizes {
		if !isPrime(size) {
			t.Errorf("%d is not prime", size)
		}
	}
	for _, c := range []struct{ n, want int }{
		{0, 1009}, {1, 1009}, {10, 1009}, {11, 4099}, {40, 4099}, {41, 16381}, {163, 16381}, {164, 65537},
		{655, 65537}, {656, 262147}, {2621, 262147}, {2622, 1048583}, {10_485, 1048583}, {65_536, 1048583},
	} {
		if got := TableSize(c.n); got != c.want {
			t.Errorf("TableSize(%d) = %d, want %d", c.n, got, c.want)
		}
	}
}

func TestSizesAreRaisedToPrimes(t *testing.T) {
	for _, c := range []struct{ size, want int }{{-1, 2}, {0, 2}, {2, 2}, {4, 5}, {1000, 1009}, {1009, 1009}} {
		if got := Build(testKey(), testNames(3), c.size).Size(); got != c.want {
			t.Errorf("a table of %d has %d entries, want %d", c.size, got, c.want)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 100, 600, 1000} {
		names := testNames(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Build(testKey(), names, TableSize(n))
			}
		})
	}
}

func BenchmarkPick(b *testing.B) {
	table := Build(testKey(), testNames(100), TableSize(100))
	sum := 0
	for hash := uint64(1); b.Loop(); hash *= 0x9e3779b97f4a7c15 {
		sum += table.Pick(hash)
	}
	_ = sum
}
