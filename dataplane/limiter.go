// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// bucket is a token bucket that any goroutine may take from: bytes come in at a rate, and at most depth of them are kept.
//
// It is one number (as in the generic cell rate algorithm, ITU-T I.371): how many bytes have been taken, on the scale of how
// many have come in since the engine's start. What is left is the difference. Nobody has to fill it, and where there is too
// much in it, whoever takes next moves the number up. Numbers wrap, differences do not: a bucket would have to be at rest for
// two years at vpc.MaxBandwidth. Nothing is rounded but the byte that is not yet whole.
type bucket struct {
	rate  uint64 // bits a second
	depth int64  // bytes
	taken atomic.Uint64
}

// income is how many bytes have come in at an engine time, modulo 2^64.
func (b *bucket) income(now time.Duration) uint64 {
	const perByte = 8 * uint64(time.Second)
	high, low := bits.Mul64(uint64(now), b.rate)
	n, _ := bits.Div64(high%perByte, low, perByte)
	return n
}

// level is how many bytes are in the bucket, negative while it is in debt.
func (b *bucket) level(now time.Duration) int64 {
	return min(int64(b.income(now)-b.taken.Load()), b.depth)
}

// fill makes level what is in a bucket that nobody uses yet, or its depth where that is less.
func (b *bucket) fill(level int64, now time.Duration) {
	b.taken.Store(b.income(now) - uint64(min(level, b.depth)))
}

// take takes what there is, up to most bytes and at least so many, and returns how many; or 0 where the bucket is empty. For
// least it may leave a debt, so that a packet passes however long it is; then nothing does until the debt is paid.
func (b *bucket) take(least, most int64, now time.Duration) int64 {
	income := b.income(now)
	for {
		old := b.taken.Load()
		level := min(int64(income-old), b.depth)
		if level <= 0 {
			return 0
		}
		n := max(least, min(most, level))
		if b.taken.CompareAndSwap(old, income-uint64(level)+uint64(n)) {
			return n
		}
	}
}

// spend takes n bytes whether they are there or not.
func (b *bucket) spend(n int64, now time.Duration) {
	income := b.income(now)
	for {
		old := b.taken.Load()
		level := min(int64(income-old), b.depth)
		if b.taken.CompareAndSwap(old, income-uint64(level)+uint64(n)) {
			return
		}
	}
}

// Sizes of a limiter. A bucket holds at least what comes in during slack, since a worker serves a port in batches, and at
// least two of the longest packets. Workers have at most a leaseShare-th of that on lease, all together.
const (
	slack      = 10 * time.Millisecond
	leastDepth = 128 << 10
	leaseMost  = 64 << 10
	leaseShare = 8
)

// limiter holds an endpoint in one zone to its Bandwidth. Two buckets do: one that fills at Rate and holds what lets Burst
// pass for BurstTime, and one that fills at Burst and holds no more than slack. A packet must find something in both.
//
// Workers do not take packet by packet but lease bytes and spend them, so that they meet at the buckets once in many
// packets. Leases are paid for in advance: those that nobody uses only delay bytes. In any time w no more bytes pass than
//
//	Rate*w + (Burst-Rate)*BurstTime + depth + leases + one packet, and
//	Burst*w + depth + 2*leases + one packet of each worker.
//
// Depth is that of the bucket of Burst: slack at Burst, or leastDepth where that is more. Leases, all together, are at most
// an eighth of it. The packet is the one that leaves a debt; workers that look into the bucket of Burst at the same moment
// may each leave one there, since what they take is taken from the other bucket first and is not given back. None of this
// adds up: over a long time Rate passes and no more.
type limiter struct {
	limits vpc.Bandwidth
	rate   bucket
	burst  bucket // of no use where Burst is Rate
	lease  int64  // bytes
	leases []lease
}

// lease is what one worker has in hand. Only that worker touches it.
type lease struct {
	left int64
	dry  time.Duration // the turn in which there was nothing to be had; asking again in it is of no use
	_    [48]byte      // keeps workers on cache lines of their own
}

// newLimiter makes a limiter. Old is the one it follows, or nil: what was saved up stays, as far as the new limits let it,
// and a new one starts full.
func newLimiter(limits vpc.Bandwidth, workers int, old *limiter, now time.Duration) *limiter {
	depth := max(int64(limits.Burst/8/uint64(time.Second/slack)), leastDepth)
	l := &limiter{limits: limits, lease: min(depth/leaseShare/int64(workers), leaseMost), leases: make([]lease, workers)}
	l.rate.rate, l.burst.rate = limits.Rate, limits.Burst
	extra := bucket{rate: limits.Burst - limits.Rate}
	l.burst.depth, l.rate.depth = depth, depth+int64(extra.income(limits.BurstTime))
	levels := [2]int64{l.rate.depth, l.burst.depth}
	if old != nil {
		levels = [2]int64{old.rate.level(now), old.burst.level(now)}
	}
	l.rate.fill(levels[0], now)
	l.burst.fill(levels[1], now)
	for i := range l.leases {
		l.leases[i].dry = -1
	}
	return l
}

// take takes n bytes for a packet of a worker in the turn of engine time now, and says whether there were any.
func (l *limiter) take(worker int, n int64, now time.Duration) bool {
	s := &l.leases[worker]
	if s.left >= n {
		s.left -= n
		return true
	}
	return l.renew(s, n, now)
}

// renew leases what a packet of n bytes lacks, and more.
func (l *limiter) renew(s *lease, n int64, now time.Duration) bool {
	if s.dry == now {
		return false
	}
	most, bursts := l.lease, l.limits.Burst > l.limits.Rate
	if bursts {
		most = min(most, l.burst.level(now))
	}
	got := int64(0)
	if most > 0 {
		got = l.rate.take(n-s.left, most, now)
	}
	if got == 0 {
		s.dry = now
		return false
	}
	if bursts {
		l.burst.spend(got, now)
	}
	s.left += got - n
	return true
}

// limiterOf is the limiter of an endpoint in a zone: that of the previous view where the limits have not changed.
func (c *compiler) limiterOf(ep *vpc.Endpoint, zone string) *limiter {
	if ep.Bandwidth.Rate == 0 {
		return nil
	}
	id := limitID{ep.ID, ep.Generation, zone}
	l := c.in.prev.limiters[id]
	if l == nil || l.limits != ep.Bandwidth {
		l = newLimiter(ep.Bandwidth, c.in.workers, l, c.in.now)
	}
	c.v.limiters[id] = l
	return l
}
