// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package store keeps what the control plane must not forget: keys with values, changed by transactions, each of which
// gets the next revision. Its semantics are etcd's (revision, compare-and-swap transaction, watch from a revision,
// lease), so that etcd can stand behind the same interface where one machine is not enough.
//
// Everything is held in memory and read from there; a journal makes each transaction durable before anyone sees it.
// Open has a bbolt file for a journal, NewMemory has none. All rules lie above the journal and are written once:
//
//	store.go    the nouns and the interface
//	core.go     reading; opening and closing
//	commit.go   the queue of writers: whoever has the turn commits for all who wait, with one fsync
//	draft.go    what a batch of transactions would make of the state
//	state.go    the state, and how a committed draft becomes part of it
//	lease.go    leases and their expiry
//	watch.go    reading the log of transactions from a revision on
//	record.go   the bytes of a record and its checksum
//	file.go     the file: creating, locking, opening, versions
//	journal.go  the buckets of the file, and a commit to them
//	load.go     reading a whole file, and judging whether it is consistent
//	pages.go    judging the pages of a file before bbolt maps them
//
// # What a file promises
//
// A transaction that was acknowledged is there after a crash of the process or the machine; one that was not is there
// whole or not at all. Open reads everything and compares all of it with checksums and cross-references, so that damage
// is found then, not when it is too late to have a copy; it takes some 5 ms for each MB. A file that is damaged, empty,
// foreign, or of a newer version is refused and left as it is. What cannot be told from a torn write, which is harmless,
// is damage to the one page that names the last transaction: the file then reads as before that transaction.
//
// A write that fails, such as on a full disk, leaves store and file as they were. Should it be unknown whether the disk
// has a transaction (fsync failed after the last write), the store refuses further writes with ErrBroken: a new Open
// finds out.
package store
