// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart. They come wrapped, with what was asked for.
var (
	// ErrNotFound says that a key does not exist.
	ErrNotFound = errors.New("no such key")
	// ErrLeaseNotFound says that a lease does not exist: it has ended, or never was.
	ErrLeaseNotFound = errors.New("no such lease")
	// ErrInvalid says that a request is no good whatever the state of the store.
	ErrInvalid = errors.New("invalid request")
	// ErrCompacted says that the log no longer has what a watcher wants: list, then watch from the list's revision.
	ErrCompacted = errors.New("the log no longer reaches back that far")
	// ErrFuture says that a revision has not happened in this store: list, then watch from the list's revision.
	ErrFuture = errors.New("the store has not come to that revision")
	// ErrClosed says that the store or the watcher was closed.
	ErrClosed = errors.New("closed")
	// ErrLocked says that another process has the file open.
	ErrLocked = errors.New("another process has it open")
	// ErrBroken says that the store does not know what the disk has, and takes no more writes until it is opened anew.
	ErrBroken = errors.New("the store must be opened anew")
	// ErrForeign says that a file is a database of something else.
	ErrForeign = errors.New("not a store of isthmus")
)

// ConflictError says that a compare of a transaction did not hold, and nothing was done.
type ConflictError struct {
	Compare          // what was to hold
	Found   Revision // what the key was modified at; zero if it does not exist
}

func (e *ConflictError) Error() string {
	switch {
	case e.Found == 0:
		return fmt.Sprintf("key %q does not exist: read again and retry", e.Key)
	case e.Modified == 0:
		return fmt.Sprintf("key %q exists already, of revision %d: read again and retry", e.Key, e.Found)
	default:
		return fmt.Sprintf("key %q is of revision %d, not %d: read again and retry", e.Key, e.Found, e.Modified)
	}
}

// DamagedError says that a file is not as it was written. The file is left as it is.
type DamagedError struct {
	Path string
	What error // the first damage found
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("store %s is damaged: %v. Nothing was changed; move the file away, then put a copy of it in its "+
		"place, or start without one and apply the output of an earlier `isthmus export`", e.Path, e.What)
}

func (e *DamagedError) Unwrap() error { return e.What }

// VersionError says that a file was written in a format that this program does not know. The file is left as it is.
type VersionError struct {
	Path          string
	File, Program uint64 // the versions of the format
}

func (e *VersionError) Error() string {
	if e.File > e.Program {
		return fmt.Sprintf("store %s has format version %d, this program knows up to %d: use the newer isthmus that wrote "+
			"it, or apply its `isthmus export` to an empty store", e.Path, e.File, e.Program)
	}
	return fmt.Sprintf("store %s has format version %d, which this program (version %d) cannot migrate: open it with a "+
		"release in between first, or apply its `isthmus export` to an empty store", e.Path, e.File, e.Program)
}
