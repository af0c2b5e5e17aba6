// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Appliances of demo.yaml, by zone.
var (
	zone1 = []string{"fw-1", "fw-2"}
	zone2 = []string{"fw-3", "fw-4"}
)

// Connections of both VPCs, and of both zones of one.
func inspectedTCP(ctx context.Context, b *Bed) (string, error) {
	const connections = 12
	count, n := map[string]int{}, 0
	for _, c := range []struct {
		from flowPath
		site string
	}{{appA, siteA}, {appA2, siteA}, {appB, siteB}} {
		to := b.site(c.site, portLine)
		for range connections {
			l, err := b.line(ctx, c.from.instance, to)
			if err != nil {
				return "", err
			}
			err = l.echo("is anybody looking?")
			local := l.local()
			l.Close()
			if err != nil {
				return "", err
			}
			if l.remote != local.String() {
				return "", fmt.Errorf("%s saw %s, the client is %s: something was translated", c.site, l.remote, local)
			}
			f, err := b.both(tuple{c.from.vpc, "tcp", local, to}, c.from.out, c.from.back)
			if err != nil {
				return "", err
			}
			count[f.instance]++
			n++
		}
	}
	return fmt.Sprintf("%d connections, both ways in one appliance: %s", n, shares(count, "fw-1", "fw-2", "fw-3", "fw-4")), nil
}

func inspectedUDP(ctx context.Context, b *Bed) (string, error) {
	const flows = 20
	stop, err := b.echoUDP(siteA, portEcho)
	if err != nil {
		return "", err
	}
	defer stop()
	count, err := b.spreadUDP(ctx, appA, b.site(siteA, portEcho), flows)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d flows, both ways in one appliance: %s", flows, shares(count, zone1...)), nil
}

// A protocol without ports has one flow between two addresses.
func inspectedPing(ctx context.Context, b *Bed) (string, error) {
	const pings, id = 5, 0x6967
	socket, err := b.raw(appA.instance, "icmp")
	if err != nil {
		return "", err
	}
	defer socket.Close()
	to := b.address(siteA)
	deadline, _ := ctx.Deadline()
	for n := range pings {
		if err := socket.ping(to, id); err != nil {
			return "", err
		}
		answered, err := socket.next(func(message []byte, from netip.Addr) bool { return from == to && isReply(message, id) }, deadline)
		if err != nil || !answered {
			return "", fmt.Errorf("ping %d was not answered (%v)", n+1, err)
		}
	}
	f, err := b.both(tuple{appA.vpc, "icmp", netip.AddrPortFrom(socket.local, 0), netip.AddrPortFrom(to, 0)}, appA.out, appA.back)
	if err != nil {
		return "", err
	}
	if f.out.In.Packets != pings || f.back.In.Packets != pings {
		return "", fmt.Errorf("%s saw %d requests and %d replies of %d", f.instance, f.out.In.Packets, f.back.In.Packets, pings)
	}
	return fmt.Sprintf("%d requests, %d replies, all in %s", pings, pings, f.instance), nil
}

func inspectedIPv6(ctx context.Context, b *Bed) (string, error) {
	const connections = 12
	to := netip.AddrPortFrom(b.address6(siteA), portLine)
	listener, err := netns.Listen(b.spaces[siteA], "tcp6", to.String())
	if err != nil {
		return "", err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- lab.Serve(serving, listener, lab.ServerOptions{Kind: lab.Banner, Instance: siteA}) }()
	defer func() {
		stop()
		<-served
	}()
	count := map[string]int{}
	for range connections {
		l, err := b.line(ctx, appA.instance, to)
		if err != nil {
			return "", err
		}
		err = l.echo("is anybody looking?")
		local := l.local()
		l.Close()
		if err != nil {
			return "", err
		}
		f, err := b.both(tuple{appA.vpc, "tcp", local, to}, appA.out, appA.back)
		if err != nil {
			return "", err
		}
		count[f.instance]++
	}
	return fmt.Sprintf("%d connections to %s: %s", connections, to, shares(count, zone1...)), nil
}

// The same addresses and ports in both VPCs at once: what is said to one site must not be heard by the other. Ports are
// tried until one appliance has both flows, so that addresses alone would not tell them apart.
func inspectedOverlap(ctx context.Context, b *Bed) (string, error) {
	const firstPort, tries = 61000, 100
	for port := range uint16(tries) {
		local := netip.AddrPortFrom(b.address(appA.instance), firstPort+port)
		a, err := b.seenFrom(ctx, appA, local, b.site(siteA, portLine), siteA)
		if err != nil {
			return "", err
		}
		other, err := b.seenFrom(ctx, appB, local, b.site(siteB, portLine), siteB)
		if err != nil {
			return "", err
		}
		if a.out.Cookie == other.out.Cookie {
			return "", fmt.Errorf("both flows of %s have the cookie %s", local, a.out.Cookie)
		}
		if a.instance == other.instance {
			return fmt.Sprintf("%s in both VPCs, both in %s: cookies %s, %s", local, a.instance, a.out.Cookie, other.out.Cookie), nil
		}
	}
	return "", fmt.Errorf("%d ports, and no appliance had both flows of one", tries)
}

