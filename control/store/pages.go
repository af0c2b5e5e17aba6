// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
)

// bbolt trusts its pages: it follows their offsets in mapped memory without looking where they lead, partly in
// goroutines whose faults nobody can catch. So the pages of a file are judged here first, by reading. The layout is that
// of version 2 of bbolt's format, in the byte order of the machine:
//
//	page    id 8, kind 2, elements 2, further pages that belong to it 4; elements; their keys and values
//	branch  elements: offset of the key from the element 4, length of the key 4, page 8
//	leaf    elements: 1 if it is a bucket 4, offset 4, length of the key 4, length of the value after it 4
//	bucket  the value: root page 8, sequence 8; if the root page is 0, a leaf page follows
//	free    8 for each page; if there are 65535 elements or more, first their number
//	meta    magic 4, version 4, page size 4, flags 4, root bucket 16, free list 8, pages 8, transaction 8, checksum 8
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16
	element     = 16
	bucketValue = 16
	metaSize    = 64

	branchPage = 1
	leafPage   = 2
	freePage   = 16

	noFreelist = ^uint64(0)

	maxDepth = 64 // of a tree; one with two keys to a page would fill any disk before
)

var order = binary.NativeEndian

// boltMeta is what a meta page says.
type boltMeta struct {
	pageSize                       int64
	root, free, pages, transaction uint64
}

// pageCheck walks through a file once.
type pageCheck struct {
	file *os.File
	boltMeta
	seen []bool // by page
}

// checkPages reports the first damage of a file in bbolt's format: each page that is in use must be there, belong to one
// place, and hold what its kind should. What keys and values mean is not looked at.
func checkPages(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return errors.New("it is empty, and no store ever is: what it had was lost")
	}
	meta, err := readMetaPages(file, info.Size())
	if err != nil {
		return err
	}
	if need := int64(meta.pages) * meta.pageSize; info.Size() < need {
		return fmt.Errorf("it has %d bytes of at least %d: it was cut off", info.Size(), need)
	}
	c := &pageCheck{file: file, boltMeta: meta, seen: make([]bool, meta.pages)}
	c.seen[0], c.seen[1] = true, true
	if err := c.freelist(); err != nil {
		return err
	}
	if err := c.tree(meta.root, nil, nil, 0); err != nil {
		return err
	}
	for id, seen := range c.seen {
		if !seen && meta.free != noFreelist {
			return fmt.Errorf("page %d is neither in use nor free", id)
		}
	}
	return nil
}

// readMetaPages returns the newer of the two meta pages that is whole. The second one lies where the page size says,
// which may have to be guessed.
func readMetaPages(file *os.File, size int64) (boltMeta, error) {
	newest, found, magic := boltMeta{}, false, false
	for at := int64(0); at <= 16<<20 && at < size; at = max(1024, 2*at) {
		b := make([]byte, pageHeader+metaSize)
		if _, err := file.ReadAt(b, at); err != nil {
			break
		}
		m, ok := parseMeta(b[pageHeader:])
		magic = magic || order.Uint32(b[pageHeader:]) == boltMagic
		if ok && (at == 0 || at == m.pageSize) && (!found || m.transaction > newest.transaction) {
			newest, found = m, true
		}
	}
	switch {
	case found:
		return newest, nil
	case magic:
		return boltMeta{}, errors.New("neither of its two meta pages is whole")
	}
	return boltMeta{}, fmt.Errorf("it does not begin as a bbolt database does: %w", ErrForeign)
}

func parseMeta(b []byte) (boltMeta, bool) {
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	m := boltMeta{
		pageSize: int64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]), free: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), transaction: order.Uint64(b[48:]),
	}
	ok := order.Uint32(b) == boltMagic && order.Uint32(b[4:]) == boltVersion && order.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= 1024 && m.pages >= 4 && m.pages <= uint64(1<<62)/uint64(m.pageSize)
	return m, ok
}

