// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import "container/list"

// lru is a map of bounded size that forgets what has not been asked for the longest.
type lru[K comparable, V any] struct {
	max     int
	byKey   map[K]*list.Element
	order   list.List // of *item[K, V], the one asked for last in front
	onEvict func(K, *V)
}

type item[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](most int, onEvict func(K, *V)) *lru[K, V] {
	return &lru[K, V]{max: most, byKey: map[K]*list.Element{}, onEvict: onEvict}
}

// get is the value of a key, or nil. The value stays where it is until it is evicted.
func (l *lru[K, V]) get(k K) *V {
	e, ok := l.byKey[k]
	if !ok {
		return nil
	}
	l.order.MoveToFront(e)
	return &e.Value.(*item[K, V]).value
}

// add is a new value under a key that get does not know.
func (l *lru[K, V]) add(k K) *V {
	for len(l.byKey) >= l.max {
		l.evict()
	}
	i := &item[K, V]{key: k}
	l.byKey[k] = l.order.PushFront(i)
	return &i.value
}

// evict forgets the value that has not been asked for the longest.
func (l *lru[K, V]) evict() {
	i := l.order.Remove(l.order.Back()).(*item[K, V])
	delete(l.byKey, i.key)
	l.onEvict(i.key, &i.value)
}

// oldest is the value that evict would forget, or nil.
func (l *lru[K, V]) oldest() *V {
	if e := l.order.Back(); e != nil {
		return &e.Value.(*item[K, V]).value
	}
	return nil
}

func (l *lru[K, V]) len() int { return len(l.byKey) }

// each calls f with all, the one asked for last first, until f returns false.
func (l *lru[K, V]) each(f func(K, *V) bool) {
	for e := l.order.Front(); e != nil; e = e.Next() {
		if i := e.Value.(*item[K, V]); !f(i.key, &i.value) {
			return
		}
	}
}
