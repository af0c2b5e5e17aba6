// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// filled makes a store of some size with every kind of record in it, and returns its path.
func filled(t testing.TB) string {
	t.Helper()
	path := filepath.Join(fastDir(t), "store.db")
	s := mustOpen(t, path, Options{LogSize: 20})
	lease, err := s.Grant(background, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	mustTxn(t, s, nil, manyOps(300, bytes.Repeat([]byte("v"), 100))...)
	mustTxn(t, s, nil, Op{Key: "large", Value: make([]byte, 20_000)}, Op{Key: "leased", Lease: lease})
	for i := range 40 {
		mustTxn(t, s, nil, Op{Key: fmt.Sprintf("key/%06d", 7*i), Delete: true}, Op{Key: "n", Value: []byte{byte(i)}})
	}
	mustClose(t, s)
	return path
}

// contents opens a store and returns all that it has, as text.
func contents(path string) (string, error) {
	s, err := Open(path, Options{})
	if err != nil {
		return "", err
	}
	defer s.Close()
	entries, revision, err := s.List(background, "")
	c := s.(*core)
	var log []Changes
	for _, r := range c.state.log {
		log = append(log, Changes{r.revision, r.changes})
	}
	return fmt.Sprint(revision, entries, c.state.compacted, log, len(c.state.leases), c.state.lastLease), err
}

func TestReopen(t *testing.T) {
	path := filled(t)
	first, err := contents(path)
	if err != nil || !strings.Contains(first, "large") {
		t.Fatal(err)
	}
	if again, err := contents(path); err != nil || again != first {
		t.Errorf("the second time it has something else, %v", err)
	}
	info, _ := os.Stat(path)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	if left, _ := filepath.Glob(path + ".*"); left != nil {
		t.Errorf("creation left %v", left)
	}
}

func TestLockedFile(t *testing.T) {
	path := filled(t)
	s := mustOpen(t, path, Options{})
	_, err := Open(path, Options{LockTimeout: time.Millisecond})
	wantErr(t, err, ErrLocked)
	if !strings.Contains(err.Error(), path) {
		t.Errorf("%q does not name the file", err)
	}
	opened := make(chan error)
	go func() {
		s, err := Open(path, Options{LockTimeout: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	mustClose(t, s)
	if err := <-opened; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

// Daemons that start at once on no file share one.
func TestConcurrentCreation(t *testing.T) {
	path := filepath.Join(fastDir(t), "store.db")
	done := make(chan error)
	const n = 8
	for i := range n {
		go func() {
			s, err := Open(path, Options{LockTimeout: time.Minute})
			if err == nil {
				_, err = s.Txn(background, nil, []Op{{Key: fmt.Sprint(i)}})
				err = errors.Join(err, s.Close())
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	s := mustOpen(t, path, Options{})
	defer mustClose(t, s)
	if entries, r, _ := s.List(background, ""); len(entries) != n || r != n {
		t.Errorf("%d entries at revision %d", len(entries), r)
	}
}

// refused opens what is no good, checks that the error is want and says what to do, and that the file is as it was.
func refused(t *testing.T, path string, f format, want any, words ...string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(path, Options{}.withDefaults(), f)
	if err == nil || !errors.As(err, want) {
		t.Fatalf("error is %T: %v", err, err)
	}
	for _, word := range append(words, path) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("the file was changed")
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":               func(b []byte) []byte { return nil },
		"text":                func(b []byte) []byte { return []byte("vpcs: []\n") },
		"more text":           func(b []byte) []byte { return bytes.Repeat([]byte("vpcs: []\n"), 10_000) },
		"one byte":            func(b []byte) []byte { return b[:1] },
		"cut in a meta page":  func(b []byte) []byte { return b[:50] },
		"cut after one meta":  func(b []byte) []byte { return b[:4096] },
		"cut in half":         func(b []byte) []byte { return b[:pagesOf(b)/2] },
		"cut by ten pages":    func(b []byte) []byte { return b[:pagesOf(b)-40960] },
		"both metas zeroed":   func(b []byte) []byte { clear(b[:8192]); return b },
		"all zeroes":          func(b []byte) []byte { clear(b); return b },
		"data pages zeroed":   func(b []byte) []byte { clear(b[8192:]); return b },
		"data pages shifted":  func(b []byte) []byte { copy(b[8192:], b[12288:]); return b },
		"another magic":       func(b []byte) []byte { b[16] ^= 1; b[4096+16] ^= 1; return b },
		"one value changed":   func(b []byte) []byte { return flipAll(b, "vvvvvvvv", "vvvvvvvw") },
		"one key changed":     func(b []byte) []byte { return flipAll(b, "key/000201", "key/000202") },
		"header key misspelt": func(b []byte) []byte { return flipAll(b, headerKey, "hooder") },
		"bucket misspelt":     func(b []byte) []byte { return flipAll(b, leaseBucket, "lesaes") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, path, current, new(*DamagedError), "damaged", "isthmus export", "Nothing was changed")
		})
	}
}

// pagesOf returns how many bytes of a file the newer meta page counts as pages.
func pagesOf(b []byte) uint64 {
	first, _ := parseMeta(b[pageHeader:])
	second, _ := parseMeta(b[4096+pageHeader:])
	if second.transaction > first.transaction {
		first = second
	}
	return first.pages * 4096
}

func flipAll(b []byte, old, with string) []byte {
	return bytes.ReplaceAll(b, []byte(old), []byte(with))
}

func TestForeignDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(fastDir(t), "other.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte(metaBucket))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, Options{})
	wantErr(t, err, ErrForeign)
	if !strings.Contains(err.Error(), path) {
		t.Errorf("%q does not name the file", err)
	}
}

func TestUnusablePaths(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"no directory":   filepath.Join(dir, "none", "store.db"),
		"a directory":    dir,
		"below a file":   filepath.Join(filled(t), "store.db"),
		"a device":       "/dev/null",
		"dangling link":  dangling(t, dir),
		"no path at all": "",
	} {
		_, err := Open(path, Options{})
		if err == nil || !strings.Contains(err.Error(), "store") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func dangling(t *testing.T, dir string) string {
	path := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVersions(t *testing.T) {
	path := filled(t)
	before, err := contents(path)
	if err != nil {
		t.Fatal(err)
	}
	rename := func(tx *bbolt.Tx) error { // what a migration may do: no meaning of its own
		meta := tx.Bucket([]byte(metaBucket))
		return meta.Put([]byte("note"), append(meta.Get([]byte("note")), '+'))
	}
	three := format{version: 3, migrations: map[uint64]func(*bbolt.Tx) error{1: rename, 2: rename}}

	fails := format{version: 3, migrations: map[uint64]func(*bbolt.Tx) error{1: rename, 2: func(tx *bbolt.Tx) error {
		return errors.Join(rename(tx), errPicky)
	}}}
	_, err = open(path, Options{}.withDefaults(), fails)
	wantErr(t, err, errPicky)
	spoils := format{version: 2, migrations: map[uint64]func(*bbolt.Tx) error{1: func(tx *bbolt.Tx) error {
		return tx.DeleteBucket([]byte(leaseBucket))
	}}}
	if _, err = open(path, Options{}.withDefaults(), spoils); err == nil || !strings.Contains(err.Error(), leaseBucket) {
		t.Errorf("a migration that loses a bucket: %v", err)
	}
	if now, err := contents(path); err != nil || now != before {
		t.Fatalf("a migration that failed left something, %v", err)
	}

	refused(t, path, format{version: 3, migrations: map[uint64]func(*bbolt.Tx) error{2: rename}}, new(*VersionError),
		"version 1", "version 3", "isthmus export")
	c, err := open(path, Options{}.withDefaults(), three)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	refused(t, path, current, new(*VersionError), "version 3", "up to 1", "newer isthmus")

	if c, err = open(path, Options{}.withDefaults(), three); err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, c)
	_ = c.journal.(*bolt).db.View(func(tx *bbolt.Tx) error {
		if note := tx.Bucket([]byte(metaBucket)).Get([]byte("note")); string(note) != "++" {
			t.Errorf("each migration should have run once: %q", note)
		}
		return nil
	})
}

func TestFormatIsChecked(t *testing.T) {
	path := filled(t)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(metaBucket)).Put([]byte(formatKey), binary.AppendUvarint(nil, 1))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	refused(t, path, current, new(*DamagedError), "format", "checksum")
}

// A file that is cut while it is open: writes fail, reads go on, nothing crashes, and the lock goes with Close.
func TestFileCutWhileOpen(t *testing.T) {
	path := filled(t)
	s := mustOpen(t, path, Options{})
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := s.Txn(background, nil, manyOps(10, nil))
		wantErr(t, err, ErrBroken)
	}
	if _, err := s.Get(background, "large"); err != nil {
		t.Errorf("cannot read: %v", err)
	}
	mustClose(t, s)
	var damaged *DamagedError
	if _, err := Open(path, Options{LockTimeout: time.Millisecond}); !errors.As(err, &damaged) {
		t.Errorf("open after it: %v", err)
	}
}

// A log kept shorter, or longer, than before.
func TestReopenWithAnotherLogSize(t *testing.T) {
	path := filled(t)
	for _, size := range []int{5, 50, 1} {
		s := mustOpen(t, path, Options{LogSize: size})
		mustPut(t, s, "n", "")
		mustPut(t, s, "n", "")
		if log := s.(*core).state.log; len(log) != map[int]int{5: 5, 50: 7, 1: 1}[size] {
			t.Errorf("log of size %d has %d", size, len(log))
		}
		mustClose(t, s)
	}
}
