// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Account is what the kernel has counted at the two devices, in packets, since they were made.
type Account struct {
	// In has been read by the dataplane at the client's device, Out written by it at the server's.
	In, Out uint64
	// Overflowed have found no room in the queue of either device: a dataplane that does not come to read in time.
	Overflowed uint64
}

// Minus is what was counted since an earlier account.
func (a Account) Minus(b Account) Account {
	return Account{a.In - b.In, a.Out - b.Out, a.Overflowed - b.Overflowed}
}

// Count reads the counters.
func (l *Load) Count() (Account, error) {
	client, err := netns.LinkByName(l.cfg.Client, l.cfg.ClientDevice)
	if err != nil {
		return Account{}, err
	}
	server, err := netns.LinkByName(l.cfg.Server, l.cfg.ServerDevice)
	if err != nil {
		return Account{}, err
	}
	return Account{In: client.TxPackets, Out: server.RxPackets, Overflowed: client.TxDropped + server.TxDropped}, nil
}

// Settle waits until what was sent since an earlier account is accounted for, and nothing changes any more, and returns the
// difference. It is an error if that does not come about: something is lost that nobody has counted.
func (l *Load) Settle(ctx context.Context, before Account, sent uint64, drops func() uint64) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		now, err := l.Count()
		if err != nil {
			return Account{}, err
		}
		got, dropped := now.Minus(before), drops()
		if got.In+got.Overflowed == sent && got.In == got.Out+dropped {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return got, fmt.Errorf("of %d packets %d entered the dataplane and %d overflowed; %d left it and it counted %d drops",
				sent, got.In, got.Overflowed, got.Out, dropped)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
