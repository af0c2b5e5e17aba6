// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// The one address plan of both sides: the client has the addresses of the target, and the endpoint that of the node.
var (
	cidr    = netip.MustParsePrefix("10.0.0.0/16")
	eniAddr = netip.MustParseAddr("10.0.1.5")
	hosts   = []netip.Addr{
		netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.1.11"), netip.MustParseAddr("10.0.1.12"),
	}
)

const (
	endpointID   = "vpce-0123456789abcdef0"
	consumerPort = "consumer"
	providerPort = "provider"
)

// modes are the ways to run the ports.
var modes = []struct {
	name string
	off  port.Switches
}{
	{"on", port.Switches{}},
	{"off", port.Switches{Offloads: true}},
	{"plain", port.Switches{Plain: true}},
}

// service is a listener and the one target behind it, which has the same port.
type service struct {
	port  uint16
	proxy vpc.ProxyProtocol
}

// options are how a bed differs from the usual.
type options struct {
	services []service
	off      port.Switches
	workers  int
	idle     time.Duration // testing override; 0 is none
	wrap     func(id string, p port.Port) port.Port
}

// bed is a consumer and a provider, each a namespace with a TUN device, and a daemon between them.
type bed struct {
	testing.TB
	consumer, provider *netns.NS
	client             netip.Addr // where connections come from that do not say
	daemon             *control.Daemon
	state              *vpc.State
}

// newBed builds a bed that is taken away when the test ends.
func newBed(t testing.TB, o options) *bed {
	t.Helper()
	b := &bed{TB: t, consumer: netnstest.New(t), provider: netnstest.New(t), client: hosts[0]}
	b.state = b.describe(o)
	b.daemon = runDaemon(t, control.Options{Workers: o.workers, Offloads: o.off, WrapPort: o.wrap}, b.state)
	return b
}

// runDaemon runs a daemon with a state in force until the test ends.
func runDaemon(t testing.TB, o control.Options, s *vpc.State) *control.Daemon {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := control.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
	})
	limit, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := d.Apply(limit, s); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Ready():
	case <-limit.Done():
		t.Fatal("the daemon is not ready after 10 s")
	}
	return d
}

// describe is the state of a bed.
func (b *bed) describe(o options) *vpc.State {
	const zone = "use1-az1"
	tun := func(id, vpcID string, ns *netns.NS) vpc.Port {
		p := vpc.Port{ID: id, VPC: vpcID, Kind: vpc.TUN, Netns: ns.Path(), Device: "eni0"}
		for _, h := range hosts {
			p.Addresses = append(p.Addresses, netip.PrefixFrom(h, 24))
		}
		return p
	}
	eni := func(id string) []vpc.ENI {
		return []vpc.ENI{{Address: eniAddr, Zone: zone, Ports: []string{id}}}
	}
	s := &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1},
		VPCs:     []vpc.VPC{{ID: "vpc-consumer", CIDRs: []netip.Prefix{cidr}}, {ID: "vpc-provider", CIDRs: []netip.Prefix{cidr}}},
		Ports:    []vpc.Port{tun(consumerPort, "vpc-consumer", b.consumer), tun(providerPort, "vpc-provider", b.provider)},
		Services: []vpc.EndpointService{{ID: "vpce-svc-bed", LoadBalancers: []string{"nlb"}}},
		Endpoints: []vpc.Endpoint{
			{ID: endpointID, Service: "vpce-svc-bed", VPC: "vpc-consumer", ENIs: eni(consumerPort)},
		},
	}
	lb := vpc.LoadBalancer{ID: "nlb", VPC: "vpc-provider", Nodes: eni(providerPort)}
	for _, svc := range o.services {
		group := netip.AddrPortFrom(hosts[0], svc.port).String()
		lb.Listeners = append(lb.Listeners, vpc.Listener{Port: svc.port, TargetGroup: group, IdleTimeout: 350 * time.Second})
		s.TargetGroups = append(s.TargetGroups, vpc.TargetGroup{
			ID: group, VPC: "vpc-provider", ProxyProtocol: svc.proxy,
			Targets: []vpc.Target{{Address: hosts[0], Port: svc.port, Zone: zone}},
		})
	}
	s.LoadBalancers = []vpc.LoadBalancer{lb}
	if o.idle != 0 {
		s.Testing = &vpc.Testing{TCPIdle: o.idle}
	}
	return s
}

// apply puts a changed copy of the bed's state in force.
func (b *bed) apply(change func(*vpc.State)) {
	b.Helper()
	next := *b.state
	next.Revision++
	change(&next)
	if err := b.daemon.Apply(b.Context(), &next); err != nil {
		b.Fatal(err)
	}
	b.state = &next
}

// endpoint is the address of the endpoint on a port.
func endpoint(port uint16) string { return netip.AddrPortFrom(eniAddr, port).String() }

// dial connects to the endpoint.
func (b *bed) dial(port uint16) *net.TCPConn {
	b.Helper()
	c, err := b.tryDial(b.Context(), port, b.client)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// tryDial connects to the endpoint from one of the consumer's addresses.
func (b *bed) tryDial(ctx context.Context, port uint16, from netip.Addr) (*net.TCPConn, error) {
	d := netns.Dialer{NS: b.consumer, Local: netip.AddrPortFrom(from, 0)}
	c, err := d.DialContext(ctx, "tcp4", endpoint(port))
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), nil
}

// listen takes connections on the target, on all its addresses.
func (b *bed) listen(port uint16) net.Listener {
	b.Helper()
	l, err := netns.Listen(b.provider, "tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// accept takes one connection.
func (b *bed) accept(l net.Listener) *net.TCPConn {
	b.Helper()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	c, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// patience is how long anything may take before a test gives up.
const patience = 60 * time.Second

// load chooses by the wanted size of the tests: -short, usual, or ISTHMUS_LONG=1.
func load[N any](short, usual, long N) N {
	switch {
	case testing.Short():
		return short
	case os.Getenv("ISTHMUS_LONG") == "1":
		return long
	}
	return usual
}
