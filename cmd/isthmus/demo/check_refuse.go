// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// A target tries what it knows: the node's address, on a listener's port and on the very port that a connection of a
// client has there. That connection does not notice.
func providerInitiates(ctx context.Context, b *Bed) (string, error) {
	l, err := b.line(ctx, "client-1", b.endpoint(0, 0, portLine))
	if err != nil {
		return "", err
	}
	defer l.Close()
	leased, err := netip.ParseAddrPort(l.remote)
	if err != nil {
		return "", err
	}
	tries := []netip.AddrPort{netip.AddrPortFrom(b.node(0), portLine), leased}
	for _, to := range tries {
		if err := b.vanishes(ctx, l.instance, to, dataplane.ProviderInitiated); err != nil {
			return "", err
		}
	}
	if err := l.echo("still there"); err != nil {
		return "", fmt.Errorf("the client's connection: %w", err)
	}
	return fmt.Sprintf("%d attempts at the node dropped as provider-initiated", len(tries)), nil
}

func noListener(ctx context.Context, b *Bed) (string, error) {
	to := b.endpoint(0, 0, 9999)
	err := b.vanishes(ctx, "client-1", to, dataplane.NoListener)
	return fmt.Sprintf("SYN to %s dropped as no-listener", to), err
}

// A neighbour answers the same ping, so that silence means something.
func ping(ctx context.Context, b *Bed) (string, error) {
	const id = 0x6973
	socket, err := b.raw("client-1", "icmp")
	if err != nil {
		return "", err
	}
	defer socket.Close()
	before := b.drops(dataplane.ICMPQuery)
	if err := socket.ping(b.endpoint(0, 0, 0).Addr(), id); err != nil {
		return "", err
	}
	if err := await(ctx, "the drop counter icmp-query", func() bool { return b.drops(dataplane.ICMPQuery) > before }); err != nil {
		return "", err
	}
	neighbour := b.address("client-2")
	if err := socket.ping(neighbour, id); err != nil {
		return "", err
	}
	var who netip.Addr
	deadline, _ := ctx.Deadline()
	answered, err := socket.next(func(message []byte, from netip.Addr) bool {
		who = from
		return isReply(message, id)
	}, deadline)
	switch {
	case err != nil:
		return "", err
	case !answered:
		return "", errors.New("the neighbour did not answer either")
	case who != neighbour:
		return "", fmt.Errorf("%s answered", who)
	}
	return "dropped as icmp-query; a neighbour answered the same ping", nil
}

func udp(ctx context.Context, b *Bed) (string, error) {
	before := b.drops(dataplane.NotTCP)
	conn, err := netns.Dial(ctx, b.spaces["client-1"], "udp4", b.endpoint(0, 0, portWeb).String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("anybody?")); err != nil {
		return "", err
	}
	if err := await(ctx, "the drop counter not-tcp", func() bool { return b.drops(dataplane.NotTCP) > before }); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return "", fmt.Errorf("the endpoint answered: %v", err)
	}
	return "datagram dropped as not-tcp, no answer", nil
}
