// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// format is the version that a program writes, and for each version that it can read as well, what makes a file of it
// one of the next version.
type format struct {
	version    uint64
	migrations map[uint64]func(*bbolt.Tx) error
}

// current has no migrations yet: version 1 is the first.
var current = format{version: 1}

// Open returns the store in a file, which it creates, for its owner alone to read, if there is none. It holds the file
// until Close; a file that another process holds is ErrLocked. A file that is not as it was left, an empty one included,
// is a *DamagedError, one of another program ErrForeign, one of an unknown version a *VersionError.
//
// A file of an older version is migrated, in one transaction.
func Open(path string, options Options) (Store, error) {
	c, err := open(path, options.withDefaults(), current)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func open(path string, options Options, f format) (*core, error) {
	file, err := openFile(path, f)
	if err != nil {
		return nil, err
	}
	b := &bolt{file: file, path: path}
	s, err := b.open(options, f)
	if err != nil {
		if b.db != nil {
			return nil, errors.Join(err, b.close())
		}
		// bbolt may have closed it already, and no one has written.
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
		_ = file.Close()
		return nil, err
	}
	return newCore(s, b, options), nil
}

// open locks and judges the file, and reads it.
func (b *bolt) open(options Options, f format) (*state, error) {
	if err := b.lock(options.LockTimeout); err != nil {
		return nil, err
	}
	if err := checkPages(b.file); err != nil {
		return nil, &DamagedError{Path: b.path, What: err}
	}
	err := b.guard(func() (err error) {
		b.db, err = openBolt(b.file)
		return err
	})
	if b.poisoned {
		return nil, &DamagedError{Path: b.path, What: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", b.path, err)
	}
	var s *state
	err = b.guard(func() (err error) {
		s, err = b.read(f)
		return err
	})
	if b.poisoned {
		err = &DamagedError{Path: b.path, What: err}
	}
	return s, err
}

// read returns what a file has, migrated if need be.
func (b *bolt) read(f format) (s *state, err error) {
	var found uint64
	err = b.db.View(func(tx *bbolt.Tx) error {
		if found, err = b.version(tx); err != nil || found != f.version {
			return err
		}
		if s, err = load(tx); err != nil {
			return &DamagedError{Path: b.path, What: err}
		}
		return nil
	})
	if err != nil || found == f.version {
		return s, err
	}
	if !f.reads(found) {
		return nil, &VersionError{Path: b.path, File: found, Program: f.version}
	}
	err = b.db.Update(func(tx *bbolt.Tx) error {
		if err := migrate(tx, found, f); err != nil {
			return err
		}
		s, err = load(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("migrate store %s from format version %d: %w: nothing was changed", b.path, found, err)
	}
	return s, nil
}

// mapped is how much of a file bbolt maps from the start, and grain by how much it lets the file grow, in bytes. The
// map costs addresses only; each time it must grow, bbolt copies what a transaction has changed so far.
const (
	mapped = 256 << 20
	grain  = 1 << 20
)

// openBolt makes bbolt use a file that is open and locked: locking it again is no change.
func openBolt(file *os.File) (*bbolt.DB, error) {
	db, err := bbolt.Open(file.Name(), 0o600, &bbolt.Options{
		FreelistType:    bbolt.FreelistMapType,
		NoStatistics:    true,
		InitialMmapSize: mapped,
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = grain
	return db, nil
}

// openFile opens the file, and creates it first if there is none.
func openFile(path string, f format) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createFile(path, f); err != nil {
			return nil, fmt.Errorf("create store %s: %w: make sure that its directory is there, with room, and may be written",
				path, err)
		}
		file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w: make sure that the file may be read and written", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file: give the path of one, or of none yet")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), file.Close())
	}
	return file, nil
}

// createFile makes an empty store under another name and links it to its own once it is on disk. So no crash leaves an
// unfinished file, an empty one is no new store but a loss, and two daemons that start at once share one file.
func createFile(path string, f format) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	db, err := openBolt(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	err = db.Update(func(tx *bbolt.Tx) error { return initialize(tx, f.version) })
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes a new name in a directory durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock gets the file for this process alone. The lock is on the open file: it goes with the process.
func (b *bolt) lock(timeout time.Duration) error {
	const pause = 10 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		err := unix.Flock(int(b.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK) && waited >= timeout:
			return fmt.Errorf("open store %s: waited %v: stop the other daemon or give this one a path of its own: %w", b.path,
				timeout, ErrLocked)
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock store %s: %w", b.path, err)
		}
		time.Sleep(pause)
	}
}

// version returns the version of a file's format.
func (b *bolt) version(tx *bbolt.Tx) (uint64, error) {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil || string(meta.Get([]byte(productKey))) != productTag {
		return 0, fmt.Errorf("open store %s: a bbolt database without the tag %q: give another path: %w", b.path, productTag,
			ErrForeign)
	}
	body, err := readMeta(tx, formatKey)
	if err != nil {
		return 0, &DamagedError{Path: b.path, What: err}
	}
	version, n := binary.Uvarint(body)
	if n <= 0 || n != len(body) {
		return 0, &DamagedError{Path: b.path, What: fmt.Errorf("its %s: %w", formatKey, errMalformed)}
	}
	return version, nil
}

// reads reports whether there are steps from a version to the program's.
func (f format) reads(version uint64) bool {
	for ; version < f.version && f.migrations[version] != nil; version++ {
	}
	return version == f.version
}

// migrate brings a file to the version of the program, step by step.
func migrate(tx *bbolt.Tx, found uint64, f format) error {
	for version := found; version < f.version; version++ {
		if err := f.migrations[version](tx); err != nil {
			return fmt.Errorf("step from version %d: %w", version, err)
		}
	}
	return write(tx.Bucket([]byte(metaBucket)), metaBucket, []byte(formatKey), appendNumbers(nil, f.version))
}
