// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		mustPut(t, s, "a/1", "x", "b/1", "x")
		mustPut(t, s, "b/2", "x")
		all, _ := s.Watch(background, "", 0)
		later, _ := s.Watch(background, "a/", 1)
		mustTxn(t, s, nil, Op{Key: "a/2", Value: []byte("y")}, Op{Key: "c"}, Op{Key: "a/1", Delete: true})
		for _, want := range []string{"1: a/1=x b/1=x", "2: b/2=x", "3: a/2=y c= -a/1"} {
			if got := next(t, all); got != want {
				t.Errorf("all: %q, want %q", got, want)
			}
		}
		if got := next(t, later); got != "3: a/2=y -a/1" {
			t.Errorf("later: %q", got)
		}
		got := make(chan string)
		go func() { got <- next(t, later) }()
		mustPut(t, s, "b/3", "")
		mustPut(t, s, "a/3", "z")
		if got := <-got; got != "5: a/3=z" {
			t.Errorf("waited for: %q", got)
		}

		ctx, cancel := context.WithCancel(background)
		cancel()
		_, err := later.Next(ctx)
		wantErr(t, err, context.Canceled)
		_, err = s.Watch(background, "", 6)
		wantErr(t, err, ErrFuture)

		ended := make(chan error)
		go func() {
			_, err := later.Next(background)
			ended <- err
		}()
		later.Close()
		later.Close()
		wantErr(t, <-ended, ErrClosed)
	})
}

func TestCompact(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		for i := range 5 {
			mustPut(t, s, "a", fmt.Sprint(i))
		}
		wantErr(t, s.Compact(background, 7), ErrFuture)
		slow, _ := s.Watch(background, "", 1)
		if err := s.Compact(background, 4); err != nil {
			t.Fatal(err)
		}
		if err := s.Compact(background, 2); err != nil { // is done already
			t.Fatal(err)
		}
		for range 2 {
			_, err := slow.Next(background)
			wantErr(t, err, ErrCompacted)
		}
		_, err := s.Watch(background, "", 2)
		wantErr(t, err, ErrCompacted)
		w, err := s.Watch(background, "", 3)
		if err != nil {
			t.Fatal(err)
		}
		if got := next(t, w); got != "4: a=3" {
			t.Errorf("got %q", got)
		}
		if err := s.Compact(background, 6); err != nil {
			t.Fatal(err)
		}
		_, err = w.Next(background)
		wantErr(t, err, ErrCompacted)
		w, _ = s.Watch(background, "", 5)
		mustPut(t, s, "a", "5")
		if got := next(t, w); got != "6: a=5" {
			t.Errorf("got %q", got)
		}
	})
}

// A watcher that never reads holds up nobody and makes nothing grow.
func TestSlowWatcherFallsOff(t *testing.T) {
	for name, o := range map[string]Options{"transactions": {LogSize: 10}, "bytes": {LogBytes: 10 * 101}} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, o, func(t *testing.T, s Store) {
				slow, _ := s.Watch(background, "", 0)
				value := make([]byte, 100)
				for range 50 {
					mustTxn(t, s, nil, Op{Key: "k", Value: value})
				}
				_, err := slow.Next(background)
				wantErr(t, err, ErrCompacted)
				if log := s.(*core).state.log; len(log) != 10 || log[0].revision != 41 {
					t.Errorf("the log has %d transactions", len(log))
				}
			})
		})
	}
}

// One transaction above the bound is still logged, alone.
func TestLogKeepsTheLastTransaction(t *testing.T) {
	eachKind(t, Options{LogBytes: 10}, func(t *testing.T, s Store) {
		mustPut(t, s, "a", "1")
		mustPut(t, s, "a", "0123456789abcdef")
		w, err := s.Watch(background, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := next(t, w); got != "2: a=0123456789abcdef" {
			t.Errorf("got %q", got)
		}
	})
}

func TestLeases(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			clock := newClock()
			s, reopen := kind.open(t, Options{Clock: clock})
			defer func() { mustClose(t, s) }()
			_, err := s.Grant(background, 0)
			wantErr(t, err, ErrInvalid)
			short, _ := s.Grant(background, 10*time.Second)
			long, _ := s.Grant(background, 30*time.Second)
			mustTxn(t, s, nil, Op{Key: "b", Lease: short}, Op{Key: "a", Lease: short}, Op{Key: "c", Lease: long},
				Op{Key: "moves", Lease: short}, Op{Key: "stays", Lease: short})
			mustTxn(t, s, nil, Op{Key: "moves", Lease: long}, Op{Key: "stays"})
			w, _ := s.Watch(background, "", 2)

			clock.advance(9 * time.Second)
			if err := s.KeepAlive(background, short); err != nil {
				t.Fatal(err)
			}
			clock.advance(9 * time.Second)
			if _, r, _ := s.List(background, ""); r != 2 {
				t.Fatalf("a lease ended that was kept alive: revision %d", r)
			}
			clock.advance(time.Second)
			if got := next(t, w); got != "3: -a -b" {
				t.Errorf("the end of a lease is %q", got)
			}
			wantErr(t, s.KeepAlive(background, short), ErrLeaseNotFound)
			wantErr(t, s.Revoke(background, short), ErrLeaseNotFound)
			_, err = s.Txn(background, nil, []Op{{Key: "d", Lease: short}})
			wantErr(t, err, ErrLeaseNotFound)

			if reopen != nil { // the long lease, at 19 of 30 seconds, begins anew
				mustClose(t, s)
				s = reopen()
				clock.advance(29 * time.Second)
				if w, err = s.Watch(background, "", 3); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Revoke(background, long); err != nil {
				t.Fatal(err)
			}
			if got := next(t, w); got != "4: -c -moves" {
				t.Errorf("revoked: %q", got)
			}
			if id, _ := s.Grant(background, time.Second); id != long+1 {
				t.Errorf("lease %d was given after %d", id, long)
			}
		})
	}
}

// The end of a lease whose keys cannot be deleted is tried again.
func TestExpiryIsTriedAgain(t *testing.T) {
	clock, j := newClock(), &failing{}
	s := newCore(newState(), j, Options{Clock: clock}.withDefaults())
	defer mustClose(t, s)
	lease, _ := s.Grant(background, time.Minute)
	mustTxn(t, s, nil, Op{Key: "a", Lease: lease})
	j.err = context.DeadlineExceeded
	clock.advance(time.Minute)
	wantErr(t, s.KeepAlive(background, lease), ErrLeaseNotFound)
	if _, err := s.Get(background, "a"); err != nil {
		t.Fatal(err)
	}
	j.err = nil
	clock.advance(retryExpiry)
	_, err := s.Get(background, "a")
	wantErr(t, err, ErrNotFound)
}

func TestLeaseOnTheSystemClock(t *testing.T) {
	eachKind(t, Options{}, func(t *testing.T, s Store) {
		lease, _ := s.Grant(background, time.Millisecond)
		if _, err := s.Txn(background, nil, []Op{{Key: "a", Lease: lease}}); err != nil {
			return // it ended before
		}
		w, _ := s.Watch(background, "", 1)
		if got := next(t, w); got != "2: -a" {
			t.Errorf("got %q", got)
		}
	})
}
