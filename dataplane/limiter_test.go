// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// passing is bytes that a limiter let pass.
type passing struct {
	at    time.Duration
	bytes int64
}

// bytesAt is what passes in some time at a rate in bits a second.
func bytesAt(rate uint64, d time.Duration) int64 {
	n := new(big.Int).Mul(new(big.Int).SetUint64(rate), big.NewInt(int64(d)))
	return n.Div(n, big.NewInt(int64(8*time.Second))).Int64()
}

// checkWindows holds every window between two passings to what limiter promises, for packets of at most so many bytes.
func checkWindows(t *testing.T, l *limiter, list []passing, packet int64) {
	t.Helper()
	slices.SortStableFunc(list, func(a, b passing) int { return cmp.Compare(a.at, b.at) })
	workers := int64(len(l.leases))
	leases := workers * l.lease
	if leases > l.burst.depth/leaseShare {
		t.Errorf("leases of %d bytes are more than a share of %d", leases, l.burst.depth)
	}
	b := &l.limits
	saved := bytesAt(b.Burst-b.Rate, b.BurstTime) + 1 // bytes are rounded
	for i := range list {
		sum := int64(0)
		for j := i; j < len(list); j++ {
			sum += list[j].bytes
			if j+1 < len(list) && list[j+1].at == list[j].at {
				continue
			}
			w := list[j].at - list[i].at
			if most := bytesAt(b.Rate, w) + saved + l.burst.depth + leases + packet + 1; sum > most {
				t.Fatalf("%+v: %d bytes in %v from %v on, at most %d by the rate", *b, sum, w, list[i].at, most)
			}
			if most := bytesAt(b.Burst, w) + l.burst.depth + 2*leases + workers*packet + 1; sum > most {
				t.Fatalf("%+v: %d bytes in %v from %v on, at most %d by the burst", *b, sum, w, list[i].at, most)
			}
		}
	}
}

// anyLimits are limits of all magnitudes.
func anyLimits(r *rand.Rand) vpc.Bandwidth {
	magnitude := func(least, most uint64) uint64 {
		for most/10 > least && r.IntN(2) == 0 {
			most /= 10
		}
		return least + r.Uint64N(most-least+1)
	}
	b := vpc.Bandwidth{Rate: magnitude(vpc.MinBandwidth, vpc.MaxBandwidth)}
	b.Burst = b.Rate
	if r.IntN(3) > 0 {
		b.Burst = magnitude(b.Rate, vpc.MaxBandwidth)
		b.BurstTime = time.Duration(magnitude(1, uint64(10*time.Second)))
	}
	return b
}

// TestLimiterKeepsItsPromise offers packets of random sizes at random times and holds all windows against the promise.
// Sometimes more is offered than may pass, by either rate, sometimes less, and sometimes nothing for long. Sizes go by what
// the limit is, so that a few packets fill a bucket.
func TestLimiterKeepsItsPromise(t *testing.T) {
	refused, passed, peaks := 0, 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		workers := 1 + r.IntN(6)
		now := time.Duration(r.Int64N(int64(1000 * time.Hour)))
		l := newLimiter(anyLimits(r), workers, nil, now)
		var list []passing
		largest := []int64{1500, 65535, l.burst.depth / 20, l.burst.depth / 3, 1 << 22}[r.IntN(5)]
		pace := float64([]uint64{l.limits.Rate, l.limits.Burst}[r.IntN(2)])
		for range 250 {
			n := 1 + r.Int64N(largest)
			if l.take(r.IntN(workers), n, now) {
				list = append(list, passing{now, n})
				passed++
			} else {
				refused++
				if l.rate.level(now) > 0 {
					peaks++
				}
			}
			if r.IntN(3) > 0 { // about as long as what was offered takes, or much less, or much longer
				gap := time.Duration(float64(8*n) / pace * float64(time.Second) * []float64{0.001, 0.1, 0.1, 0.9, 1.1}[r.IntN(5)])
				if r.IntN(100) == 0 {
					gap += l.limits.BurstTime
				}
				now += max(gap, 1)
			}
		}
		checkWindows(t, l, list, largest)
	}
	if refused < 500 || passed < 500 || peaks < 100 {
		t.Errorf("%d packets refused, %d of them by the burst alone, %d passed: the test is too tame", refused, peaks, passed)
	}
}

