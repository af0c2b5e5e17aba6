// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Buckets of a file, and keys of the meta bucket.
const (
	metaBucket  = "meta"
	entryBucket = "entries" // key -> entry
	logBucket   = "log"     // revision, big endian -> transaction
	leaseBucket = "leases"  // id, big endian -> lease

	productKey = "product" // productTag, bare, for whoever looks at the file
	formatKey  = "format"
	headerKey  = "header"
)

const productTag = "isthmus store"

// bolt is the journal in a bbolt file.
type bolt struct {
	db       *bbolt.DB
	file     *os.File // the one that db has open
	path     string
	poisoned bool // bbolt panicked, and may hold its own locks for ever
}

// commit writes a draft in one transaction of bbolt, which makes it durable with two fsyncs: of the new pages, then of
// the page that names them.
func (b *bolt) commit(d *draft) error {
	err := b.guard(func() error {
		return b.db.Update(func(tx *bbolt.Tx) error { return writeDraft(tx, d) })
	})
	if err == nil {
		return nil
	}
	if serial, lost := b.serial(); lost != nil || serial != d.base.serial {
		return fmt.Errorf("write to %s: %w; it is unknown whether the disk has it: restart the daemon: %w", b.path, err,
			ErrBroken)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("write to %s: %w: nothing was changed, free some space and try again", b.path, err)
	}
	return fmt.Errorf("write to %s: %w: nothing was changed", b.path, err)
}

// serial reads which commit the file is at.
func (b *bolt) serial() (serial uint64, err error) {
	err = b.guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			h, err := readHeader(tx)
			serial = h.serial
			return err
		})
	})
	return serial, err
}

// guard calls into bbolt. It maps the file, so that a file that is cut or damaged meanwhile shows as a memory fault or
// a failed assertion; both come back as an error, after which bbolt is not called again.
func (b *bolt) guard(f func() error) (err error) {
	if b.poisoned {
		return errors.New("the file was found damaged")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			b.poisoned = true
			err = fmt.Errorf("bbolt: %v", p)
		}
	}()
	return f()
}

// close releases the file, also from a bbolt that cannot do it any more: its mapping would keep the lock.
func (b *bolt) close() error {
	err := b.guard(b.db.Close)
	if b.poisoned {
		err = errors.Join(unix.Flock(int(b.file.Fd()), unix.LOCK_UN), b.file.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("close store %s: %w", b.path, err)
	}
	return nil
}

func writeDraft(tx *bbolt.Tx, d *draft) error {
	entries, leases, log := tx.Bucket([]byte(entryBucket)), tx.Bucket([]byte(leaseBucket)), tx.Bucket([]byte(logBucket))
	for _, key := range slices.Sorted(maps.Keys(d.entries)) {
		var body []byte
		if e := d.entries[key]; e != nil {
			body = encodeEntry(*e)
		}
		if err := write(entries, entryBucket, []byte(key), body); err != nil {
			return err
		}
	}
	for id, l := range d.leases {
		var body []byte
		if l != nil {
			body = encodeLease(l)
		}
		if err := write(leases, leaseBucket, bigEndian(uint64(id)), body); err != nil {
			return err
		}
	}
	for r := d.base.compacted + 1; r <= min(d.compacted, d.base.revision); r++ {
		if err := write(log, logBucket, bigEndian(r), nil); err != nil {
			return err
		}
	}
	for _, r := range d.records {
		if r.revision <= d.compacted {
			continue
		}
		if err := write(log, logBucket, bigEndian(r.revision), encodeRecord(r)); err != nil {
			return err
		}
	}
	h := header{revision: d.revision, compacted: d.compacted, lastLease: d.lastLease, serial: d.serial}
	h.entries, h.leases = d.counts()
	return write(tx.Bucket([]byte(metaBucket)), metaBucket, []byte(headerKey), encodeHeader(h))
}

// write puts a record, or deletes it if there is no body.
func write(bucket *bbolt.Bucket, name string, key, body []byte) error {
	if body == nil {
		return bucket.Delete(key)
	}
	return bucket.Put(key, seal(name, key, body))
}

// initialize makes the buckets of an empty file.
func initialize(tx *bbolt.Tx, version uint64) error {
	for _, name := range []string{metaBucket, entryBucket, logBucket, leaseBucket} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	meta := tx.Bucket([]byte(metaBucket))
	return errors.Join(
		meta.Put([]byte(productKey), []byte(productTag)),
		write(meta, metaBucket, []byte(formatKey), appendNumbers(nil, version)),
		write(meta, metaBucket, []byte(headerKey), encodeHeader(header{})),
	)
}
