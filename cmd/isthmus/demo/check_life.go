// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// newConnections is how many connections show that a target gets none: the chance that a fair choice among three leaves
// one out is 1 in 10 billion.
const newConnections = 60

func drain(ctx context.Context, b *Bed) (string, error) {
	to := b.endpoint(0, 0, portLine)
	held, err := b.line(ctx, "client-1", to)
	if err != nil {
		return "", err
	}
	defer held.Close()
	if err := b.deregister(ctx, "line", held.instance, portLine); err != nil {
		return "", err
	}
	count, err := b.spread(ctx, "client-1", to, newConnections)
	if err != nil {
		return "", err
	}
	if n := count[held.instance]; n > 0 {
		return "", fmt.Errorf("%s drains and got %d of %d new connections", held.instance, n, newConnections)
	}
	if err := held.echo("still there"); err != nil {
		return "", fmt.Errorf("the connection to %s, which drains: %w", held.instance, err)
	}
	return fmt.Sprintf("%s: 0 of %d new connections, its old one goes on", held.instance, newConnections), nil
}

// The target's server stops listening, and keeps the connection it has: the RST can only be the load balancer's.
func unhealthy(ctx context.Context, b *Bed) (figure string, err error) {
	const target = "target-2"
	to := b.endpoint(0, 0, portLine)
	held, err := b.lineTo(ctx, "client-1", to, target)
	if err != nil {
		return "", err
	}
	defer held.Close()
	b.stopServing(target, portLine)
	defer func() { err = errors.Join(err, b.recover(ctx, target)) }()
	begun := time.Now()
	address := netip.AddrPortFrom(b.address(target), portLine)
	err = await(ctx, target+" unhealthy", func() bool { return b.health("line", address) == dataplane.Unhealthy })
	if err != nil {
		return "", err
	}
	took := time.Since(begun)
	count, err := b.spread(ctx, "client-1", to, newConnections)
	if err != nil {
		return "", err
	}
	if n := count[target]; n > 0 {
		return "", fmt.Errorf("%s is unhealthy and got %d of %d new connections", target, n, newConnections)
	}
	if err := held.echo("still there?"); !errors.Is(err, syscall.ECONNRESET) {
		return "", fmt.Errorf("the connection to %s should end with RST, got %v", target, err)
	}
	return fmt.Sprintf("noticed in %.1f s; 0 of %d new connections, RST to the old one", took.Seconds(), newConnections), nil
}

// recover starts the line server of a target again and waits until its checks pass.
func (b *Bed) recover(ctx context.Context, target string) error {
	if err := b.serve(target, lab.Run{Server: lab.Banner, Port: portLine}); err != nil {
		return err
	}
	return b.awaitHealthy(ctx)
}

// A second connection that speaks now and then shows that it is silence that ends the first.
func idle(ctx context.Context, b *Bed) (string, error) {
	const timeout, pause = 2 * time.Second, 500 * time.Millisecond
	timers := b.topology.Testing.Overrides()
	b.after(func(ctx context.Context) error { return b.restartDaemon(ctx, timers) })
	short := *timers
	short.TCPIdle = timeout
	if err := b.restartDaemon(ctx, &short); err != nil {
		return "", err
	}
	to := b.endpoint(0, 0, portLine)
	quiet, err := b.line(ctx, "client-1", to)
	if err != nil {
		return "", err
	}
	defer quiet.Close()
	busy, err := b.line(ctx, "client-1", to)
	if err != nil {
		return "", err
	}
	defer busy.Close()
	begun := time.Now()
	spoke := begun
	var failed error
	err = await(ctx, "the idle time to pass", func() bool {
		if now := time.Now(); now.Sub(spoke) >= pause {
			spoke, failed = now, busy.echo("still there")
		}
		return failed != nil || time.Since(begun) > timeout+pause/2
	})
	if err = errors.Join(err, failed); err != nil {
		return "", fmt.Errorf("the connection that was never idle: %w", err)
	}
	if err := quiet.echo("still there?"); !errors.Is(err, syscall.ECONNRESET) {
		return "", fmt.Errorf("an idle connection should end with RST after %s, got %v", timeout, err)
	}
	if err := busy.echo("still there"); err != nil {
		return "", fmt.Errorf("the connection that was never idle: %w", err)
	}
	return fmt.Sprintf("RST after %s of silence (testing; 350 s by default)", timeout), nil
}
