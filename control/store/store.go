// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"
)

// Revision counts the committed transactions that changed something, from 1. Zero is the revision of an empty store and,
// in a Compare, of a key that does not exist.
type Revision = uint64

// LeaseID names a lease. Ids are not used again, also not after a restart. Zero is no lease.
type LeaseID uint64

// Entry is a key and what is known about it.
type Entry struct {
	Key      string
	Value    []byte
	Created  Revision // of the transaction that created the key, after its last deletion if there was one
	Modified Revision // of the transaction that last put it
	Version  uint64   // how often it was put since it was created, from 1
	Lease    LeaseID  // deletes the key when it ends; zero for a key that stays
}

// Compare is a condition of a transaction.
type Compare struct {
	Key string

	// Modified is the revision that the key must have been modified at; zero if it must not exist.
	Modified Revision

	// Exists asks only that the key exists, at whatever revision; Modified is then of no account.
	Exists bool
}

// Op is one step of a transaction: it puts a key, or deletes it. To delete a key that does not exist is no error and no
// change; to put the value that a key has already is a change.
type Op struct {
	Key    string
	Value  []byte
	Delete bool    // Value and Lease are then of no account
	Lease  LeaseID // the key's lease from now on; zero takes the key off the lease that it had
}

// Change is what one transaction did to one key. Of a deleted key, Entry has the name and, as Modified, the revision of
// the deletion.
type Change struct {
	Entry   Entry
	Deleted bool
}

// Changes are those of one transaction that a watcher asked for, in the order of the transaction's operations.
type Changes struct {
	Revision Revision
	Changes  []Change
}

// Limits of what a store takes. A transaction that exceeds one is refused as ErrInvalid.
const (
	MaxKey   = 4 << 10   // bytes of a key
	MaxValue = 4 << 20   // bytes of a value
	MaxOps   = 100_000   // operations of a transaction
	MaxBytes = 256 << 20 // bytes of the keys and values of a transaction
)

// Store is a small database of ordered keys. Its methods may be called from any goroutine. It keeps no reference to the
// slices it is given, and what it returns is the caller's.
//
// A context that ends makes a method return the context's error; a write that returns it was not done. Every method
// returns ErrClosed once Close was called.
type Store interface {
	// Get returns a key's entry, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)

	// List returns the entries whose keys begin with prefix, ordered by key, as they all were at the revision that it
	// returns. The empty prefix lists everything.
	List(ctx context.Context, prefix string) ([]Entry, Revision, error)

	// Txn does all ops if all compares hold, or nothing. It returns the revision at which that is so: a new one if
	// anything changed. All of it is durable, and seen by every reader, when Txn returns. A compare that does not hold is
	// a *ConflictError. A key may be in one op only; a lease must exist, or the error is ErrLeaseNotFound.
	Txn(ctx context.Context, compares []Compare, ops []Op) (Revision, error)

	// Watch returns a watcher of the keys that begin with prefix, from the first revision beyond after on. The error is
	// ErrCompacted if the log does not reach back to after, and ErrFuture if that is yet to come (the store was restored
	// from an older copy); the answer to both is to List and to watch from the revision of the list.
	Watch(ctx context.Context, prefix string, after Revision) (*Watcher, error)

	// Grant makes a lease that ends when ttl has passed without a KeepAlive. It changes no key, hence no revision.
	// After a restart every lease has its whole ttl before it, as its holders could not reach the store meanwhile.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)

	// KeepAlive lets a lease's ttl begin anew, or returns ErrLeaseNotFound if it has ended.
	KeepAlive(ctx context.Context, id LeaseID) error

	// Revoke ends a lease and deletes its keys in one transaction, as the end of its ttl does.
	Revoke(ctx context.Context, id LeaseID) error

	// Compact forgets the log of the transactions before a revision. That of the revision itself stays, if there is one;
	// to forget everything, give the current revision plus one.
	Compact(ctx context.Context, before Revision) error

	// Close ends all watchers, waits for what is being written and releases the file. Further calls do nothing.
	Close() error
}

// Options are the choices of whoever opens a store. The zero value is good for use.
type Options struct {
	// LogSize and LogBytes bound the log that watchers read: the number of transactions (default 4096) and the bytes of
	// their keys and values (default 64 MiB). The last transaction is kept whatever its size.
	LogSize  int
	LogBytes int

	// LockTimeout is how long Open waits for another process to let go of the file. Default one second.
	LockTimeout time.Duration

	// Clock tells the time for leases. Default is the system's.
	Clock Clock
}

func (o Options) withDefaults() Options {
	if o.LogSize <= 0 {
		o.LogSize = 4096
	}
	if o.LogBytes <= 0 {
		o.LogBytes = 64 << 20
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = time.Second
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	return o
}

// Clock is where a store has the time from. Its methods may be called from any goroutine, also while the store holds
// locks: neither may call back before it returns.
type Clock interface {
	// Now must not go backwards.
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own once d has passed. Stop prevents that, and reports whether it did, as
	// time.Timer's does.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}
