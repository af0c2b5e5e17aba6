// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// transfer is a connection on which data goes both ways all the time.
type transfer struct {
	*line
	to       netip.AddrPort
	instance string       // the appliance that it passes, where it does
	chunks   atomic.Int64 // that came back as they were sent
	stopping atomic.Bool
	done     chan error
}

// chunk is what a transfer sends at a time.
const chunk = 64 << 10

// inspectedTransfer begins one through an appliance, from the first zone of spoke-a. It is to be stopped.
func (b *Bed) inspectedTransfer(ctx context.Context) (*transfer, error) {
	t, err := b.transfer(ctx, appA.instance, b.site(siteA, portLine))
	if err != nil {
		return nil, err
	}
	if t.instance, err = b.inspectorOf(t); err != nil {
		t.abort()
		return nil, err
	}
	return t, nil
}

// transfer begins one to a server that echoes. It is to be stopped.
func (b *Bed) transfer(ctx context.Context, instance string, to netip.AddrPort) (*transfer, error) {
	l, err := b.line(ctx, instance, to)
	if err != nil {
		return nil, err
	}
	if err := l.echo("ready?"); err != nil {
		l.Close()
		return nil, err
	}
	t := &transfer{line: l, to: to, done: make(chan error, 1)}
	go func() {
		text := make([]byte, chunk)
		for n := 0; !t.stopping.Load(); n++ {
			for i := range text {
				text[i] = byte(n + i%251)
			}
			if err := l.echo(string(text)); err != nil {
				t.done <- err
				return
			}
			t.chunks.Add(1)
		}
		t.done <- nil
	}()
	return t, nil
}

// inspectorOf is the appliance that sees a transfer.
func (b *Bed) inspectorOf(t *transfer) (string, error) {
	f, err := b.both(tuple{appA.vpc, "tcp", t.local(), t.to}, appA.out, appA.back)
	return f.instance, err
}

// stop ends a transfer, behind a whole chunk, and says what went wrong in it.
func (t *transfer) stop() error {
	t.stopping.Store(true)
	return errors.Join(<-t.done, t.Close())
}

// abort ends a transfer that may stand still.
func (t *transfer) abort() {
	t.Close()
	<-t.done
}

// goesOn waits until some more of a transfer has come back.
func (t *transfer) goesOn(ctx context.Context) error {
	const more = 3 // the first may have been under way
	now := t.chunks.Load()
	return await(ctx, "the transfer to go on", func() bool { return t.chunks.Load() >= now+more || len(t.done) > 0 })
}

// target is an appliance as its target group knows it.
func (b *Bed) target(instance string) netip.AddrPort {
	return netip.AddrPortFrom(b.address(instance), vpc.GenevePort)
}

// awaitDead waits until health checks have noticed that an appliance is gone.
func (b *Bed) awaitDead(ctx context.Context, instance string) error {
	return await(ctx, instance+" unhealthy", func() bool { return b.health("appliances", b.target(instance)) == dataplane.Unhealthy })
}

// newFlows is how many flows show that an appliance of two gets none: the chance that a fair choice leaves one out is 1 in
// a trillion.
const newFlows = 40

// avoided makes sure that new flows leave an appliance alone.
func (b *Bed) avoided(ctx context.Context, instance string) error {
	stop, err := b.echoUDP(siteA, portEcho)
	if err != nil {
		return err
	}
	defer stop()
	count, err := b.spreadUDP(ctx, appA, b.site(siteA, portEcho), newFlows)
	if err == nil && count[instance] > 0 {
		err = fmt.Errorf("%s got %d of %d new flows", instance, count[instance], newFlows)
	}
	return err
}

func inspectedDrain(ctx context.Context, b *Bed) (string, error) {
	t, err := b.inspectedTransfer(ctx)
	if err != nil {
		return "", err
	}
	err = b.deregister(ctx, "appliances", t.instance, vpc.GenevePort)
	if err = errors.Join(err, b.avoided(ctx, t.instance), t.goesOn(ctx)); err != nil {
		t.abort()
		return "", err
	}
	after, err := b.inspectorOf(t)
	if err = errors.Join(err, t.stop()); err != nil {
		return "", err
	}
	if after != t.instance {
		return "", fmt.Errorf("the transfer moved from %s, which drains, to %s", t.instance, after)
	}
	return fmt.Sprintf("%s: 0 of %d new flows, its transfer goes on", t.instance, newFlows), nil
}

// The appliance's process ends under a running transfer. Nobody else may have the flow; it waits for the appliance.
func deadKeepsFlows(ctx context.Context, b *Bed) (figure string, err error) {
	t, err := b.inspectedTransfer(ctx)
	if err != nil {
		return "", err
	}
	begun := time.Now()
	if err := b.kill(t.instance); err != nil {
		t.abort()
		return "", err
	}
	err = b.awaitDead(ctx, t.instance)
	took := time.Since(begun)
	still := t.chunks.Load()
	err = errors.Join(err, b.avoided(ctx, t.instance))
	if n := t.chunks.Load(); err == nil && n != still {
		err = fmt.Errorf("%s is dead and its transfer went on by %d chunks", t.instance, n-still)
	}
	back := time.Now()
	err = errors.Join(err, b.restart(t.instance))
	defer func() { err = errors.Join(err, b.awaitHealthy(ctx)) }()
	if err = errors.Join(err, t.goesOn(ctx)); err != nil {
		t.abort()
		return "", err
	}
	stood := time.Since(back)
	if err := t.stop(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s killed: new flows to the other after %.1f s; its transfer stood, went on %.1f s after the restart",
		t.instance, took.Seconds(), stood.Seconds()), nil
}

func deadMovesFlows(ctx context.Context, b *Bed) (figure string, err error) {
	err = b.changeGroup(ctx, "appliances", func(g *apiv1.TargetGroup) {
		g.TargetFailover = statev1.TargetFailover_TARGET_FAILOVER_REBALANCE
	})
	if err != nil {
		return "", err
	}
	t, err := b.inspectedTransfer(ctx)
	if err != nil {
		return "", err
	}
	begun := time.Now()
	err = b.kill(t.instance)
	defer func() { err = errors.Join(err, b.revive(ctx, t.instance)) }()
	if err = errors.Join(err, t.goesOn(ctx)); err != nil {
		t.abort()
		return "", err
	}
	took := time.Since(begun)
	now, err := b.inspectorOf(t)
	if err = errors.Join(err, b.avoided(ctx, t.instance), t.stop()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s killed: its transfer went on in %s after %.1f s, whole", t.instance, now, took.Seconds()), nil
}

func deadResetsFlows(ctx context.Context, b *Bed) (figure string, err error) {
	err = b.changeGroup(ctx, "appliances", func(g *apiv1.TargetGroup) {
		g.SendTcpReset = &statev1.SendTCPReset{OnUnhealthy: true}
	})
	if err != nil {
		return "", err
	}
	t, err := b.inspectedTransfer(ctx)
	if err != nil {
		return "", err
	}
	begun := time.Now()
	err = b.kill(t.instance)
	defer func() { err = errors.Join(err, b.revive(ctx, t.instance)) }()
	broken := <-t.done
	took := time.Since(begun)
	t.Close()
	if err != nil || !errors.Is(broken, syscall.ECONNRESET) {
		return "", errors.Join(err, fmt.Errorf("the transfer through %s should end with RST, got %w", t.instance, broken))
	}
	return fmt.Sprintf("%s killed: RST to its transfer after %.1f s", t.instance, took.Seconds()), nil
}
