// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A packet to be sent may go on behind its window in memory that lies elsewhere: its tail. So a super-packet can be put
// together of pieces of others, or get headers between its segments, without a copy of the payload. The parts are
// borrowed, from whoever owns them, until Send has returned. A device takes them by a gathering write; where a port
// needs the packet in one piece it flattens it. Only Send looks at a tail: Bytes and Len speak of the window alone.

// AddTail appends a part to the packet. The part must stay as it is until Send has returned.
func (b *Buffer) AddTail(part []byte) {
	b.tail = append(b.tail, part)
	b.tailLen += len(part)
}

// Size is the length of the packet with its tail, in bytes.
func (b *Buffer) Size() int { return b.end - b.off + b.tailLen }

// Flatten copies the tail behind the window, where it becomes part of it. The whole must fit: MaxPacket bytes do. A window
// that was pulled so far that they would not is moved back to where it was.
func (b *Buffer) Flatten() {
	if b.tailLen > b.Tailroom() {
		n := copy(b.mem[Headroom:], b.Bytes())
		b.off, b.end = Headroom, Headroom+n
	}
	for _, part := range b.tail {
		b.end += copy(b.mem[b.end:], part)
	}
	b.dropTail()
}

func (b *Buffer) dropTail() { b.tail, b.tailLen = b.tail[:0], 0 }

// maxParts is how many parts one gathering write takes, the kernel's UIO_MAXIOV.
const maxParts = 1024

// put writes a frame whose headers are in head. The vectors are the sender's, where the garbage collector can find what
// they point to.
func (s *sender) put(head []byte, tail [][]byte) (errno unix.Errno) {
	if len(tail) == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(head))), uintptr(len(head)))
		return errno
	}
	s.vectors = append(s.vectors[:0], vectorOf(head))
	for _, part := range tail {
		s.vectors = append(s.vectors, vectorOf(part))
	}
	_, _, errno = unix.RawSyscall(unix.SYS_WRITEV, uintptr(s.fd), uintptr(unsafe.Pointer(&s.vectors[0])), uintptr(len(s.vectors)))
	return errno
}

func vectorOf(b []byte) unix.Iovec { return unix.Iovec{Base: unsafe.SliceData(b), Len: uint64(len(b))} }
