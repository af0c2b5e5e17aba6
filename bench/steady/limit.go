// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"context"
	"fmt"
	"time"
)

// Search of the limit.
const (
	leastRate = 5_000
	growth    = 1.4
	bisect    = 4
	tries     = 3
)

// Limit finds the largest rate, in packets a second, at which nothing overflows for as long as a window. Drops counts what
// the dataplane drops.
func (l *Load) Limit(ctx context.Context, window time.Duration, drops func() uint64) (float64, error) {
	good, bad := 0.0, 0.0
	for rate := float64(leastRate); bad == 0; rate *= growth {
		ok, err := l.passes(ctx, rate, window, drops)
		if err != nil {
			return 0, err
		}
		if ok {
			good = rate
		} else {
			bad = rate
		}
	}
	if good == 0 {
		return 0, fmt.Errorf("packets are lost even at %d a second", leastRate)
	}
	for range bisect {
		middle := (good + bad) / 2
		ok, err := l.passes(ctx, middle, window, drops)
		if err != nil {
			return 0, err
		}
		if ok {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, nil
}

// passes says whether a rate can be sent, and all of it passes. It tries again, for a machine that has more to do than this.
func (l *Load) passes(ctx context.Context, rate float64, window time.Duration, drops func() uint64) (bool, error) {
	for range tries {
		sent, got, err := l.Window(ctx, rate, window, drops)
		if err != nil {
			return false, err
		}
		if got.Overflowed == 0 && float64(sent) > 0.9*rate*window.Seconds() {
			return true, nil
		}
	}
	return false, nil
}

// Window sends at a rate for some time, and accounts for it. Drops counts what the dataplane has dropped.
func (l *Load) Window(ctx context.Context, rate float64, window time.Duration, drops func() uint64) (sent uint64, got Account, err error) {
	before, err := l.Count()
	if err != nil {
		return 0, got, err
	}
	dropped := drops()
	running, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	if sent, err = l.Run(running, rate); err != nil {
		return sent, got, err
	}
	got, err = l.Settle(ctx, before, sent, func() uint64 { return drops() - dropped })
	return sent, got, err
}
