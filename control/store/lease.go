// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// retryExpiry is how long the keys of ended leases wait for another try when the disk would not take their deletion.
const retryExpiry = time.Second

// expiry is the timer that ends leases. It is armed for the earliest deadline there was when it was armed: KeepAlive,
// which happens far more often than an expiry, need not touch it. Guarded by core.mu.
type expiry struct {
	stop    func() bool // nil if no timer is armed
	running bool
	pending sync.WaitGroup // timers that are armed or running
}

func (c *core) Grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	if ttl <= 0 {
		return 0, fmt.Errorf("grant a lease of %v: give a time above zero: %w", ttl, ErrInvalid)
	}
	id, err := c.submit(ctx, func(d *draft) (uint64, error) { return uint64(d.grant(ttl)), nil })
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	return LeaseID(id), nil
}

// KeepAlive touches memory only: what a restart makes of a lease does not depend on it.
func (c *core) KeepAlive(ctx context.Context, id LeaseID) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("keep lease %d alive: %w", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Clock.Now()
	l := c.state.leases[id]
	switch {
	case c.closed:
		return fmt.Errorf("keep lease %d alive: store: %w", id, ErrClosed)
	case l == nil || !now.Before(l.deadline):
		return fmt.Errorf("keep lease %d alive: grant another one: %w", id, ErrLeaseNotFound)
	}
	l.deadline = now.Add(l.ttl)
	return nil
}

func (c *core) Revoke(ctx context.Context, id LeaseID) error {
	_, err := c.submit(ctx, func(d *draft) (uint64, error) {
		if _, err := d.lease(id); err != nil {
			return 0, err
		}
		d.end(id)
		return 0, nil
	})
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return nil
}

// arm sets the timer for the earliest deadline, but not before a time from now has passed. The caller has locked mu.
func (c *core) arm(wait time.Duration) {
	c.disarm()
	if c.closed || len(c.state.leases) == 0 {
		return
	}
	var first time.Time
	for _, l := range c.state.leases {
		if first.IsZero() || l.deadline.Before(first) {
			first = l.deadline
		}
	}
	c.expiry.pending.Add(1)
	c.expiry.stop = c.options.Clock.AfterFunc(max(wait, first.Sub(c.options.Clock.Now())), c.expire)
}

// disarm stops the timer if there is one. The caller has locked mu.
func (c *core) disarm() {
	if c.expiry.stop != nil && c.expiry.stop() {
		c.expiry.pending.Done()
	}
	c.expiry.stop = nil
}

// expire ends the leases whose time has come, each in one transaction of its own.
func (c *core) expire() {
	defer c.expiry.pending.Done()
	var wait time.Duration
	for _, id := range c.beginExpiry() {
		_, err := c.submit(context.Background(), func(d *draft) (uint64, error) {
			l := d.base.leases[id]
			if _, ended := d.leases[id]; l != nil && !ended && !d.now.Before(l.deadline) {
				d.end(id)
			}
			return 0, nil
		})
		if errors.Is(err, ErrBroken) || errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			wait = retryExpiry
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expiry.running = false
	c.arm(wait)
}

// beginExpiry returns the leases whose deadline has passed.
func (c *core) beginExpiry() []LeaseID {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expiry.running = true
	now := c.options.Clock.Now()
	var ids []LeaseID
	for id, l := range c.state.leases {
		if !now.Before(l.deadline) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
