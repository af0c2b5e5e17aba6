// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// datagramTime is how long an answer to a datagram may take that is to be answered.
const datagramTime = 5 * time.Second

// echoUDP answers every datagram to a port of an instance with the same, until the returned function is called.
func (b *Bed) echoUDP(instance string, port uint16) (stop func(), err error) {
	at := netip.AddrPortFrom(b.address(instance), port)
	conn, err := netns.ListenPacket(b.spaces[instance], "udp4", at.String())
	if err != nil {
		return nil, fmt.Errorf("UDP server on %s: %w", instance, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(buf[:n], from)
		}
	}()
	return func() {
		conn.Close()
		<-done
	}, nil
}

// datagrams is a UDP socket of an instance, connected to an address.
type datagrams struct {
	net.Conn
	ctx context.Context
}

// firstDatagramPort is the first source port of datagrams, below those that kernels choose.
const firstDatagramPort = 20000

// dialUDP makes such a socket, on a port that none before it had: a flow lives on for two minutes, and the next one of its
// addresses and ports would be the same to a load balancer.
func (b *Bed) dialUDP(ctx context.Context, instance string, to netip.AddrPort) (*datagrams, error) {
	local := netip.AddrPortFrom(b.address(instance), firstDatagramPort+b.datagrams)
	b.datagrams++
	dialer := netns.Dialer{NS: b.spaces[instance], Local: local}
	conn, err := dialer.DialContext(ctx, "udp4", to.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", instance, err)
	}
	return &datagrams{conn, ctx}, nil
}

// local is the socket's own address.
func (d *datagrams) local() netip.AddrPort {
	p := d.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// ask sends a datagram once and waits for the same to come back. No answer is an error that is os.ErrDeadlineExceeded.
func (d *datagrams) ask(text string, within time.Duration) error {
	if _, err := d.Write([]byte(text)); err != nil {
		return err
	}
	d.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, len(text)+1)
	for {
		n, err := d.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("no answer from %s to %s: %w", d.RemoteAddr(), d.LocalAddr(), err)
		case err != nil:
			return err
		case string(buf[:n]) == text:
			return d.ctx.Err()
		}
	}
}

// spreadUDP has an instance begin n UDP flows to an address in another, where datagrams are echoed, and counts which
// appliance each came to; it has to see the answer, too.
func (b *Bed) spreadUDP(ctx context.Context, from flowPath, to netip.AddrPort, n int) (map[string]int, error) {
	count := map[string]int{}
	for range n {
		d, err := b.dialUDP(ctx, from.instance, to)
		if err != nil {
			return nil, err
		}
		err = d.ask("hello", datagramTime)
		local := d.local()
		d.Close()
		if err != nil {
			return nil, err
		}
		f, err := b.both(tuple{from.vpc, "udp", local, to}, from.out, from.back)
		if err != nil {
			return nil, err
		}
		count[f.instance]++
	}
	return count, nil
}

// flowPath is an instance, its VPC, and the endpoints that what it sends to the internet, and what comes from there, takes.
type flowPath struct{ instance, vpc, out, back string }

// Instances of demo.yaml that are inspected, and those on the internet.
var (
	appA  = flowPath{"app-a", "spoke-a", "leaving-a", "entering-a"}
	appA2 = flowPath{"app-a2", "spoke-a", "leaving-a2", "leaving-a2"}
	appB  = flowPath{"app-b", "spoke-b", "inspect-b", "inspect-b"}
)

const (
	siteA = "site-a"
	siteB = "site-b"
	// portEcho is where datagrams are echoed.
	portEcho = 7
)

// site is a port of an instance on the internet.
func (b *Bed) site(instance string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(b.address(instance), port)
}
