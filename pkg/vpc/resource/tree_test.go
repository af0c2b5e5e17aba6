// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type number32 int32

func (n number32) compare(m number32) int { return int(n) - int(m) }

// balanced checks heights, sizes and order below a node.
func balanced(t *rapid.T, n *node[number32, int]) (height, size int32) {
	if n == nil {
		return 0, 0
	}
	lh, ls := balanced(t, n.left)
	rh, rs := balanced(t, n.right)
	if lh-rh > 1 || rh-lh > 1 || n.height != max(lh, rh)+1 || n.size != ls+rs+1 {
		t.Fatalf("node %d: height %d of %d and %d, size %d of %d and %d", n.key, n.height, lh, rh, n.size, ls, rs)
	}
	return n.height, n.size
}

// TestTree compares a tree with a map, and each of its earlier selves with the copy of the map that was made then.
func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tree[number32, int]
		twin := map[number32]int{}
		type version struct {
			tree tree[number32, int]
			twin map[number32]int
		}
		var versions []version
		for i := range rapid.IntRange(0, 200).Draw(t, "steps") {
			k := number32(rapid.IntRange(0, 60).Draw(t, "key"))
			if rapid.IntRange(0, 2).Draw(t, "op") == 0 {
				tr = tr.remove(k)
				delete(twin, k)
			} else {
				tr = tr.put(k, i)
				twin[k] = i
			}
			balanced(t, tr.root)
			if i%16 == 0 {
				versions = append(versions, version{tr, maps.Clone(twin)})
			}
		}
		for _, v := range append(versions, version{tr, twin}) {
			compareTree(t, v.tree, v.twin)
		}
	})
}

func compareTree(t *rapid.T, tr tree[number32, int], twin map[number32]int) {
	sorted := slices.Sorted(maps.Keys(twin))
	if tr.len() != len(twin) {
		t.Fatalf("%d keys, want %d", tr.len(), len(twin))
	}
	var keys []number32
	for k, v := range tr.all() {
		keys = append(keys, k)
		if got, ok := tr.get(k); v != twin[k] || !ok || got != v {
			t.Fatalf("key %d has %d, want %d", k, v, twin[k])
		}
	}
	if !slices.Equal(keys, sorted) {
		t.Fatalf("keys %v, want %v", keys, sorted)
	}
	if k, _, ok := tr.first(); ok != (len(sorted) > 0) || ok && k != sorted[0] {
		t.Fatalf("first is %d", k)
	}
	for k := number32(-1); k < 62; k++ {
		i, found := slices.BinarySearch(sorted, k)
		if _, ok := tr.get(k); ok != found || tr.rank(k) != i {
			t.Fatalf("key %d: found %v, rank %d, want %v and %d", k, ok, tr.rank(k), found, i)
		}
		var rest []number32
		for l := range tr.from(k) {
			if rest = append(rest, l); len(rest) == 3 {
				break
			}
		}
		if want := sorted[i:min(i+3, len(sorted))]; !slices.Equal(rest, want) {
			t.Fatalf("from %d: %v, want %v", k, rest, want)
		}
	}
}
