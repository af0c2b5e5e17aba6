// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// impairBatch is how many packets are moved between an impaired port and the one behind it at a time.
	impairBatch = 16
	// impairHeld is how many packets one direction of a queue holds back at most; more are lost.
	impairHeld = 8192
	// defaultReorderBy is Impairment.ReorderBy where it is not given.
	defaultReorderBy = 2 * time.Millisecond
)

// Impairment is what happens to the packets of one direction. Each is decided on by itself; probabilities are from
// 0 to 1.
type Impairment struct {
	Loss      float64
	Duplicate float64
	// Reorder is how likely a packet is held back by ReorderBy (2 ms if zero), so that those behind it overtake it.
	Reorder   float64
	ReorderBy time.Duration
	// Delay is what every packet waits.
	Delay time.Duration
	// Filter chooses the packets all this applies to; the others pass at once, even if those before them wait. Nil
	// chooses all. It sees a plain packet with complete checksums, which is not its to keep, and is called by all workers.
	Filter func(packet []byte) bool
}

// ImpairConfig configures Impair.
type ImpairConfig struct {
	// Seed makes what happens to a sequence of packets repeatable.
	Seed uint64
	// Rx applies to what is received from the port, Tx to what is sent.
	Rx, Tx Impairment
	// Now is a monotonic clock; nil is the system's. On another one FD still wakes by the system's.
	Now func() time.Duration
}

// ImpairCounts counts what was done to one direction.
type ImpairCounts struct {
	Packets, Lost, Duplicated, Reordered uint64
}

// Impaired is a port that loses, doubles, delays and reorders what passes it, for tests. Super-packets are cut first:
// the network it stands for carries segments.
type Impaired struct {
	Port
	now    func() time.Duration
	queues []impairedQueue
}

var (
	_ Port      = (*Impaired)(nil)
	_ Addresser = (*Impaired)(nil)
)

// Impair puts impairments before p, which belongs to the result from then on and is closed by it.
func Impair(p Port, cfg ImpairConfig) (*Impaired, error) {
	i := &Impaired{Port: p, now: cfg.Now, queues: make([]impairedQueue, p.Queues())}
	if i.now == nil {
		start := time.Now()
		i.now = func() time.Duration { return time.Since(start) }
	}
	for n := range i.queues {
		i.queues[n].epfd, i.queues[n].timer.fd = -1, -1
	}
	for n := range i.queues {
		q := &i.queues[n]
		q.rx.init(cfg.Rx, rand.NewPCG(cfg.Seed, uint64(n)*2))
		q.tx.init(cfg.Tx, rand.NewPCG(cfg.Seed, uint64(n)*2+1))
		for range impairBatch {
			q.batch = append(q.batch, NewBuffer())
		}
		q.segment = NewBuffer()
		if err := q.open(p.FD(n)); err != nil {
			i.Close()
			return nil, fmt.Errorf("impair port %s: %w", p.Name(), err)
		}
	}
	return i, nil
}

// impairedQueue is one queue. Packets move from the port behind it into rx.held and on, and through tx.held likewise.
type impairedQueue struct {
	mu      sync.Mutex
	rx, tx  impairedWay
	batch   []*Buffer
	seg     Segmenter
	segment *Buffer
	closed  bool

	// epfd watches the descriptor of the queue behind and timer; an epoll descriptor can itself be waited for.
	epfd  int
	timer wakeTimer
}

func (q *impairedQueue) open(behind int) (err error) {
	if q.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if q.timer.fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	for _, fd := range []int{behind, q.timer.fd} {
		if fd < 0 {
			continue
		}
		if err := unix.EpollCtl(q.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return err
		}
	}
	return nil
}

// Receive is part of Port. It also sends on what has waited long enough the other way.
func (i *Impaired) Receive(queue int, bufs []*Buffer) (int, error) {
	q := &i.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, ErrClosed
	}
	now := i.now()
	n, err := i.Port.Receive(queue, q.batch)
	if err != nil {
		return 0, err
	}
	for _, b := range q.batch[:n] {
		q.take(&q.rx, b, now)
	}
	i.flush(queue, now)
	got := q.rx.release(now, bufs)
	q.timer.set(now, min(q.rx.next(), q.tx.next()))
	return got, nil
}

// Send is part of Port. What gets lost counts as taken: that happens behind the device.
func (i *Impaired) Send(queue int, bufs []*Buffer) int {
	q := &i.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0
	}
	now := i.now()
	for _, b := range bufs {
		q.take(&q.tx, b, now)
		i.flush(queue, now)
	}
	q.timer.set(now, min(q.rx.next(), q.tx.next()))
	return len(bufs)
}

// take cuts a packet and decides on each segment.
func (q *impairedQueue) take(w *impairedWay, b *Buffer, now time.Duration) {
	b.Flatten()
	q.seg.Start(b)
	for q.seg.Next(q.segment) {
		q.segment.Via = b.Via
		w.take(q.segment, now)
	}
}

