// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// TestIdleExpiry writes on connections that have been idle for too long, from either side and after the dataplane has
// forgotten them as well as before.
func TestIdleExpiry(t *testing.T) {
	for _, side := range []string{"consumer", "provider"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel() // most of the time is waiting
			b := newBed(t, options{services: []service{plainService}, idle: 200 * time.Millisecond})
			client, server := b.connected(plainPort)
			eventually(t, patience, func() error {
				if n := b.daemon.Stats().Flows.Active; n != 0 {
					return fmt.Errorf("%d flows are not expired", n)
				}
				return nil
			})
			if n := b.daemon.Stats().Flows.Expired; n != 1 {
				t.Errorf("%d flows expired, want 1", n)
			}
			if side == "consumer" {
				b.reset(client)
			} else {
				b.reset(server)
			}
		})
	}
}

// TestUnknownFlow sends a segment of no connection to the endpoint, and one from the target's side to the node.
func TestUnknownFlow(t *testing.T) {
	b := newBed(t, options{services: []service{plainService}})
	s := segment{
		from: netip.AddrPortFrom(hosts[0], 33333), to: netip.AddrPortFrom(eniAddr, plainPort),
		seq: 1000, ack: 2000, flags: wire.TCPAck, payload: 10,
	}
	near, far := watch(t, b.consumer), watch(t, b.provider)
	stats := b.daemon.Stats()
	inject(t, b.consumer, s.packet())
	rst := near.await(t, "RST", func(p captured) bool { return !p.out })
	if tcp := rst.tcp(); tcp.Flags() != wire.TCPRst || tcp.Seq() != s.ack || tcp.DstPort() != s.from.Port() {
		t.Errorf("the answer is no right RST: % x", rst.IPv4)
	}
	s.from, s.to = netip.AddrPortFrom(hosts[0], plainPort), netip.AddrPortFrom(eniAddr, 33333)
	inject(t, b.provider, s.packet())
	rst = far.await(t, "RST", func(p captured) bool { return !p.out })
	if tcp := rst.tcp(); tcp.Flags() != wire.TCPRst || tcp.Seq() != s.ack || tcp.DstPort() != s.from.Port() {
		t.Errorf("the answer is no right RST: % x", rst.IPv4)
	}
	if drops := b.drops(stats); drops[dataplane.NoFlow.String()] != 2 {
		t.Errorf("the dataplane dropped %v, want 2 of no flow", drops)
	}
}

// TestEndpointRemoved takes the endpoint away under open connections: the next segment of either side is answered with
// RST, and new ones lead nowhere.
func TestEndpointRemoved(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxy %v", proxy), func(t *testing.T) {
			b := newBed(t, options{services: []service{{plainPort, vpc.ProxyProtocol{Enabled: proxy}}}})
			client, server := b.connected(plainPort)
			b.apply(func(s *vpc.State) { s.Endpoints = nil })
			b.reset(client)
			b.reset(server)
			b.closed()
			if drops := b.daemon.Stats().Drops; drops[dataplane.FlowRemoved] == 0 {
				t.Errorf("nothing was dropped for a removed flow: %v", b.drops(dataplane.Stats{}))
			}
		})
	}
}

// TestTargetPortClosed connects to a service whose target has no server.
func TestTargetPortClosed(t *testing.T) {
	b := newBed(t, options{services: []service{plainService}})
	_, err := b.tryDial(t.Context(), plainPort, b.client)
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to a closed port: %v, want ECONNREFUSED", err)
	}
	b.quiet()
}

// connected opens a connection that has carried data, and returns both ends.
func (b *bed) connected(port uint16) (client, server *net.TCPConn) {
	b.Helper()
	l := b.listen(port)
	client = b.dial(port)
	server = b.accept(l)
	if _, err := client.Write([]byte{1}); err != nil {
		b.Fatal(err)
	}
	// The header, if there is one, comes before it.
	if _, err := server.Read(make([]byte, 1000)); err != nil {
		b.Fatal(err)
	}
	b.exchange(server, client, 1)
	return client, server
}

// reset writes on a connection and expects it to be reset, if it has not been already: an acknowledgement that came late
// may have met the same answer.
func (b *bed) reset(c net.Conn) {
	b.Helper()
	_, err := c.Write([]byte{1})
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		b.Errorf("writing, and then reading, says %v, want ECONNRESET", err)
	}
}