// TestLimiterGivesWhatIsDue offers all the time more than may pass, by several workers: Burst passes for BurstTime, then Rate,
// and after a quiet time Burst again.
func TestLimiterGivesWhatIsDue(t *testing.T) {
	const step, size = 50 * time.Microsecond, 1500
	for _, workers := range []int{1, 2, 64} {
		b := vpc.Bandwidth{Rate: 1e9, Burst: 4e9, BurstTime: 250 * time.Millisecond}
		now := time.Hour
		l := newLimiter(b, workers, nil, now)
		flood := func(d time.Duration) (sum int64) {
			for end := now + d; now < end; now += step {
				for i, worker := 0, 0; i < workers; i, worker = i+1, (worker+1)%workers {
					for l.take(worker, size, now) {
						sum += size
					}
				}
			}
			return sum
		}
		near := func(what string, got, want int64) {
			t.Helper()
			if tolerance := 2*l.burst.depth + 1; got < want-tolerance || got > want+tolerance {
				t.Errorf("%d workers: %s: %d bytes, want %d within %d", workers, what, got, want, tolerance)
			}
		}
		near("burst", flood(b.BurstTime), bytesAt(b.Burst, b.BurstTime))
		near("rate after the burst", flood(time.Second), bytesAt(b.Rate, time.Second))
		near("rate for long", flood(10*time.Second), bytesAt(b.Rate, 10*time.Second))
		now += time.Second // what was saved up is for as long again
		near("second burst", flood(b.BurstTime), bytesAt(b.Burst, b.BurstTime))
		now += 100 * time.Millisecond // saves 100 ms of Rate, which last 33 ms at Burst
		near("short burst", flood(100*time.Millisecond), bytesAt(b.Rate, 200*time.Millisecond))
	}
}

// TestLimiterAmongGoroutines lets real workers race for the bytes, each by its own reading of the time.
func TestLimiterAmongGoroutines(t *testing.T) {
	for _, b := range []vpc.Bandwidth{
		{Rate: 1e9, Burst: 1e9},
		{Rate: 500e6, Burst: 8e9, BurstTime: 5 * time.Millisecond},
		{Rate: 1e6, Burst: 1e6},
	} {
		const workers, turns, packet = 4, 100, 9000
		l := newLimiter(b, workers, nil, 0)
		lists := make([][]passing, workers)
		start := time.Now()
		var wg sync.WaitGroup
		for worker := range workers {
			r := rand.New(rand.NewPCG(uint64(worker), 9))
			wg.Go(func() {
				for range turns {
					now, sum := time.Since(start), int64(0)
					for range 20 {
						if n := 1 + r.Int64N(packet); l.take(worker, n, now) {
							sum += n
						}
					}
					lists[worker] = append(lists[worker], passing{now, sum})
				}
			})
		}
		wg.Wait()
		checkWindows(t, l, slices.Concat(lists...), packet)
	}
}

// TestBucketHasLongNumbers compares the income with that of numbers without end, at the ends of what they may be.
func TestBucketHasLongNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 10_000 {
		b := bucket{rate: r.Uint64() >> r.IntN(64)}
		now := time.Duration(r.Uint64() >> (1 + r.IntN(62)))
		n := new(big.Int).Mul(new(big.Int).SetUint64(b.rate), big.NewInt(int64(now)))
		n.Div(n, big.NewInt(8e9))
		n.And(n, new(big.Int).SetUint64(1<<64-1))
		if got := b.income(now); got != n.Uint64() {
			t.Fatalf("%d bits a second for %v are %d bytes, not %d", b.rate, now, n, got)
		}
	}
}

// TestBucketIsNeverMoreThanFull lets a bucket rest, also while its numbers wrap.
func TestBucketIsNeverMoreThanFull(t *testing.T) {
	b := bucket{rate: vpc.MaxBandwidth, depth: 1000}
	now := time.Duration(0)
	b.fill(5000, now)
	for range 200 {
		if level := b.level(now); level != 1000 {
			t.Fatalf("after %v the level is %d", now, level)
		}
		if n := b.take(1, 700, now); n != 700 || b.level(now) != 300 {
			t.Fatalf("after %v %d bytes are taken, and the level is %d", now, n, b.level(now))
		}
		if n := b.take(900, 0, now); n != 900 || b.level(now) != -600 || b.take(1, 1, now) != 0 {
			t.Fatalf("after %v %d bytes are taken, and the level is %d", now, n, b.level(now))
		}
		now += 365 * 24 * time.Hour
	}
}
