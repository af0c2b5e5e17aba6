// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import "iter"

// ordered is a key that can be compared with another one: negative when it comes before it.
type ordered[K any] interface{ compare(K) int }

// tree is a sorted map that never changes: put and remove give another one, which shares all but a path with it. A copy
// of the struct is therefore a snapshot, and going back is an assignment. The zero tree is empty.
type tree[K ordered[K], V any] struct{ root *node[K, V] }

// node is a node of an AVL tree: the heights of its subtrees differ by at most one.
type node[K ordered[K], V any] struct {
	key         K
	value       V
	left, right *node[K, V]
	height      int32
	size        int32 // of the subtree, for rank
}

func (n *node[K, V]) high() int32 {
	if n == nil {
		return 0
	}
	return n.height
}

func (n *node[K, V]) count() int32 {
	if n == nil {
		return 0
	}
	return n.size
}

// join makes a node of a key between two subtrees whose heights differ by at most two.
func join[K ordered[K], V any](k K, v V, left, right *node[K, V]) *node[K, V] {
	switch {
	case left.high() > right.high()+1:
		if left.left.high() >= left.right.high() {
			return link(left.key, left.value, left.left, link(k, v, left.right, right))
		}
		m := left.right
		return link(m.key, m.value, link(left.key, left.value, left.left, m.left), link(k, v, m.right, right))
	case right.high() > left.high()+1:
		if right.right.high() >= right.left.high() {
			return link(right.key, right.value, link(k, v, left, right.left), right.right)
		}
		m := right.left
		return link(m.key, m.value, link(k, v, left, m.left), link(right.key, right.value, m.right, right.right))
	}
	return link(k, v, left, right)
}

// link is join of subtrees that are in balance.
func link[K ordered[K], V any](k K, v V, left, right *node[K, V]) *node[K, V] {
	return &node[K, V]{
		key: k, value: v, left: left, right: right,
		height: max(left.high(), right.high()) + 1, size: left.count() + right.count() + 1,
	}
}

func (t tree[K, V]) len() int { return int(t.root.count()) }

func (t tree[K, V]) get(k K) (v V, ok bool) {
	for n := t.root; n != nil; {
		switch c := k.compare(n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	return v, false
}

// put is the tree with k leading to v.
func (t tree[K, V]) put(k K, v V) tree[K, V] { return tree[K, V]{insert(t.root, k, v)} }

func insert[K ordered[K], V any](n *node[K, V], k K, v V) *node[K, V] {
	if n == nil {
		return link(k, v, nil, nil)
	}
	switch c := k.compare(n.key); {
	case c < 0:
		return join(n.key, n.value, insert(n.left, k, v), n.right)
	case c > 0:
		return join(n.key, n.value, n.left, insert(n.right, k, v))
	}
	return link(k, v, n.left, n.right)
}

// remove is the tree without k.
func (t tree[K, V]) remove(k K) tree[K, V] { return tree[K, V]{without(t.root, k)} }

func without[K ordered[K], V any](n *node[K, V], k K) *node[K, V] {
	if n == nil {
		return nil
	}
	switch c := k.compare(n.key); {
	case c < 0:
		return join(n.key, n.value, without(n.left, k), n.right)
	case c > 0:
		return join(n.key, n.value, n.left, without(n.right, k))
	case n.left == nil:
		return n.right
	case n.right == nil:
		return n.left
	}
	next := n.right
	for next.left != nil {
		next = next.left
	}
	return join(next.key, next.value, n.left, without(n.right, next.key))
}

// rank is how many keys come before k.
func (t tree[K, V]) rank(k K) int {
	r := int32(0)
	for n := t.root; n != nil; {
		if n.key.compare(k) < 0 {
			r += n.left.count() + 1
			n = n.right
		} else {
			n = n.left
		}
	}
	return int(r)
}

// from goes through the keys from k on, in order.
func (t tree[K, V]) from(k K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { ascend(t.root, k, yield) }
}

func ascend[K ordered[K], V any](n *node[K, V], k K, yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if n.key.compare(k) < 0 {
		return ascend(n.right, k, yield)
	}
	return ascend(n.left, k, yield) && yield(n.key, n.value) && each(n.right, yield)
}

// all goes through all keys in order.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { each(t.root, yield) }
}

func each[K ordered[K], V any](n *node[K, V], yield func(K, V) bool) bool {
	return n == nil || each(n.left, yield) && yield(n.key, n.value) && each(n.right, yield)
}

// first is the least key.
func (t tree[K, V]) first() (k K, v V, ok bool) {
	n := t.root
	if n == nil {
		return k, v, false
	}
	for n.left != nil {
		n = n.left
	}
	return n.key, n.value, true
}
