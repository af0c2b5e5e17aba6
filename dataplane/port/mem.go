// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import "sync"

// defaultMemDepth is how many packets a memory port's queue holds each way unless told otherwise.
const defaultMemDepth = 256

// MemConfig describes a memory port.
type MemConfig struct {
	Name   string
	Queues int // 0 is one
	// Depth is how many packets a queue holds each way, 0 for 256. Those beyond it are refused, as by a full device.
	Depth int
	// Discard makes Send count packets and keep none.
	Discard bool
	// Replay is what Receive delivers, over and over, on every queue. The buffers are read only, and shared. Inject has
	// no effect then.
	Replay []*Buffer
}

// Mem is a port without a device: packets are injected and taken by the program. It is deterministic, needs no
// privileges, and allocates nothing in Receive and Send once its rings have seen packets of the size at hand. Inject and
// Take may be called from any goroutine.
type Mem struct {
	cfg    MemConfig
	queues []memQueue
}

type memQueue struct {
	mu     sync.Mutex
	rx, tx ring
	next   int // of Replay
	closed bool
	counters
}

var _ Port = (*Mem)(nil)

// NewMem returns a memory port.
func NewMem(cfg MemConfig) *Mem {
	depth := cfg.Depth
	if depth == 0 {
		depth = defaultMemDepth
	}
	m := &Mem{cfg: cfg, queues: make([]memQueue, max(1, cfg.Queues))}
	for i := range m.queues {
		m.queues[i].rx.slots = make([]packet, depth)
		m.queues[i].tx.slots = make([]packet, depth)
	}
	return m
}

// Inject makes copies of plain packets ready on a queue, in order, and returns how many fitted.
func (m *Mem) Inject(queue int, packets ...[]byte) int {
	q := &m.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, p := range packets {
		if !q.rx.push(packet{data: p}) {
			return i
		}
	}
	return len(packets)
}

// InjectBuffers is Inject for packets with offload fields.
func (m *Mem) InjectBuffers(queue int, bufs ...*Buffer) int {
	q := &m.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, b := range bufs {
		if !q.rx.push(packetOf(b)) {
			return i
		}
	}
	return len(bufs)
}

// Take returns what was sent on a queue since it was last taken, as a receiver without offloads would see it:
// super-packets cut, checksums complete.
func (m *Mem) Take(queue int) [][]byte {
	var out [][]byte
	var seg Segmenter
	cut := NewBuffer()
	for _, b := range m.TakeBuffers(queue) {
		seg.Start(b)
		for seg.Next(cut) {
			out = append(out, append([]byte(nil), cut.Bytes()...))
		}
	}
	return out
}

// TakeBuffers returns what was sent on a queue since it was last taken, as it was sent. The caller owns the buffers.
func (m *Mem) TakeBuffers(queue int) []*Buffer {
	q := &m.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*Buffer
	for q.tx.len > 0 {
		b := NewBuffer()
		q.tx.pop(b)
		out = append(out, b)
	}
	return out
}

// Name is part of Port.
func (m *Mem) Name() string { return m.cfg.Name }

// Queues is part of Port.
func (m *Mem) Queues() int { return len(m.queues) }

// Receive is part of Port.
func (m *Mem) Receive(queue int, bufs []*Buffer) (int, error) {
	q := &m.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, ErrClosed
	}
	n, bytes := 0, 0
	for n < len(bufs) && bytes < batchBytes {
		b := bufs[n]
		if r := m.cfg.Replay; len(r) > 0 {
			b.CopyFrom(r[q.next])
			q.next = (q.next + 1) % len(r)
		} else if q.rx.len > 0 {
			q.rx.pop(b)
		} else {
			break
		}
		n++
		bytes += b.Len()
	}
	q.rxPackets.Add(uint64(n))
	q.rxBytes.Add(uint64(bytes))
	return n, nil
}

// Send is part of Port.
func (m *Mem) Send(queue int, bufs []*Buffer) int {
	q := &m.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	taken, bytes := 0, 0
	for _, b := range bufs {
		size := b.Size()
		if !m.cfg.Discard {
			b.Flatten()
		}
		if q.closed || !m.cfg.Discard && !q.tx.push(packetOf(b)) {
			continue
		}
		taken++
		bytes += size
	}
	q.txPackets.Add(uint64(taken))
	q.txBytes.Add(uint64(bytes))
	q.txRefused.Add(uint64(len(bufs) - taken))
	return taken
}

// FD is part of Port: a memory port has no descriptor.
func (m *Mem) FD(int) int { return -1 }

// Stats is part of Port.
func (m *Mem) Stats() Stats {
	var s Stats
	for i := range m.queues {
		m.queues[i].addTo(&s)
	}
	return s
}

// Close is part of Port. What was sent can still be taken.
func (m *Mem) Close() error {
	for i := range m.queues {
		q := &m.queues[i]
		q.mu.Lock()
		q.closed = true
		q.mu.Unlock()
	}
	return nil
}
