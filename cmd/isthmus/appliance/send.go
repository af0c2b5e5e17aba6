// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of a UDP super-packet.
const (
	superMost    = 65507 // payload bytes
	segmentsMost = 64    // what every kernel that knows UDP_SEGMENT takes
)

// sendCounts count how answers left. Any goroutine may read them.
type sendCounts struct {
	supers, inSupers, singles, calls, sockets, failed, failedBytes atomic.Uint64
}

// sender sends datagrams in batches, in the order in which they were added. Those of one route that stand behind each other and
// have one size leave as a super-packet. What is added is borrowed until flush.
type sender struct {
	counts  *sendCounts
	raw     *rawSocket
	sockets *boundSockets
	// whole is set once super-packets turn out not to work.
	whole bool

	to     route // of the run in the making
	size   int   // of its datagrams but the last, which may be shorter
	bytes  int
	count  int
	closed bool // the last datagram is in
	iovs   []unix.Iovec
}

// newSender makes a sender whose sockets belong to the namespace of the calling thread, which must be that of all calls.
func newSender(counts *sendCounts) (*sender, error) {
	raw, err := newRawSocket(counts)
	if err != nil {
		return nil, err
	}
	return &sender{counts: counts, raw: raw, sockets: newBoundSockets(counts)}, nil
}

func (s *sender) close() {
	s.sockets.close()
	s.raw.close()
}

// add sends a datagram, which consists of parts, at most three, some time before flush returns.
func (s *sender) add(to *route, parts ...[]byte) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if s.count > 0 && (s.whole || s.closed || *to != s.to || size > s.size || s.bytes+size > superMost) {
		s.end()
	}
	if s.count == 0 {
		s.to, s.size = *to, size
	}
	for _, part := range parts {
		s.append(part)
	}
	s.bytes += size
	s.count++
	s.closed = size < s.size || s.count == segmentsMost
}

// append adds bytes to the run, to its last piece where they lie behind it in memory, as the datagrams of a super-packet do.
func (s *sender) append(part []byte) {
	if len(part) == 0 {
		return
	}
	if n := len(s.iovs); n > 0 {
		last := &s.iovs[n-1]
		if unsafe.Add(unsafe.Pointer(last.Base), int(last.Len)) == unsafe.Pointer(&part[0]) {
			last.SetLen(int(last.Len) + len(part))
			return
		}
	}
	v := unix.Iovec{Base: &part[0]}
	v.SetLen(len(part))
	s.iovs = append(s.iovs, v)
}

// flush sends all that has been added.
func (s *sender) flush() {
	s.end()
	s.raw.flush()
}

// end sends the run, or leaves it with the raw socket.
func (s *sender) end() {
	switch {
	case s.count == 0:
		return
	case s.count == 1:
		s.raw.add(&s.to, s.iovs, s.bytes)
	default:
		s.raw.flush() // it may hold earlier datagrams of this route
		if fd := s.sockets.get(&s.to); fd >= 0 {
			s.sendSuper(fd)
		} else {
			s.sendSingly()
		}
	}
	s.count, s.bytes, s.closed = 0, 0, false
	s.iovs = s.iovs[:0]
}

// segmentControl is the control message that asks for UDP_SEGMENT.
type segmentControl struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte
}

func (s *sender) sendSuper(fd int) {
	control := segmentControl{size: uint16(s.size)}
	control.hdr.Level, control.hdr.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	control.hdr.SetLen(unix.CmsgLen(2))
	msg := unix.Msghdr{Iov: &s.iovs[0], Control: (*byte)(unsafe.Pointer(&control))}
	msg.SetIovlen(len(s.iovs))
	msg.SetControllen(unix.CmsgSpace(2))
	var errno unix.Errno
	for {
		_, _, errno = unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), 0)
		// An ICMP error of an earlier datagram is reported, once, in place of a send.
		if errno != unix.EINTR && errno != unix.ECONNREFUSED {
			break
		}
	}
	s.counts.calls.Add(1)
	if errno == 0 {
		s.counts.supers.Add(1)
		s.counts.inSupers.Add(uint64(s.count))
		return
	}
	// EIO: the device computes no checksums, and the kernel is older than 6.11.
	if errors.Is(errno, unix.EIO) || errors.Is(errno, unix.EOPNOTSUPP) {
		s.whole = true
	}
	s.counts.failed.Add(uint64(s.count))
	s.counts.failedBytes.Add(uint64(s.bytes))
}

// sendSingly sends the datagrams of the run one by one, by the raw socket.
func (s *sender) sendSingly() {
	var pieces [4]unix.Iovec
	i, offset := 0, 0
	for left := s.bytes; left > 0; {
		size := min(s.size, left)
		left -= size
		n := 0
		for need := size; need > 0; n++ {
			v := s.iovs[i]
			take := min(int(v.Len)-offset, need)
			pieces[n] = unix.Iovec{Base: (*byte)(unsafe.Add(unsafe.Pointer(v.Base), offset))}
			pieces[n].SetLen(take)
			if offset += take; offset == int(v.Len) {
				i, offset = i+1, 0
			}
			need -= take
		}
		s.raw.add(&s.to, pieces[:n], size)
	}
}
