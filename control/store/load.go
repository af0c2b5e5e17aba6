// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// load reads everything that a file has. Each error is damage: the format was found to be ours before.
func load(tx *bbolt.Tx) (*state, error) {
	h, err := readHeader(tx)
	if err != nil {
		return nil, err
	}
	s := newState()
	s.revision, s.compacted, s.lastLease, s.serial = h.revision, h.compacted, h.lastLease, h.serial
	for _, read := range []func(*bbolt.Tx, *state) error{readLeases, readEntries, readLog} {
		if err := read(tx, s); err != nil {
			return nil, err
		}
	}
	if len(s.entries) != h.entries || len(s.leases) != h.leases {
		return nil, fmt.Errorf("it has %d entries and %d leases where its header says %d and %d", len(s.entries),
			len(s.leases), h.entries, h.leases)
	}
	return s, s.verify()
}

func readHeader(tx *bbolt.Tx) (header, error) {
	body, err := readMeta(tx, headerKey)
	if err != nil {
		return header{}, err
	}
	h, err := decodeHeader(body)
	if err != nil {
		return header{}, fmt.Errorf("its header: %w", err)
	}
	return h, nil
}

// readMeta returns the body of a record of the meta bucket.
func readMeta(tx *bbolt.Tx, key string) ([]byte, error) {
	bucket := tx.Bucket([]byte(metaBucket))
	if bucket == nil {
		return nil, fmt.Errorf("bucket %q is missing", metaBucket)
	}
	body, err := unseal(metaBucket, []byte(key), bucket.Get([]byte(key)))
	if err != nil {
		return nil, fmt.Errorf("its %s: %w", key, err)
	}
	return body, nil
}

// each calls f with the key and the body of every record of a bucket, in order of keys.
func each(tx *bbolt.Tx, name string, f func(key, body []byte) error) error {
	bucket := tx.Bucket([]byte(name))
	if bucket == nil {
		return fmt.Errorf("bucket %q is missing", name)
	}
	return bucket.ForEach(func(key, sealed []byte) error {
		body, err := unseal(name, key, sealed)
		if err == nil {
			err = f(key, body)
		}
		if err != nil {
			return fmt.Errorf("record %.40q of bucket %q: %w", key, name, err)
		}
		return nil
	})
}

func readLeases(tx *bbolt.Tx, s *state) error {
	return each(tx, leaseBucket, func(key, body []byte) error {
		id, err := fromBigEndian(key)
		if err != nil {
			return err
		}
		s.leases[LeaseID(id)], err = decodeLease(LeaseID(id), body)
		return err
	})
}

func readEntries(tx *bbolt.Tx, s *state) error {
	return each(tx, entryBucket, func(key, body []byte) error {
		e, err := decodeEntry(string(key), body)
		if err != nil {
			return err
		}
		s.entries[e.Key] = e
		s.keys = append(s.keys, e.Key)
		s.attach(e)
		return nil
	})
}

func readLog(tx *bbolt.Tx, s *state) error {
	return each(tx, logBucket, func(key, body []byte) error {
		revision, err := fromBigEndian(key)
		if err != nil {
			return err
		}
		if want := s.compacted + uint64(len(s.log)) + 1; revision != want {
			return fmt.Errorf("revision %d where %d should be", revision, want)
		}
		r, err := decodeRecord(revision, body)
		if err != nil {
			return err
		}
		s.log = append(s.log, r)
		s.logBytes += r.bytes()
		return nil
	})
}

// verify compares what the records say of each other.
func (s *state) verify() error {
	if have := s.compacted + uint64(len(s.log)); have != s.revision {
		return fmt.Errorf("its log ends at revision %d, it is at %d", have, s.revision)
	}
	for id := range s.leases {
		if id > s.lastLease {
			return fmt.Errorf("lease %d was never granted, the last one is %d", id, s.lastLease)
		}
	}
	last := map[string]Change{}
	for _, r := range s.log {
		for _, c := range r.changes {
			last[c.Entry.Key] = c
		}
	}
	for key, e := range s.entries {
		c, logged := last[key]
		switch {
		case e.Lease != 0 && s.leases[e.Lease] == nil:
			return fmt.Errorf("key %q has lease %d, which does not exist", key, e.Lease)
		case logged != (e.Modified > s.compacted), logged && !same(c, e):
			return fmt.Errorf("key %q, of revision %d, is not what the log says", key, e.Modified)
		}
		delete(last, key)
	}
	for key, c := range last {
		if !c.Deleted {
			return fmt.Errorf("key %q, put at revision %d by the log, is missing", key, c.Entry.Modified)
		}
	}
	return nil
}

func same(c Change, e Entry) bool {
	l := c.Entry
	return !c.Deleted && l.Created == e.Created && l.Modified == e.Modified && l.Version == e.Version &&
		l.Lease == e.Lease && bytes.Equal(l.Value, e.Value)
}
