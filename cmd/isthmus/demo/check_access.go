// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
)

// groupID is the id of a security group that a check makes.
const groupID = "chosen"

// admitOnly has a security group of the consumer let in some of its instances, and nobody else.
func (b *Bed) admitOnly(ctx context.Context, instances ...string) error {
	rule := &apiv1.SecurityGroupRule{Protocol: "tcp", FromPort: portLine, ToPort: portLine}
	for _, in := range instances {
		rule.Cidrs = append(rule.Cidrs, netip.PrefixFrom(b.address(in), 32).String())
	}
	ctx = labapi.As(ctx, consumer)
	g, err := b.api.GetSecurityGroup(ctx, &apiv1.GetSecurityGroupRequest{Name: groupID})
	if err != nil {
		return err
	}
	g.Ingress = []*apiv1.SecurityGroupRule{rule}
	g, err = b.api.UpdateSecurityGroup(ctx, &apiv1.UpdateSecurityGroupRequest{SecurityGroup: g, UpdateMask: whole})
	return b.inForce(ctx, g.GetMetadata().GetRevision(), err)
}

func securityGroup(ctx context.Context, b *Bed) (string, error) {
	const in, out = "client-1", "client-2"
	_, err := b.api.CreateSecurityGroup(labapi.As(ctx, consumer), &apiv1.CreateSecurityGroupRequest{
		SecurityGroupId: groupID, SecurityGroup: &apiv1.SecurityGroup{Vpc: "consumer"},
	})
	if err != nil {
		return "", err
	}
	b.after(func(ctx context.Context) error {
		_, err := b.api.DeleteSecurityGroup(labapi.As(ctx, consumer), &apiv1.DeleteSecurityGroupRequest{Name: groupID})
		return err
	})
	if err := b.admitOnly(ctx, in); err != nil {
		return "", err
	}
	request := b.request("near", "consumer-a")
	request.SecurityGroups = []string{groupID}
	g, err := b.create(ctx, consumer, request)
	if err != nil {
		return "", err
	}
	to, before := g.to(0, portLine), b.drops(dataplane.SecurityGroup)
	if err := b.answers(ctx, in, to); err != nil {
		return "", err
	}
	if err := b.vanishes(ctx, out, to, dataplane.SecurityGroup); err != nil {
		return "", err
	}
	if err := b.admitOnly(ctx, in, out); err != nil {
		return "", err
	}
	held, err := b.line(ctx, out, to)
	if err != nil {
		return "", fmt.Errorf("allowed: %w", err)
	}
	defer held.Close()
	if err := b.admitOnly(ctx, in); err != nil {
		return "", err
	}
	if err := b.vanishes(ctx, out, to, dataplane.SecurityGroup); err != nil {
		return "", fmt.Errorf("the rule removed again: %w", err)
	}
	if err := held.echo("still there"); err != nil {
		return "", fmt.Errorf("the connection that was let in: %w", err)
	}
	return fmt.Sprintf("%s refused; with a rule let in; without, its connection goes on, a new one refused; %d counted",
		out, b.drops(dataplane.SecurityGroup)-before), nil
}