// read returns a page with those that belong to it, and takes note of them.
func (c *pageCheck) read(id uint64) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, fmt.Errorf("page %d is referred to, of %d", id, c.pages)
	}
	page := make([]byte, c.pageSize)
	if _, err := c.file.ReadAt(page, int64(id)*c.pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if self := order.Uint64(page); self != id {
		return nil, fmt.Errorf("page %d says it is page %d", id, self)
	}
	more := uint64(order.Uint32(page[12:]))
	if more >= c.pages-id {
		return nil, fmt.Errorf("page %d has %d more, of %d in all", id, more, c.pages)
	}
	for i := id; i <= id+more; i++ {
		if err := c.mark(i); err != nil {
			return nil, err
		}
	}
	if more > 0 {
		page = append(page, make([]byte, int64(more)*c.pageSize)...)
		if _, err := c.file.ReadAt(page[c.pageSize:], int64(id+1)*c.pageSize); err != nil {
			return nil, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return page, nil
}

func (c *pageCheck) mark(id uint64) error {
	if c.seen[id] {
		return fmt.Errorf("page %d is in two places, or both in use and free", id)
	}
	c.seen[id] = true
	return nil
}

// freelist checks the list of free pages.
func (c *pageCheck) freelist() error {
	if c.free == noFreelist {
		return nil
	}
	page, err := c.read(c.free)
	if err != nil {
		return err
	}
	ids := page[pageHeader:]
	count := uint64(order.Uint16(page[10:]))
	if count == 0xFFFF {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(page[8:]) != freePage || count > uint64(len(ids)/8) {
		return fmt.Errorf("page %d is not the list of free pages", c.free)
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= c.pages {
			return fmt.Errorf("page %d is free, of %d", id, c.pages)
		}
		if err := c.mark(id); err != nil {
			return err
		}
	}
	return nil
}

// tree checks a page and what hangs on it. Its keys must be from low up to, but without, high; nil is no bound.
func (c *pageCheck) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is more than %d pages deep", id, maxDepth)
	}
	page, err := c.read(id)
	if err != nil {
		return err
	}
	switch order.Uint16(page[8:]) {
	case leafPage:
		return c.leaf(id, page, low, high, depth)
	case branchPage:
		return c.branch(id, page, low, high, depth)
	}
	return fmt.Errorf("page %d is of kind %#x, not a branch or a leaf", id, order.Uint16(page[8:]))
}

func (c *pageCheck) branch(id uint64, page, low, high []byte, depth int) error {
	keys, err := pageKeys(id, page, false)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return fmt.Errorf("page %d is a branch that leads nowhere", id)
	}
	if err := checkOrder(id, keys, low, high); err != nil {
		return err
	}
	for i, key := range keys {
		end := high
		if i+1 < len(keys) {
			end = keys[i+1]
		}
		child := order.Uint64(page[pageHeader+element*i+8:])
		if err := c.tree(child, key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *pageCheck) leaf(id uint64, page, low, high []byte, depth int) error {
	keys, err := pageKeys(id, page, true)
	if err != nil {
		return err
	}
	if err := checkOrder(id, keys, low, high); err != nil {
		return err
	}
	for i := range keys {
		e := page[pageHeader+element*i:]
		if order.Uint32(e)&1 == 0 {
			continue
		}
		start := order.Uint32(e[4:]) + order.Uint32(e[8:])
		value := e[start : start+order.Uint32(e[12:])]
		if err := c.bucket(id, value, depth); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the value of a leaf that is a bucket.
func (c *pageCheck) bucket(id uint64, value []byte, depth int) error {
	if len(value) < bucketValue {
		return fmt.Errorf("page %d has a bucket of %d bytes", id, len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return c.tree(root, nil, nil, depth+1)
	}
	inline := value[bucketValue:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != leafPage || depth > maxDepth {
		return fmt.Errorf("page %d has a bucket that is no leaf", id)
	}
	return c.leaf(id, inline, nil, nil, depth+1)
}

// pageKeys returns the keys of a branch or a leaf, parts of the page. In a leaf the values are within the page too then.
func pageKeys(id uint64, page []byte, leaf bool) ([][]byte, error) {
	count := int(order.Uint16(page[10:]))
	if pageHeader+element*count > len(page) {
		return nil, fmt.Errorf("page %d has %d elements, more than fit", id, count)
	}
	keys := make([][]byte, count)
	for i := range keys {
		e := page[pageHeader+element*i:]
		offset, key, value := order.Uint32(e), order.Uint32(e[4:]), uint32(0)
		if leaf {
			offset, key, value = order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
		}
		if key == 0 || uint64(offset)+uint64(key)+uint64(value) > uint64(len(e)) {
			return nil, fmt.Errorf("page %d: element %d is not within the page", id, i)
		}
		keys[i] = e[offset : offset+key]
	}
	return keys, nil
}

func checkOrder(id uint64, keys [][]byte, low, high []byte) error {
	for i, key := range keys {
		if bytes.Compare(key, low) < 0 || i > 0 && bytes.Equal(key, low) || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("page %d: key %d is out of order", id, i)
		}
		low = key
	}
	return nil
}
