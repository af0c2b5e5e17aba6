// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// core is the Store above whatever journal. Two locks order it: whoever has put a token into turn may evaluate and
// commit drafts, and is the only one to change the state; mu guards the state against readers, for as long as it takes to
// change memory. So the disk holds up writers only.
type core struct {
	options Options
	journal journal

	turn   chan struct{} // one place
	failed error         // why nothing is written any more; guarded by turn

	queue queue

	mu      sync.RWMutex
	state   *state
	changed chan struct{} // closed and replaced whenever there is something new to watch
	closed  bool

	expiry expiry
}

// journal makes drafts durable. Only the goroutine that has the turn calls it.
type journal interface {
	// commit makes a draft durable as a whole, or fails and leaves everything as it was. Only an ErrBroken leaves open
	// which of the two it is; it is the last call then but close.
	commit(*draft) error
	close() error
}

// nowhere is the journal of a store in memory.
type nowhere struct{}

func (nowhere) commit(*draft) error { return nil }
func (nowhere) close() error        { return nil }

// NewMemory returns an empty store that lives as long as the process.
func NewMemory(options Options) Store {
	return newCore(newState(), nowhere{}, options.withDefaults())
}

// newCore returns a store of a state that was read from a journal. Its leases begin now.
func newCore(s *state, j journal, options Options) *core {
	c := &core{
		options: options,
		journal: j,
		turn:    make(chan struct{}, 1),
		state:   s,
		changed: make(chan struct{}),
	}
	now := options.Clock.Now()
	for _, l := range s.leases {
		l.deadline = now.Add(l.ttl)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm(0)
	return c
}

func (c *core) Get(ctx context.Context, key string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, fmt.Errorf("get key %q: %w", key, err)
	}
	c.mu.RLock()
	e, ok := c.state.entries[key]
	closed := c.closed
	c.mu.RUnlock()
	switch {
	case closed:
		return Entry{}, fmt.Errorf("get key %q: store: %w", key, ErrClosed)
	case !ok:
		return Entry{}, fmt.Errorf("get key %q: %w", key, ErrNotFound)
	}
	e.Value = bytes.Clone(e.Value)
	return e, nil
}

func (c *core) List(ctx context.Context, prefix string) ([]Entry, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("list keys of %q: %w", prefix, err)
	}
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return nil, 0, fmt.Errorf("list keys of %q: store: %w", prefix, ErrClosed)
	}
	keys := c.state.under(prefix)
	entries := make([]Entry, len(keys))
	for i, key := range keys {
		entries[i] = c.state.entries[key]
	}
	revision := c.state.revision
	c.mu.RUnlock()
	for i := range entries {
		entries[i].Value = bytes.Clone(entries[i].Value)
	}
	return entries, revision, nil
}

// Close waits for the turn, so that what is being committed is acknowledged; who waits for a turn after it is told
// ErrClosed.
func (c *core) Close() error {
	c.turn <- struct{}{}
	err := c.shut()
	<-c.turn
	c.expiry.pending.Wait()
	return err
}

// shut closes for whoever has the turn.
func (c *core) shut() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.changed)
	c.disarm()
	c.mu.Unlock()

	c.failed = fmt.Errorf("store: %w", ErrClosed)
	return c.journal.close()
}