// seenFrom makes a connection from an address to a site, keeps it until ctx ends so that the flow lives, and returns what
// appliances saw of it.
func (b *Bed) seenFrom(ctx context.Context, from flowPath, local, to netip.AddrPort, site string) (f trail, err error) {
	l, err := b.lineBy(ctx, netns.Dialer{Local: local}, from.instance, to)
	if err != nil {
		return f, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	if l.instance != site {
		return f, fmt.Errorf("%s of %s reached %s", from.instance, from.vpc, l.instance)
	}
	if err := l.echo("who hears this?"); err != nil {
		return f, err
	}
	return b.both(tuple{from.vpc, "tcp", local, to}, from.out, from.back)
}

// What begins outside enters by one endpoint, its answers leave by the other.
func inspectedFromOutside(ctx context.Context, b *Bed) (string, error) {
	const flows = 20
	stop, err := b.echoUDP(appA.instance, portEcho)
	if err != nil {
		return "", err
	}
	defer stop()
	to := netip.AddrPortFrom(b.address(appA.instance), portEcho)
	count := map[string]int{}
	for range flows {
		d, err := b.dialUDP(ctx, siteA, to)
		if err != nil {
			return "", err
		}
		err = d.ask("hello", datagramTime)
		local := d.local()
		d.Close()
		if err != nil {
			return "", err
		}
		f, err := b.both(tuple{appA.vpc, "udp", to, local}, appA.out, appA.back)
		if err != nil {
			return "", err
		}
		if f.out.Cookie != f.back.Cookie {
			return "", fmt.Errorf("the two directions have the cookies %s and %s", f.back.Cookie, f.out.Cookie)
		}
		count[f.instance]++
	}
	return fmt.Sprintf("%d flows in by %s, out by %s: %s", flows, appA.back, appA.out, shares(count, zone1...)), nil
}

func inspectedZones(ctx context.Context, b *Bed) (string, error) {
	const flows = 20
	stop, err := b.echoUDP(siteA, portEcho)
	if err != nil {
		return "", err
	}
	defer stop()
	to := b.site(siteA, portEcho)
	here, err := b.spreadUDP(ctx, appA, to, flows)
	if err != nil {
		return "", err
	}
	there, err := b.spreadUDP(ctx, appA2, to, flows)
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("zone 1: %s; zone 2: %s", shares(here, zone1...), shares(there, zone2...))
	if here["fw-1"] == 0 || here["fw-2"] == 0 || here["fw-1"]+here["fw-2"] != flows || there["fw-3"] == 0 || there["fw-4"] == 0 ||
		there["fw-3"]+there["fw-4"] != flows {
		return "", fmt.Errorf("%s; each zone has two of its own for its %d flows", figure, flows)
	}
	return figure, nil
}

// A segment of a connection that appliances have not seen begin.
func inspectedOrphan(ctx context.Context, b *Bed) (string, error) {
	const wait = 20 * time.Millisecond
	stray := end{
		local: netip.AddrPortFrom(b.address(appA.instance), 61444), remote: b.site(siteA, portLine), next: 1000, ack: 2000,
	}
	tcp, err := b.raw(appA.instance, "tcp")
	if err != nil {
		return "", err
	}
	defer tcp.Close()
	reset := func(until time.Time) (bool, error) {
		return tcp.next(func(message []byte, from netip.Addr) bool { return isReset(message, stray.local.Port()) }, until)
	}
	if err := b.injectDropped(ctx, tcp, stray); err != nil {
		return "", err
	}
	if heard, err := reset(time.Now().Add(wait)); err != nil || heard {
		return "", errors.Join(err, errors.New("a RST came back"))
	}
	if err := b.changeBalancer(ctx, "gwlb", func(lb *apiv1.LoadBalancer) { lb.Listeners[0].SendTcpResetOnIdleTimeout = true }); err != nil {
		return "", err
	}
	if err := b.injectDropped(ctx, tcp, stray); err != nil {
		return "", err
	}
	deadline, _ := ctx.Deadline()
	if heard, err := reset(deadline); err != nil || !heard {
		return "", errors.Join(err, errors.New("with send_tcp_reset_on_idle_timeout no RST came back"))
	}
	return "dropped as not-inspected in silence; with send_tcp_reset on, RST", nil
}

// injectDropped sends a segment and makes sure that it is dropped because no flow has it.
func (b *Bed) injectDropped(ctx context.Context, tcp *rawSocket, stray end) error {
	before := b.drops(dataplane.NotInspected)
	if err := tcp.inject(stray.segment(100, true), stray.remote.Addr()); err != nil {
		return err
	}
	return await(ctx, "the drop counter not-inspected", func() bool { return b.drops(dataplane.NotInspected) > before })
}
