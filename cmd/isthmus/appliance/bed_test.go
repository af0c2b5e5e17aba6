// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Addresses of the bed: two hosts in the consumer's VPC, the load balancer's node and the appliance in another.
var (
	source4   = netip.MustParseAddr("10.1.0.2")
	target4   = netip.MustParseAddr("10.2.0.2")
	source6   = netip.MustParseAddr("fd01::2")
	target6   = netip.MustParseAddr("fd02::2")
	node      = netip.MustParseAddr("10.9.0.1")
	inspector = netip.MustParseAddr("10.9.0.10")
)

const (
	endpointID   = "vpce-0123456789abcdef0"
	endpointName = "vpce-*123456789abcdef0"
	hostMTU      = 8500
	patience     = 10 * time.Second // for what must come
	silence      = 300 * time.Millisecond
)

// bed is two hosts whose traffic a router sends through a GWLB endpoint, the dataplane, and one appliance:
//
//	source -- router -- target
//	            |
//	         endpoint == dataplane == node -- host of the appliance
type bed struct {
	*testing.T
	source, router, target, host *netns.NS
	engine                       *dataplane.Engine
	appliance                    *appliance.Appliance
	// kill ends the appliance and waits until it is gone.
	kill func()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newBed builds the bed and runs the dataplane, and the appliance on its host.
func newBed(t *testing.T, off port.Switches, o appliance.Options) *bed {
	t.Helper()
	b := &bed{T: t, source: netnstest.New(t), router: netnstest.New(t), target: netnstest.New(t), host: netnstest.New(t)}
	must(t, netns.Forward(b.router))
	must(t, netns.SetSysctls(b.router, netns.Sysctl{Name: "net/ipv6/conf/all/forwarding", Value: "1"}))
	b.attach(b.source, "source", source4, source6)
	b.attach(b.target, "target", target4, target6)
	endpoint := b.openPort(b.router, "endpoint", off, netns.PortOptions{})
	must(t, netns.SetSysctls(b.router, netns.Sysctl{Name: "net/ipv6/conf/endpoint/disable_ipv6", Value: "0"}))
	for _, everything := range []string{"0.0.0.0/0", "::/0"} {
		p := netip.MustParsePrefix(everything)
		must(t, netns.SetRoute(b.router, netns.Route{Destination: p, Link: "endpoint", Table: 100}))
		for i, link := range []string{"source", "target"} {
			must(t, netns.AddRule(b.router, netns.Rule{Priority: 100 + i, InInterface: link, Table: 100, IPv6: p.Addr().Is6()}))
		}
	}
	ports := map[string]port.Port{
		"endpoint": endpoint,
		"node":     b.openPort(b.host, "node", off, netns.PortOptions{Addresses: []netip.Prefix{netip.PrefixFrom(inspector, 24)}}),
	}
	b.runAppliance(o)
	b.runEngine(ports)
	return b
}

// attach connects a host to the router.
func (b *bed) attach(host *netns.NS, name string, addrs ...netip.Addr) {
	b.Helper()
	for _, ns := range []*netns.NS{b.router, host} { // links that are made from now on have IPv6
		must(b, netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv6/conf/default/disable_ipv6", Value: "0"},
			netns.Sysctl{Name: "net/ipv6/conf/default/accept_dad", Value: "0"}))
	}
	must(b, netns.CreateVethPair(b.router, name, host, "eth0", hostMTU))
	must(b, netns.SetUp(b.router, name))
	must(b, netns.SetUp(host, "eth0"))
	for _, a := range addrs {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		gateway := a.Prev()
		must(b, netns.AddAddress(b.router, name, netip.PrefixFrom(gateway, bits)))
		must(b, netns.AddAddress(host, "eth0", netip.PrefixFrom(a, bits)))
		must(b, netns.AddDefaultRoute(host, "eth0", gateway))
	}
}

// openPort opens one of the dataplane's devices.
func (b *bed) openPort(ns *netns.NS, name string, off port.Switches, options netns.PortOptions) port.Port {
	b.Helper()
	var tun *port.TUN
	must(b, netns.Do(ns, func() (err error) {
		tun, err = port.OpenTUN(port.Config{Name: name, Device: name, Disable: off})
		return err
	}))
	b.Cleanup(func() { tun.Close() })
	must(b, netns.ConfigurePort(ns, name, options))
	return tun
}

func (b *bed) runAppliance(o appliance.Options) {
	b.Helper()
	o.Netns = b.host
	a, err := appliance.New(o)
	must(b, err)
	b.appliance = a
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := a.Run(ctx); err != nil {
			b.Error(err)
		}
	}()
	b.kill = func() {
		cancel()
		<-ended
	}
	b.Cleanup(b.kill)
}

func (b *bed) runEngine(ports map[string]port.Port) {
	b.Helper()
	engine, err := dataplane.New(dataplane.Config{Workers: 1, MaxFlows: 1000})
	must(b, err)
	st := state()
	must(b, st.Validate())
	must(b, engine.Apply(st, ports))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	b.engine = engine
	b.Cleanup(func() {
		cancel()
		<-ended
		if b.Failed() {
			b.Log("the dataplane's drops:", b.drops(), "\nthe appliance:", b.appliance.Stats())
		}
	})
}

// state is one endpoint and one appliance.
func state() *vpc.State {
	const zone = "use1-az1"
	consumer, provider := "vpc-0000000000000000a", "vpc-0000000000000000b"
	return &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1},
		VPCs: []vpc.VPC{
			{ID: consumer, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/13")}},
			{ID: provider, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}},
		},
		Ports: []vpc.Port{
			{ID: "endpoint", VPC: consumer, Kind: vpc.TUN, Netns: "/run/netns/router", Device: "endpoint"},
			{ID: "node", VPC: provider, Kind: vpc.TUN, Netns: "/run/netns/host", Device: "node"},
		},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: "gwlb", VPC: provider, Type: vpc.Gateway,
			Nodes:     []vpc.ENI{{Address: node, Zone: zone, Ports: []string{"node"}}},
			Listeners: []vpc.Listener{{TargetGroup: "appliances", IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{{ID: "appliances", VPC: provider, DeregistrationDelay: 300 * time.Second,
			Targets: []vpc.Target{{Address: inspector, Port: 6081, Zone: zone}}}},
		Services: []vpc.EndpointService{{ID: "vpce-svc-0000000000000000c", LoadBalancers: []string{"gwlb"}}},
		Endpoints: []vpc.Endpoint{{ID: endpointID, Type: vpc.GatewayLoadBalancer, Service: "vpce-svc-0000000000000000c", VPC: consumer,
			ENIs: []vpc.ENI{{Address: netip.MustParseAddr("10.3.0.5"), Zone: zone, Ports: []string{"endpoint"}}}}},
	}
}

// drops are the dataplane's, by reason.
func (b *bed) drops() map[string]uint64 {
	drops := map[string]uint64{}
	for r, n := range b.engine.Stats().Drops {
		if n > 0 {
			drops[dataplane.Reason(r).String()] = n
		}
	}
	return drops
}

// await waits until the condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(time.Millisecond)
	}
}
