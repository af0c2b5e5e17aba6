// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// maxUDPSegments is how many datagrams the kernel accepts in one UDP super-packet (UDP_MAX_SEGMENTS).
const maxUDPSegments = 128

// sender writes packets to one descriptor of a device. It belongs to one goroutine at a time.
type sender struct {
	fd   int // -1 when closed
	gone bool

	vnet   int                 // bytes of offload header before each frame: vnetHdrLen or 0
	l2     int                 // bytes of link header before each packet: wire.EtherLen or 0
	header [wire.EtherLen]byte // the link header of the next packet

	// What the kernel takes from us; for the rest a packet is completed or cut here.
	csum, tso, uso bool

	vectors []unix.Iovec // of a gathering write
	seg     Segmenter
	segment *Buffer // the segment being sent, made when first needed
	cut     uint64  // super-packets cut here, since whoever counts them last looked
}

// transmit sends b, cut if it must be, and returns how many packets the device took and how many it refused.
func (s *sender) transmit(b *Buffer) (sent, refused uint64) {
	if !s.takes(b) {
		return s.transmitSegments(b)
	}
	if !s.csum {
		b.Flatten()
		Complete(b)
	}
	errno := s.write(b)
	if errno == unix.EINVAL && b.GSOType != GSONone {
		// The kernel has rules of its own (a known one refused every short last segment); cutting costs time only.
		return s.transmitSegments(b)
	}
	if errno != 0 {
		return 0, 1
	}
	return 1, 0
}

// takes says whether the device accepts b unsplit.
func (s *sender) takes(b *Buffer) bool {
	switch b.GSOType {
	case GSONone:
		return true
	case GSOUDP:
		return s.uso && b.Size()-int(b.HdrLen) <= maxUDPSegments*int(b.GSOSize)
	}
	return s.tso
}

func (s *sender) transmitSegments(b *Buffer) (sent, refused uint64) {
	b.Flatten()
	if s.segment == nil {
		s.segment = NewBuffer()
	}
	s.cut++
	s.seg.Start(b)
	for s.seg.Next(s.segment) {
		if s.write(s.segment) == 0 {
			sent++
		} else {
			refused++
		}
	}
	return sent, refused
}

// write writes b with its headers in one call. The window is as before afterwards.
func (s *sender) write(b *Buffer) unix.Errno {
	if s.gone {
		return unix.EBADFD
	}
	if len(b.tail) >= maxParts {
		b.Flatten()
	}
	off := b.off
	if s.l2 != 0 {
		copy(b.Push(s.l2), s.header[:])
	}
	if s.vnet != 0 {
		putVnetHdr(b.Push(s.vnet), &b.Offload, uint16(s.l2))
	}
	frame := b.mem[b.off:b.end]
	b.off = off
	for {
		errno := s.put(frame, b.tail)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EBADFD, unix.EBADF, unix.ENODEV:
			s.gone = true
		}
		return errno
	}
}
