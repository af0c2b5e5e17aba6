// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A record of the file is a checksum and a body. The checksum (CRC-32C, big endian) is also over the bucket and the key
// that the record stands under, so that a record that got to another place is noticed too. Numbers in a body are
// unsigned varints as encoding/binary has them.
//
//	entry       created, modified, version, lease; the rest is the value
//	transaction number of changes; each: 0, length of key, key for a deletion, or
//	            1, length of key, key, created, version, lease, length of value, value
//	lease       time to live in nanoseconds
//	header      revision, compacted, last lease, serial, number of entries, number of leases
//	format      version

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errChecksum  = errors.New("its checksum does not match")
	errMalformed = errors.New("its fields do not add up")
)

// seal returns body as a record that stands under key in bucket.
func seal(bucket string, key, body []byte) []byte {
	sealed := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(sealed, checksum(bucket, key, body))
	return append(sealed, body...)
}

// unseal returns the body of a record, a part of it.
func unseal(bucket string, key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != checksum(bucket, key, sealed[4:]) {
		return nil, errChecksum
	}
	return sealed[4:], nil
}

func checksum(bucket string, key, body []byte) uint32 {
	sum := crc32.Update(0, castagnoli, append([]byte(bucket), byte(len(key)>>8), byte(len(key))))
	return crc32.Update(crc32.Update(sum, castagnoli, key), castagnoli, body)
}

// reader takes a body apart. After an error it returns zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// bytes returns a length and as many bytes, copied.
func (r *reader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := append([]byte{}, r.rest[:n]...)
	r.rest = r.rest[n:]
	return b
}

// end reports whether all of a body was read, and no more.
func (r *reader) end() error {
	if r.bad || len(r.rest) > 0 {
		return errMalformed
	}
	return nil
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func encodeEntry(e Entry) []byte {
	return append(appendNumbers(nil, e.Created, e.Modified, e.Version, uint64(e.Lease)), e.Value...)
}

func decodeEntry(key string, body []byte) (Entry, error) {
	r := reader{rest: body}
	e := Entry{Key: key, Created: r.number(), Modified: r.number(), Version: r.number(), Lease: LeaseID(r.number())}
	if r.bad || !plausible(e) {
		return Entry{}, errMalformed
	}
	e.Value = append([]byte{}, r.rest...)
	return e, nil
}

// plausible reports whether an entry can have come about: each version took a transaction.
func plausible(e Entry) bool {
	return e.Key != "" && e.Created > 0 && e.Created <= e.Modified && e.Version > 0 && e.Version-1 <= e.Modified-e.Created
}

func encodeRecord(t *record) []byte {
	b := appendNumbers(make([]byte, 0, t.bytes()+32*len(t.changes)), uint64(len(t.changes)))
	for _, c := range t.changes {
		kind := uint64(1)
		if c.Deleted {
			kind = 0
		}
		b = append(appendNumbers(b, kind, uint64(len(c.Entry.Key))), c.Entry.Key...)
		if !c.Deleted {
			b = appendNumbers(b, c.Entry.Created, c.Entry.Version, uint64(c.Entry.Lease), uint64(len(c.Entry.Value)))
			b = append(b, c.Entry.Value...)
		}
	}
	return b
}

func decodeRecord(revision Revision, body []byte) (*record, error) {
	r := reader{rest: body}
	t := &record{revision: revision}
	for n := r.number(); n > 0; n-- {
		kind := r.number()
		c := Change{Deleted: kind == 0, Entry: Entry{Key: string(r.bytes()), Modified: revision}}
		if kind == 1 {
			c.Entry.Created, c.Entry.Version, c.Entry.Lease = r.number(), r.number(), LeaseID(r.number())
			c.Entry.Value = r.bytes()
		}
		if r.bad || kind > 1 || c.Entry.Key == "" || kind == 1 && !plausible(c.Entry) {
			return nil, errMalformed
		}
		t.changes = append(t.changes, c)
	}
	if len(t.changes) == 0 {
		return nil, errMalformed
	}
	return t, r.end()
}

func encodeLease(l *lease) []byte { return appendNumbers(nil, uint64(l.ttl)) }

func decodeLease(id LeaseID, body []byte) (*lease, error) {
	r := reader{rest: body}
	l := &lease{id: id, ttl: time.Duration(r.number()), keys: map[string]struct{}{}}
	if l.ttl <= 0 {
		return nil, errMalformed
	}
	return l, r.end()
}

// header is what the file says of itself as a whole. The counts are there to notice what is missing without a trace.
type header struct {
	revision, compacted Revision
	lastLease           LeaseID
	serial              uint64
	entries, leases     int
}

func encodeHeader(h header) []byte {
	return appendNumbers(nil, h.revision, h.compacted, uint64(h.lastLease), h.serial, uint64(h.entries), uint64(h.leases))
}

func decodeHeader(body []byte) (header, error) {
	r := reader{rest: body}
	h := header{revision: r.number(), compacted: r.number(), lastLease: LeaseID(r.number()), serial: r.number(),
		entries: int(r.number()), leases: int(r.number())}
	if h.compacted > h.revision {
		return header{}, errMalformed
	}
	return h, r.end()
}

// bigEndian is a number as a key: in the order of numbers.
func bigEndian(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func fromBigEndian(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("a key of %d bytes: %w", len(key), errMalformed)
	}
	return binary.BigEndian.Uint64(key), nil
}
