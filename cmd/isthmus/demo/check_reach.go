// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// visit is a request of one client to one endpoint address.
type visit struct {
	client         string
	endpoint, zone int
	to             netip.AddrPort
	local          netip.AddrPort
	answer         lab.Answer
}

// visitAll makes a request from every client to every address of the interface endpoints and looks at each.
func (b *Bed) visitAll(ctx context.Context, port uint16, look func(v *visit) error) (n int, err error) {
	for _, client := range clients {
		for endpoint := range interfaceEndpoints {
			for zone := range 2 {
				v := visit{client: client, endpoint: endpoint, zone: zone, to: b.endpoint(endpoint, zone, port)}
				v.answer, v.local, err = b.ask(ctx, client, v.to)
				if err == nil {
					err = look(&v)
				}
				if err != nil {
					return n, fmt.Errorf("%s to %s: %w", client, v.to, err)
				}
				n++
			}
		}
	}
	return n, nil
}

func reach(ctx context.Context, b *Bed) (string, error) {
	n, err := b.visitAll(ctx, portWeb, func(*visit) error { return nil })
	return fmt.Sprintf("%d of %d requests answered", n, n), err
}

// The source is the node in the zone of the endpoint address: that is the one its connections enter by.
func source(ctx context.Context, b *Bed) (string, error) {
	seen := map[netip.Addr]int{}
	_, err := b.visitAll(ctx, portPlain, func(v *visit) error {
		remote, err := netip.ParseAddrPort(v.answer.Remote)
		if err != nil {
			return err
		}
		if want := b.node(v.zone); remote.Addr() != want {
			return fmt.Errorf("the target saw %s, the node is %s", remote, want)
		}
		seen[remote.Addr()]++
		return nil
	})
	return fmt.Sprintf("%s %d times, %s %d times", b.node(0), seen[b.node(0)], b.node(1), seen[b.node(1)]), err
}

// Client and target have the very same address, and the consumer's other addresses lead to the consumer alone.
func overlap(ctx context.Context, b *Bed) (string, error) {
	const client, target, neighbour = "client-1", "target-1", "client-2"
	to := b.endpoint(0, 0, portLine)
	l, err := b.lineTo(ctx, client, to, target)
	if err != nil {
		return "", err
	}
	defer l.Close()
	flow, ok := b.flow(ctx, l.local())
	if !ok || flow.Client.Addr() != flow.Target.Addr() {
		return "", fmt.Errorf("the connection's client and target are not the same address: %+v", flow)
	}
	// An address that both sides have: in the consumer it is the neighbour, where no server listens.
	shared := netip.AddrPortFrom(b.address("target-2"), portLine)
	if shared.Addr() != b.address(neighbour) {
		return "", fmt.Errorf("the lab is not as it was meant: %s and target-2 differ", neighbour)
	}
	direct, err := b.dial(ctx, client, shared)
	if err == nil {
		direct.Close()
		return "", fmt.Errorf("%s answered the consumer directly", shared)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return "", fmt.Errorf("%s is %s in the consumer, which refuses connections, but: %w", shared, neighbour, err)
	}
	return fmt.Sprintf("%s reached %s; dialled directly, %s is the consumer's own",
		flow.Client.Addr(), flow.Target.Addr(), shared.Addr()), nil
}
