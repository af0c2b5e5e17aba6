// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// queue holds the requests that wait for a commit.
type queue struct {
	mu      sync.Mutex
	waiting []*request
}

// request is one writer's. Apply adds to a draft what the writer wants, or fails without a trace; it is called again,
// with another draft, if the batch that it was in could not be committed. What it returned stands once done is closed.
type request struct {
	apply  func(*draft) (uint64, error)
	result uint64
	err    error
	done   chan struct{}
}

func (q *queue) push(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, r)
}

func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.waiting
	q.waiting = nil
	return batch
}

// withdraw takes a request back, unless someone has taken it to be committed.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, r)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

func (c *core) Txn(ctx context.Context, compares []Compare, ops []Op) (Revision, error) {
	if err := checkOps(ops); err != nil {
		return 0, fmt.Errorf("transaction: %w", err)
	}
	compares, ops = slices.Clone(compares), slices.Clone(ops)
	for i := range ops {
		ops[i].Value = bytes.Clone(ops[i].Value)
	}
	revision, err := c.submit(ctx, func(d *draft) (uint64, error) { return d.txn(compares, ops) })
	if err != nil {
		return 0, fmt.Errorf("transaction: %w", err)
	}
	return revision, nil
}

func (c *core) Compact(ctx context.Context, before Revision) error {
	_, err := c.submit(ctx, func(d *draft) (uint64, error) { return 0, d.compact(before) })
	if err != nil {
		return fmt.Errorf("compact before revision %d: %w", before, err)
	}
	return nil
}

// submit has a request committed: by this goroutine if it gets the turn, by another one that takes what waits if not.
// While one batch is synced to disk the next one gathers, so that many writers share an fsync and a single one waits for
// nobody.
func (c *core) submit(ctx context.Context, apply func(*draft) (uint64, error)) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("nothing was done: %w", err)
	}
	r := &request{apply: apply, done: make(chan struct{})}
	c.queue.push(r)
	select {
	case c.turn <- struct{}{}:
		c.commitWaiting(r)
		<-c.turn
	case <-r.done:
	case <-ctx.Done():
		if c.queue.withdraw(r) {
			return 0, fmt.Errorf("nothing was done: %w", ctx.Err())
		}
	}
	<-r.done
	return r.result, r.err
}

// commitWaiting commits what waits, if own is not done yet.
func (c *core) commitWaiting(own *request) {
	select {
	case <-own.done:
	default:
		c.commit(c.queue.take())
	}
}

// commit evaluates requests in their order, makes the outcome durable, shows it to readers and only then answers. If
// the journal fails, each is tried alone: what fails may be due to one of them, and who was told of a conflict must not
// have met something that never was.
func (c *core) commit(batch []*request) {
	d := newDraft(c.state, c.options.Clock.Now())
	c.evaluate(d, batch)
	err := c.failed
	if err == nil && !d.empty() {
		err = c.journal.commit(d)
	}
	switch {
	case errors.Is(err, ErrBroken):
		c.failed = err
	case err != nil && c.failed == nil && len(batch) > 1:
		for _, r := range batch {
			c.commit([]*request{r})
		}
		return
	}
	if err == nil && !d.empty() {
		c.publish(d)
	}
	for _, r := range batch {
		if err != nil {
			r.result, r.err = 0, err
		}
		close(r.done)
	}
}

// evaluate runs a batch against a draft. The lock is for the deadlines of leases.
func (c *core) evaluate(d *draft, batch []*request) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, r := range batch {
		r.result, r.err = r.apply(d)
	}
	d.trim(c.options.LogSize, c.options.LogBytes)
}

// publish shows a durable draft to readers and wakes the watchers.
func (c *core) publish(d *draft) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.absorb(d, c.options.Clock.Now())
	close(c.changed)
	c.changed = make(chan struct{})
	if len(d.leases) > 0 && !c.expiry.running {
		c.arm(0)
	}
}
