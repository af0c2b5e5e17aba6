// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestRecordsAreBoundToTheirPlace(t *testing.T) {
	sealed := seal("bucket", []byte("key"), []byte("body"))
	if body, err := unseal("bucket", []byte("key"), sealed); err != nil || string(body) != "body" {
		t.Fatalf("%q, %v", body, err)
	}
	for _, place := range [][2]string{{"bucket", "kez"}, {"bucke", "tkey"}, {"bucketk", "ey"}, {"bucket", ""}} {
		if _, err := unseal(place[0], []byte(place[1]), sealed); err == nil {
			t.Errorf("is good in %q too", place)
		}
	}
	for i := range 8 * len(sealed) {
		flipped := bytes.Clone(sealed)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := unseal("bucket", []byte("key"), flipped); err == nil {
			t.Errorf("bit %d can be flipped", i)
		}
	}
	for n := range sealed {
		if _, err := unseal("bucket", []byte("key"), sealed[:n]); err == nil {
			t.Errorf("can be cut to %d bytes", n)
		}
	}
}

// Whatever decodes says the same when it is encoded and decoded once more; nothing makes a decoder panic.
func FuzzRecords(f *testing.F) {
	f.Add(encodeEntry(Entry{Key: "k", Value: []byte("v"), Created: 3, Modified: 300, Version: 2, Lease: 1 << 40}))
	f.Add(encodeRecord(&record{revision: 300, changes: []Change{
		{Entry: Entry{Key: "k", Value: []byte("v"), Created: 3, Modified: 300, Version: 2}}, {Entry: Entry{Key: "d"}, Deleted: true},
	}}))
	f.Add(encodeLease(&lease{ttl: time.Hour}))
	f.Add(encodeHeader(header{revision: 300, compacted: 2, lastLease: 3, serial: 400, entries: 5, leases: 6}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if e, err := decodeEntry("k", body); err == nil {
			again, err := decodeEntry("k", encodeEntry(e))
			sameValue(t, e, again, err)
		}
		if r, err := decodeRecord(300, body); err == nil {
			again, err := decodeRecord(300, encodeRecord(r))
			sameValue(t, r, again, err)
		}
		if l, err := decodeLease(1, body); err == nil {
			again, err := decodeLease(1, encodeLease(l))
			sameValue(t, l, again, err)
		}
		if h, err := decodeHeader(body); err == nil {
			again, err := decodeHeader(encodeHeader(h))
			sameValue(t, h, again, err)
		}
	})
}

func sameValue[T any](t *testing.T, want, got T, err error) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v came back as %+v, %v", want, got, err)
	}
}

// Bits of a file that flip: Open says so, or the file reads as if nothing had happened because the bit was in no use.
// It must not panic, nor hang, nor return something else.
func FuzzFlippedBits(f *testing.F) {
	original := filled(f)
	want, err := contents(original)
	if err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(original)
	if err != nil {
		f.Fatal(err)
	}
	used := pagesOf(file)
	path := filepath.Join(fastDir(f), "damaged.db")
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		f.Add(random.Uint32(), byte(1<<random.IntN(8)), random.Uint32(), byte(random.IntN(256)))
	}
	f.Fuzz(func(t *testing.T, first uint32, x byte, second uint32, y byte) {
		b := bytes.Clone(file)
		at := uint64(first) % used
		b[at] ^= x
		b[at-at%4096+uint64(second)%4096] ^= y // in the same page
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := contents(path)
		var damaged *DamagedError
		switch {
		case err == nil && got != want && !oneMetaLeft(b):
			t.Error("the damaged file reads as something else")
		case err != nil && !errors.As(err, &damaged) && !errors.Is(err, ErrForeign):
			t.Errorf("%T: %v", err, err)
		}
	})
}

// oneMetaLeft reports whether the newer meta page was hit: that cannot be told from a write that did not come through.
func oneMetaLeft(b []byte) bool {
	_, first := parseMeta(b[pageHeader:])
	_, second := parseMeta(b[4096+pageHeader:])
	return first != second
}
