// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// gatewayState is a GWLB endpoint on a TUN in a router, and an appliance on a TUN of its own.
func gatewayState(router, appliance string) *vpc.State {
	s := tunState(router, appliance)
	s.Ports[0].Addresses = nil
	lb, g := &s.LoadBalancers[0], &s.TargetGroups[0]
	lb.Type, lb.Listeners[0].Port = vpc.Gateway, 0
	g.TerminateOnUnhealthy, g.Targets[0].Port = false, vpc.GenevePort
	g.HealthCheck = vpc.HealthCheck{Protocol: vpc.CheckTCP, Port: 80, Interval: 5 * time.Second, Timeout: 2 * time.Second,
		HealthyThreshold: 2, UnhealthyThreshold: 2}
	s.Endpoints[0].Type = vpc.GatewayLoadBalancer
	return s
}

// leaf makes a namespace with one link to the router, both families, and has the router send what comes from it to the
// endpoint's device.
func leaf(t *testing.T, router *netns.NS, name, link string, hosts, gateways []netip.Prefix) *netns.NS {
	t.Helper()
	ns := netnstest.New(t)
	up := func(where *netns.NS, link string, addresses []netip.Prefix) {
		t.Helper()
		if err := netns.SetSysctls(where, netns.Sysctl{Name: "net/ipv6/conf/" + link + "/disable_ipv6", Value: "0"}); err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if err := netns.AddAddress(where, link, a); err != nil {
				t.Fatal(err)
			}
		}
		if err := netns.SetUp(where, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := netns.CreateVethPair(router, name, ns, link, netns.PortMTU); err != nil {
		t.Fatal(err)
	}
	up(router, name, gateways)
	up(ns, link, hosts)
	for i, g := range gateways {
		if err := netns.AddDefaultRoute(ns, link, g.Addr()); err != nil {
			t.Fatal(err)
		}
		if err := netns.AddRule(router, netns.Rule{Priority: 100, InInterface: name, Table: 100, IPv6: i > 0}); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

// hairpin is an appliance: it answers health checks, and sends every GENEVE packet back to where it came from.
func hairpin(t *testing.T, ns *netns.NS) {
	t.Helper()
	listener, err := netns.Listen(ns, "tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	conn, err := netns.ListenPacket(ns, "udp4", ":6081")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			conn.WriteTo(b[:n], &net.UDPAddr{IP: from.(*net.UDPAddr).IP, Port: vpc.GenevePort})
		}
	}()
}

// echoServer sends back what it is sent, at port 7 of both families.
func echoServer(t *testing.T, ns *netns.NS) {
	t.Helper()
	listener, err := netns.Listen(ns, "tcp", "[::]:7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
}

// echo sends a text to an echo server and returns what comes back.
func echo(t *testing.T, ns *netns.NS, to string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := netns.Dial(ctx, ns, "tcp", to)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestInspectionThroughTheKernel has connections of both families pass an appliance in both directions, through one router
// and its endpoint.
func TestInspectionThroughTheKernel(t *testing.T) {
	netnstest.RequirePrivileged(t)
	dir := t.TempDir()
	routerPath, appliancePath := filepath.Join(dir, "router"), filepath.Join(dir, "appliance")
	router := space(t, routerPath)
	if err := netns.Forward(router); err != nil {
		t.Fatal(err)
	}
	if err := netns.SetSysctls(router, netns.Sysctl{Name: "net/ipv6/conf/all/forwarding", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	client := leaf(t, router, "toclient", "up", []netip.Prefix{prefix("10.0.5.10/24"), prefix("fd00:5::10/64")},
		[]netip.Prefix{prefix("10.0.5.1/24"), prefix("fd00:5::1/64")})
	server := leaf(t, router, "toserver", "up", []netip.Prefix{prefix("10.0.6.10/24"), prefix("fd00:6::10/64")},
		[]netip.Prefix{prefix("10.0.6.1/24"), prefix("fd00:6::1/64")})
	hairpin(t, space(t, appliancePath))
	echoServer(t, server)

	d, err := New(Options{Workers: 2, MaxFlows: 10000})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := d.Apply(t.Context(), gatewayState(routerPath, appliancePath)); err != nil {
			t.Errorf("applying the state: %v", err)
		}
	}()
	start(t, d)
	for _, everything := range []string{"0.0.0.0/0", "::/0"} {
		if err := netns.SetRoute(router, netns.Route{Destination: prefix(everything), Link: "isthmus0", Table: 100}); err != nil {
			t.Fatal(err)
		}
	}
	if p := d.reconcile.report.Load().ports[0]; !p.open || len(p.warnings) != 0 {
		t.Errorf("the endpoint's port is reported as %+v", p)
	}
	for _, to := range []string{"10.0.6.10:7", "[fd00:6::10]:7"} {
		if got := echo(t, client, to); got != "hello" {
			t.Errorf("%s answers %q", to, got)
		}
	}
	eventually(t, "the appliance is healthy", func() bool {
		targets := d.Stats().Targets
		return len(targets) == 1 && targets[0].Health == dataplane.Healthy
	})
	flows := 0
	err = d.Flows(t.Context(), func(f dataplane.FlowInfo) bool {
		if f.Inspected {
			flows++
			if f.Protocol != wire.ProtoTCP || f.Ends[0].Bytes == 0 || f.Ends[1].Bytes == 0 || f.Ends[0].Endpoint != "vpce-0123456789abcdef0" {
				t.Errorf("a flow is %+v", f)
			}
		}
		return true
	})
	if err != nil || flows != 2 {
		t.Errorf("%d flows are inspected, want 2: %v", flows, err)
	}
	// The kernel says nothing of its own into the endpoint's device.
	for r, n := range d.Stats().Drops {
		if n > 0 {
			t.Errorf("%d packets were dropped: %s", n, dataplane.Reason(r))
		}
	}
}