// flush sends what is due. The caller holds the queue's lock.
func (i *Impaired) flush(queue int, now time.Duration) {
	q := &i.queues[queue]
	for n := q.tx.release(now, q.batch); n > 0; n = q.tx.release(now, q.batch) {
		i.Port.Send(queue, q.batch[:n])
	}
}

// FD is part of Port. It is readable when the port behind it is, and when a packet has waited long enough.
func (i *Impaired) FD(queue int) int {
	q := &i.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.epfd
}

// SetAddresses is part of Addresser, and does nothing where the port behind is none.
func (i *Impaired) SetAddresses(addrs []netip.Addr) {
	if a, ok := i.Port.(Addresser); ok {
		a.SetAddresses(addrs)
	}
}

// Counts is what was done to the packets of both directions.
func (i *Impaired) Counts() (rx, tx ImpairCounts) {
	for n := range i.queues {
		i.queues[n].rx.addTo(&rx)
		i.queues[n].tx.addTo(&tx)
	}
	return rx, tx
}

// Close is part of Port, and closes the port behind. What still waits is lost.
func (i *Impaired) Close() error {
	var errs []error
	for n := range i.queues {
		q := &i.queues[n]
		q.mu.Lock()
		if !q.closed {
			for _, fd := range []int{q.epfd, q.timer.fd} {
				if fd >= 0 {
					errs = append(errs, unix.Close(fd))
				}
			}
		}
		q.closed, q.epfd = true, -1
		q.mu.Unlock()
	}
	return errors.Join(append(errs, i.Port.Close())...)
}

// impairedWay is one direction of one queue.
type impairedWay struct {
	Impairment
	rng  *rand.Rand
	held []heldPacket // by time due; equal times in order of arrival
	free [][]byte

	packets, lost, duplicated, reordered atomic.Uint64
}

type heldPacket struct {
	packet
	due time.Duration
}

func (w *impairedWay) init(im Impairment, source rand.Source) {
	if im.ReorderBy == 0 {
		im.ReorderBy = defaultReorderBy
	}
	w.Impairment, w.rng = im, rand.New(source)
}

// take decides what happens to b, and holds copies.
func (w *impairedWay) take(b *Buffer, now time.Duration) {
	w.packets.Add(1)
	if w.Filter != nil && !w.Filter(b.Bytes()) {
		w.hold(b, now)
		return
	}
	// All three are drawn whatever comes of the first, so that one probability does not change what the others do.
	lose, double, reorder := w.rng.Float64() < w.Loss, w.rng.Float64() < w.Duplicate, w.rng.Float64() < w.Reorder
	if lose {
		w.lost.Add(1)
		return
	}
	due := now + w.Delay
	if reorder {
		w.reordered.Add(1)
		due += w.ReorderBy
	}
	w.hold(b, due)
	if double {
		w.duplicated.Add(1)
		w.hold(b, due)
	}
}

func (w *impairedWay) hold(b *Buffer, due time.Duration) {
	if len(w.held) == impairHeld {
		w.lost.Add(1)
		return
	}
	h := heldPacket{due: due}
	if n := len(w.free); n > 0 {
		h.data, w.free = w.free[n-1], w.free[:n-1]
	}
	h.store(packetOf(b))
	at := len(w.held)
	for at > 0 && w.held[at-1].due > due {
		at--
	}
	w.held = append(w.held, heldPacket{})
	copy(w.held[at+1:], w.held[at:])
	w.held[at] = h
}

// release moves what is due into bufs.
func (w *impairedWay) release(now time.Duration, bufs []*Buffer) int {
	n := 0
	for n < len(bufs) && n < len(w.held) && w.held[n].due <= now {
		w.held[n].load(bufs[n])
		w.free = append(w.free, w.held[n].data)
		n++
	}
	w.held = w.held[:copy(w.held, w.held[n:])]
	return n
}

// next is when release has something again.
func (w *impairedWay) next() time.Duration {
	if len(w.held) == 0 {
		return never
	}
	return w.held[0].due
}

func (w *impairedWay) addTo(c *ImpairCounts) {
	c.Packets += w.packets.Load()
	c.Lost += w.lost.Load()
	c.Duplicated += w.duplicated.Load()
	c.Reordered += w.reordered.Load()
}

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)

// wakeTimer makes a descriptor readable at a time.
type wakeTimer struct {
	fd  int
	due time.Duration // what it is set to; never and 0: it is not
}

// set sets the timer to due, or stops it. A time that has passed is soon.
func (t *wakeTimer) set(now, due time.Duration) {
	if t.due == due && now < due || t.due == 0 && due == never {
		return // set to that, and not fired since; or not set, and still not to be
	}
	t.due = due
	var spec unix.ItimerSpec
	if due != never {
		spec.Value = unix.NsecToTimespec(int64(max(1, due-now)))
	}
	_ = unix.TimerfdSettime(t.fd, 0, &spec, nil) // fails for no argument we give it
}
