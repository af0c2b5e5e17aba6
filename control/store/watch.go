// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
)

// Watcher reads a store's log from a revision on, as fast as its owner asks it to. It holds nothing but its place: it
// costs the store no memory and no writer waits for it, and when it is so slow that the log is gone, it says so.
type Watcher struct {
	core   *core
	prefix string
	after  Revision // Next's alone
	done   chan struct{}
	once   sync.Once
}

func (c *core) Watch(ctx context.Context, prefix string, after Revision) (*Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("watch keys of %q: %w", prefix, err)
	}
	w := &Watcher{core: c, prefix: prefix, after: after, done: make(chan struct{})}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := w.place(); err != nil {
		return nil, err
	}
	return w, nil
}

// place checks that the log goes on where the watcher stands. The caller has locked mu.
func (w *Watcher) place() error {
	s := w.core.state
	switch {
	case w.core.closed:
		return fmt.Errorf("watch keys of %q: store: %w", w.prefix, ErrClosed)
	case w.after < s.compacted:
		return fmt.Errorf("watch keys of %q after revision %d, of a log after %d: list, and watch from there: %w",
			w.prefix, w.after, s.compacted, ErrCompacted)
	case w.after > s.revision:
		return fmt.Errorf("watch keys of %q after revision %d, of %d: list, and watch from there: %w",
			w.prefix, w.after, s.revision, ErrFuture)
	}
	return nil
}

// Next returns the changes of the next transaction that touches the watcher's keys, and waits for one if need be. The
// error is ErrCompacted for good once the log no longer has what comes next, ErrClosed when watcher or store were
// closed, and the context's when that ends; the watcher then stands where it stood. One goroutine at a time may call Next.
func (w *Watcher) Next(ctx context.Context) (Changes, error) {
	for {
		select {
		case <-w.done:
			return Changes{}, fmt.Errorf("watch keys of %q: watcher: %w", w.prefix, ErrClosed)
		default:
		}
		if err := ctx.Err(); err != nil {
			return Changes{}, fmt.Errorf("watch keys of %q: %w", w.prefix, err)
		}
		found, changed, err := w.advance()
		if err != nil || found.Changes != nil {
			return found, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-w.done:
		}
	}
}

// advance goes on to the next transaction that touches the watcher's keys, or to the end of the log; then changed is
// closed as soon as there is more.
func (w *Watcher) advance() (found Changes, changed <-chan struct{}, err error) {
	c := w.core
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := w.place(); err != nil {
		return Changes{}, nil, err
	}
	for w.after < c.state.revision {
		w.after++
		if found := w.pick(c.state.at(w.after)); found.Changes != nil {
			return found, nil, nil
		}
	}
	return Changes{}, c.changed, nil
}

// pick returns the watcher's part of a transaction.
func (w *Watcher) pick(r *record) Changes {
	picked := Changes{Revision: r.revision}
	for _, change := range r.changes {
		if strings.HasPrefix(change.Entry.Key, w.prefix) {
			change.Entry.Value = bytes.Clone(change.Entry.Value)
			picked.Changes = append(picked.Changes, change)
		}
	}
	return picked
}

// Close ends the watcher and wakes a Next that waits. It may be called from any goroutine, and again.
func (w *Watcher) Close() { w.once.Do(func() { close(w.done) }) }
