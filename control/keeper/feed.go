// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Bounds of what the feed remembers.
const (
	maxBatches = 4096
	// maxBytes bounds the records of what the batches have changed. Resources take about twice as much memory. The last
	// batch is kept whatever its size.
	maxBytes = 32 << 20
)

// Batch is what one transaction has changed. It is shared: nothing in it may be changed.
type Batch struct {
	Revision uint64
	Changes  []resource.Change

	bytes int // of the records
}

// feed remembers the last batches for those who watch. A watcher holds nothing but its place: it costs no memory and
// nobody waits for it.
type feed struct {
	mu      sync.Mutex
	batches []Batch
	bytes   int           // of batches
	base    uint64        // batches has all there was after this revision
	news    chan struct{} // closed when there is another batch
}

func newFeed(revision uint64) *feed {
	return &feed{base: revision, news: make(chan struct{})}
}

func (f *feed) append(b Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, b)
	f.bytes += b.bytes
	for len(f.batches) > maxBatches || f.bytes > maxBytes && len(f.batches) > 1 {
		f.base = f.batches[0].Revision
		f.bytes -= f.batches[0].bytes
		f.batches[0] = Batch{}
		f.batches = f.batches[1:]
	}
	close(f.news)
	f.news = make(chan struct{})
}

// after is the first batch after a revision or, if there is none yet, what is closed when there is.
func (f *feed) after(revision uint64) (b Batch, news <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision < f.base {
		return b, nil, fmt.Errorf("what has changed after revision %d is known only after %d: read everything again, and watch from there: %w", revision, f.base, ErrCompacted)
	}
	i, _ := slices.BinarySearchFunc(f.batches, revision+1, func(b Batch, want uint64) int {
		if b.Revision < want {
			return -1
		}
		return 1
	})
	if i == len(f.batches) {
		return b, f.news, nil
	}
	return f.batches[i], nil, nil
}

// Subscription reads what changes, as fast as its owner asks for it.
type Subscription struct {
	feed *feed
	at   uint64 // Next's alone
	done chan struct{}
	once sync.Once
}

// Watch subscribes to what changes after a revision, such as that of a Set that View has shown. The error is ErrCompacted
// if that is not known any more, or if the revision is none that this store has come to.
func (k *Keeper) Watch(after uint64) (*Subscription, error) {
	if newest := k.snapshot().Revision(); after > newest {
		return nil, fmt.Errorf("revision %d has not happened in this store, which is at %d: read everything again, and watch from there: %w", after, newest, ErrCompacted)
	}
	if _, _, err := k.feed.after(after); err != nil {
		return nil, err
	}
	return &Subscription{feed: k.feed, at: after, done: make(chan struct{})}, nil
}

// Next returns the next batch, and waits for one if need be. The error is ErrCompacted for good once the subscription has
// fallen behind too far, ErrClosed after Close, and the context's when that ends. One goroutine at a time may call it.
func (s *Subscription) Next(ctx context.Context) (Batch, error) {
	for {
		select {
		case <-s.done:
			return Batch{}, fmt.Errorf("watching resources: the subscription: %w", ErrClosed)
		default:
		}
		b, news, err := s.feed.after(s.at)
		if err != nil {
			return Batch{}, err
		}
		if news == nil {
			s.at = b.Revision
			return b, nil
		}
		select {
		case <-news:
		case <-s.done:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

// Close ends the subscription, and a Next that waits. Further calls do nothing.
func (s *Subscription) Close() { s.once.Do(func() { close(s.done) }) }
