// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"math/rand/v2"
	"syscall"
	"testing"
)

// TestSumReadsNoFurther sums bytes whose neighbours on both sides must not be read.
func TestSumReadsNoFurther(t *testing.T) {
	page := syscall.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skipf("cannot map memory: %v", err)
	}
	defer func() {
		if err := syscall.Munmap(mem); err != nil {
			t.Errorf("unmap: %v", err)
		}
	}()
	for _, guard := range [][]byte{mem[:page], mem[2*page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Skipf("cannot protect memory: %v", err)
		}
	}
	data := mem[page : 2*page]
	for i := range data {
		data[i] = uint8(rand.Uint32())
	}
	for n := range len(data) {
		checkSum(t, data[:n], 0)
		checkSum(t, data[len(data)-n:], 0)
	}
}