// The endpoint is changed in every way in which it can be, and then the daemon is another one.
func addressStays(ctx context.Context, b *Bed) (string, error) {
	g, err := b.guest(ctx)
	if err != nil {
		return "", err
	}
	to := g.to(0, portLine)
	err = b.change(ctx, g, func(e *apiv1.Endpoint) {
		e.Enis = append([]*apiv1.SubnetAddress{{Subnet: "consumer-b"}}, e.Enis...)
		e.Metadata.Tags = map[string]string{"changed": "yes"}
	})
	if err != nil {
		return "", err
	}
	other := g.to(0, portLine)
	if now := g.to(1, portLine); now != to {
		return "", fmt.Errorf("with another subnet %s became %s", to, now)
	}
	if err := b.answers(ctx, "client-3", other); err != nil {
		return "", fmt.Errorf("in the other subnet: %w", err)
	}
	if err := b.change(ctx, g, func(e *apiv1.Endpoint) { e.Enis = e.Enis[1:] }); err != nil {
		return "", err
	}
	if err := b.gone(ctx, "client-3", other); err != nil {
		return "", fmt.Errorf("without the other subnet: %w", err)
	}
	begun := time.Now()
	if err := b.restartDaemon(ctx, b.topology.Testing.Overrides()); err != nil {
		return "", err
	}
	took := time.Since(begun)
	e, err := b.api.GetEndpoint(labapi.As(ctx, consumer), &apiv1.GetEndpointRequest{Name: g.uidName()})
	if err != nil {
		return "", err
	}
	g.Endpoint = e
	if now := g.to(0, portLine); now != to {
		return "", fmt.Errorf("with another daemon %s became %s", to, now)
	}
	if err := b.answers(ctx, "client-1", to); err != nil {
		return "", fmt.Errorf("with another daemon: %w", err)
	}
	if err := b.answers(ctx, appB.instance, b.site(siteB, portLine)); err != nil {
		return "", fmt.Errorf("with another daemon, through appliances: %w", err)
	}
	return fmt.Sprintf("%s, with a subnet more and less; all healthy %.1f s after a restart", to.Addr(), took.Seconds()), nil
}

// Several connections at once, since one alone backs off further than it has to when it loses packets. What comes from the
// bucket after a quiet time is not measured.
func bandwidth(ctx context.Context, b *Bed) (string, error) {
	const limit, least, most = 50e6, 10e6, 65e6
	const saved, begin, measured = 100 * time.Millisecond, 200 * time.Millisecond, time.Second
	g, err := b.guest(ctx)
	if err != nil {
		return "", err
	}
	to := g.to(0, portPlain)
	free, err := b.throughput(ctx, to, begin, begin)
	if err != nil {
		return "", err
	}
	before := b.drops(dataplane.Bandwidth)
	err = b.change(ctx, g, func(e *apiv1.Endpoint) {
		e.Bandwidth = &apiv1.Bandwidth{RateBitsPerSecond: limit, BurstBitsPerSecond: 4 * limit, BurstTime: durationpb.New(saved)}
	})
	if err != nil {
		return "", err
	}
	limited, err := b.throughput(ctx, to, begin, measured)
	if err != nil {
		return "", err
	}
	dropped := b.drops(dataplane.Bandwidth) - before
	figure := fmt.Sprintf("%.0f Mbit/s before, %.0f with a limit of %.0f; %d packets dropped, counted as bandwidth",
		free/1e6, limited/1e6, limit/1e6, dropped)
	if free < 2*most || limited < least || limited > most || dropped == 0 {
		return "", fmt.Errorf("%s; it should be %.0f to %.0f", figure, least/1e6, most/1e6)
	}
	return figure, nil
}

// throughput reads from several connections as fast as it comes, and is what came in a time, in bits a second, after
// another one that does not count.
func (b *Bed) throughput(ctx context.Context, to netip.AddrPort, begin, measured time.Duration) (float64, error) {
	const connections = 16
	var arrived atomic.Int64
	reading, stop := context.WithCancel(ctx)
	var readers errgroup.Group
	for range connections {
		readers.Go(func() error {
			c, err := b.dial(reading, "client-1", to)
			if err != nil {
				return err
			}
			defer c.Close()
			response, err := c.send(http.MethodGet, fmt.Sprintf("/bytes?n=%d", int64(1)<<40), nil, 0)
			buf := make([]byte, 64<<10)
			for err == nil {
				var n int
				n, err = response.Body.Read(buf)
				arrived.Add(int64(n))
			}
			return err
		})
	}
	at := func(d time.Duration) (int64, time.Time, error) {
		since := time.Now()
		err := await(ctx, "data to arrive", func() bool { return time.Since(since) >= d })
		return arrived.Load(), time.Now(), err
	}
	first, since, err := at(begin)
	if err == nil {
		var last int64
		var until time.Time
		if last, until, err = at(measured); err == nil {
			stop()
			readers.Wait() // it ends with the error of having been stopped
			return float64(last-first) * 8 / until.Sub(since).Seconds(), nil
		}
	}
	stop()
	return 0, errors.Join(err, readers.Wait())
}
