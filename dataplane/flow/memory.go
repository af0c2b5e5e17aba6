// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Large arrays are mapped from the kernel, in huge pages where it has them. A table is touched at random: in small pages
// its first thousands of flows would each cost a page fault or two, and all later ones misses of the TLB. Mapped memory is
// zero, and not resident before it is touched.
const (
	hugePage     = 2 << 20
	madvHugePage = 14 // MADV_HUGEPAGE, which package syscall lacks
)

// mapping is mapped memory that goes back to the kernel with the table it belongs to.
type mapping []byte

// newArray makes an array of n zero elements, which must hold no pointers. The mapping is nil for small ones, which lie
// in the heap, as does everything where the kernel refuses.
func newArray[T any](n int) ([]T, mapping) {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	if size < hugePage {
		return make([]T, n), nil
	}
	m, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return make([]T, n), nil
	}
	_ = syscall.Madvise(m, madvHugePage) // without huge pages it is only slower
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(m))), n), m
}

// keep gives mappings back when nothing refers to the table any more.
func keep[T any](table *T, mappings ...mapping) *T {
	for _, m := range mappings {
		if m != nil {
			runtime.AddCleanup(table, func(m mapping) { _ = syscall.Munmap(m) }, m)
		}
	}
	return table
}
