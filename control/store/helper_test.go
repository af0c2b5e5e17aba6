// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(children[child]())
	}
	goleak.VerifyTestMain(m)
}

// childEnv names the part that the test binary plays when a test starts it once more.
const childEnv = "ISTHMUS_STORE_CHILD"

// children are those parts; they return the exit code.
var children = map[string]func() int{"crash": crashChild, "space": spaceChild, "readonly": readOnlyChild}

// clock is a Clock that stands still until it is moved.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*timer
}

type timer struct {
	at time.Time
	f  func()
}

func newClock() *clock { return &clock{now: time.Unix(1_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.now.Add(d), f: f}
	c.timers = append(c.timers, t)
	return func() bool { return c.remove(t) }
}

func (c *clock) remove(t *timer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.timers, t)
	if i >= 0 {
		c.timers = slices.Delete(c.timers, i, i+1)
	}
	return i >= 0
}

// advance moves the clock and runs what is due, to its end.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	for t := c.due(); t != nil; t = c.due() {
		t.f()
	}
}

func (c *clock) due() *timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.timers {
		if !t.at.After(c.now) {
			c.timers = slices.Delete(c.timers, i, i+1)
			return t
		}
	}
	return nil
}

// kinds are the stores that must all behave alike. A reopen of one that has nothing to open again is nil.
var kinds = []struct {
	name string
	open func(t testing.TB, o Options) (s Store, reopen func() Store)
}{
	{"memory", func(t testing.TB, o Options) (Store, func() Store) { return NewMemory(o), nil }},
	{"bbolt", func(t testing.TB, o Options) (Store, func() Store) {
		path := filepath.Join(fastDir(t), "store.db")
		return mustOpen(t, path, o), func() Store { return mustOpen(t, path, o) }
	}},
}

// eachKind runs a test on every kind of store.
func eachKind(t *testing.T, o Options, f func(t *testing.T, s Store)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			s, _ := kind.open(t, o)
			defer mustClose(t, s)
			f(t, s)
		})
	}
}

// fastDir returns a directory, in memory where the machine has such a place: most tests are not about the disk.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "isthmus-store-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustOpen(t fataler, path string, o Options) Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func mustClose(t fataler, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// mustPut puts keys with values, given in turn, in one transaction.
func mustPut(t fataler, s Store, keysAndValues ...string) Revision {
	t.Helper()
	var ops []Op
	for i := 0; i < len(keysAndValues); i += 2 {
		ops = append(ops, Op{Key: keysAndValues[i], Value: []byte(keysAndValues[i+1])})
	}
	return mustTxn(t, s, nil, ops...)
}

func mustTxn(t fataler, s Store, compares []Compare, ops ...Op) Revision {
	t.Helper()
	revision, err := s.Txn(context.Background(), compares, ops)
	if err != nil {
		t.Fatalf("txn: %v", err)
	}
	return revision
}

func wantErr(t fataler, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, not %v", err, want)
	}
}

// describe writes changes as "revision: key=value -key ...".
func describe(c Changes) string {
	words := []string{fmt.Sprintf("%d:", c.Revision)}
	for _, change := range c.Changes {
		if change.Deleted {
			words = append(words, "-"+change.Entry.Key)
		} else {
			words = append(words, change.Entry.Key+"="+string(change.Entry.Value))
		}
	}
	return strings.Join(words, " ")
}

// next returns the watcher's next changes, which must be there or come soon.
func next(t fataler, w *Watcher) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := w.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return describe(c)
}
