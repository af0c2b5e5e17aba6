// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchBytes is about how many bytes one Receive hands out at most. Two such batches, one being read and one being
// written, stay in a level 2 cache of half a megabyte; more would be fetched from memory a second time by the write.
const batchBytes = 128 << 10

// counters are one queue's share of Stats. They are written by the queue's worker, once a batch, and read by anyone.
type counters struct {
	rxPackets, rxBytes, rxInvalid, rxForeign  atomic.Uint64
	txPackets, txBytes, txRefused, neighbours atomic.Uint64
	segmented                                 atomic.Uint64
	_                                         [56]byte // no cache line is shared with the next queue's
}

func (c *counters) addTo(s *Stats) {
	s.RxPackets += c.rxPackets.Load()
	s.RxBytes += c.rxBytes.Load()
	s.RxInvalid += c.rxInvalid.Load()
	s.RxForeign += c.rxForeign.Load()
	s.TxPackets += c.txPackets.Load()
	s.TxBytes += c.txBytes.Load()
	s.TxRefused += c.txRefused.Load()
	s.NeighbourDropped += c.neighbours.Load()
	s.Segmented += c.segmented.Load()
}

// queue is one queue of a TUN or TAP device.
//
// Every packet is read and written by a single read(2) or write(2), the offload header and the link header lying in the
// Buffer's headroom directly before the packet. That is cheaper than readv and writev with a separate header, and needs
// no vectors that the kernel would have to be shown.
type queue struct {
	// mu is held by Receive and Send for a whole batch, so that Close cannot free the descriptor's number under a read.
	// Only Close ever contends for it.
	mu sync.Mutex
	sender
	link *link // nil at layer 3
	counters
}

// receive is Port.Receive.
func (q *queue) receive(bufs []*Buffer) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return 0, ErrClosed
	}
	n, bytes := 0, 0
	var invalid, foreign uint64
	// Each turn reads one frame, whether it is for us or not: a flood of foreign frames cannot hold the worker here.
	for range bufs {
		b := bufs[n]
		errno := q.read(b)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			q.gone = errno != unix.EAGAIN
			break
		}
		switch q.classify(b) {
		case frameOurs:
			n++
			bytes += b.Len()
		case frameForeign:
			foreign++
		case frameInvalid:
			invalid++
		case frameControl:
		}
		if bytes >= batchBytes {
			break
		}
	}
	if n > 0 {
		q.rxPackets.Add(uint64(n))
		q.rxBytes.Add(uint64(bytes))
	}
	if invalid|foreign != 0 {
		q.rxInvalid.Add(invalid)
		q.rxForeign.Add(foreign)
	}
	if n == 0 && q.gone {
		return 0, ErrClosed
	}
	return n, nil
}

// read reads one frame into b and leaves the window on the link header, or the IP header where there is none, with the
// raw offload header before it.
func (q *queue) read(b *Buffer) unix.Errno {
	b.Reset()
	at := Headroom - q.vnet - q.l2
	room := b.mem[at:]
	r, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)))
	if errno != 0 {
		return errno
	}
	b.off = at + q.vnet
	b.end = max(b.off, at+int(r))
	return 0
}

// frameClass says what becomes of a frame.
type frameClass uint8

const (
	frameInvalid frameClass = iota // breaks a rule
	frameOurs                      // an IP packet for the engine; the window is on its IP header
	frameForeign                   // not for us: the bridge floods what it has not learned
	frameControl                   // consumed here: ARP
)

// classify decodes the headers before the packet and moves the window onto it.
func (q *queue) classify(b *Buffer) frameClass {
	at := b.off - q.vnet
	if q.link != nil {
		if class := q.link.classify(b); class != frameOurs {
			return class
		}
		b.Pull(q.l2)
	}
	if q.vnet != 0 {
		o, ok := getVnetHdr(b.mem[at:at+vnetHdrLen], uint16(q.l2))
		if !ok {
			return frameInvalid
		}
		b.Offload = o
	}
	if !b.check() {
		return frameInvalid
	}
	return frameOurs
}

// send is Port.Send.
func (q *queue) send(bufs []*Buffer) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := 0
	var packets, bytes, refused, unresolved uint64
	for _, b := range bufs {
		if q.link != nil {
			switch q.link.resolve(b, &q.header) {
			case hopWaiting:
				taken++
				continue
			case hopNone:
				unresolved++
				continue
			}
		}
		size := uint64(b.Size())
		sent, lost := q.transmit(b)
		packets += sent
		refused += lost
		if lost == 0 {
			taken++
			bytes += size
		}
	}
	q.txPackets.Add(packets)
	q.txBytes.Add(bytes)
	if refused|unresolved|q.cut != 0 {
		q.txRefused.Add(refused)
		q.neighbours.Add(unresolved)
		q.segmented.Add(q.cut)
		q.cut = 0
	}
	return taken
}

// close releases the descriptor when the call under way, if any, has returned.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gone = true
	if q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
}
