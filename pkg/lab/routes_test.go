// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// withIPv6 makes a topology of routed one with IPv6.
func withIPv6(text string) string {
	text = strings.Replace(text, "cidr: 10.0.0.0/16\n", "cidr: 10.0.0.0/16\n    ipv6_cidr: 2001:db8:a::/56\n", 1)
	text = strings.Replace(text, "cidr: 10.0.1.0/24}", "cidr: 10.0.1.0/24, ipv6_cidr: \"2001:db8:a:1::/64\"}", 1)
	text = strings.Replace(text, "cidr: 10.0.2.0/24}", "cidr: 10.0.2.0/24, ipv6_cidr: \"2001:db8:a:2::/64\"}", 1)
	return strings.Replace(text, "cidr: 203.0.113.0/24}", "cidr: 203.0.113.0/24, ipv6_cidr: \"2001:db8:ff::/64\"}", 1)
}

// routed is a VPC with an endpoint, an instance to forward and an internet; %s are the routes of its tables.
const routed = `
name: x
vpcs:
  - name: v
    cidr: 10.0.0.0/16
    subnets:
      - {name: a, zone: z1, cidr: 10.0.1.0/24}
      - {name: b, zone: z1, cidr: 10.0.2.0/24}
    internet: {cidr: 203.0.113.0/24}
    instances:
      - {name: i, subnet: a}
      - {name: j, subnet: internet}
  - name: p
    cidr: 10.0.0.0/16
    subnets: [{name: a, zone: z1, cidr: 10.0.1.0/24}]
    instances: [{name: fw, subnet: a}]
load_balancers: [{name: g, type: gateway, vpc: p, listeners: [{target_group: t}]}]
target_groups: [{name: t, targets: [{instance: fw}]}]
services: [{name: s, load_balancers: [g]}]
endpoints: [{name: e, service: s, vpc: v, enis: [{subnet: b}]}]
route_tables:
  - {name: r, vpc: v, subnets: [a], routes: [%s]}
`

func TestResolve(t *testing.T) {
	const nothing = "0.0.0.0/0 nowhere"
	for _, c := range []struct {
		name, routes string
		want         []string
	}{
		{"what every table has", "", []string{nothing, "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 br-b"}},
		{"default", "{destination: 0.0.0.0/0, via: e}",
			[]string{"0.0.0.0/0 vpce-e", "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 br-b"}},
		{"internet", "{destination: 0.0.0.0/0, via: internet}",
			[]string{"0.0.0.0/0 br-internet", "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 br-b"}},
		{"one subnet through the endpoint", "{destination: 10.0.2.0/24, via: e}",
			[]string{nothing, "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 vpce-e"}},
		{"more than a subnet, less than the vpc", "{destination: 10.0.2.0/23, via: e}",
			[]string{nothing, "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/23 vpce-e"}},
		{"all of the vpc", "{destination: 10.0.0.0/16, via: e}", []string{nothing, "10.0.0.0/16 vpce-e"}},
		{"all but one subnet", "{destination: 10.0.0.0/16, via: e}, {destination: 10.0.2.0/24, via: local}",
			[]string{nothing, "10.0.0.0/16 vpce-e", "10.0.2.0/24 br-b"}},
		{"a part of a subnet", "{destination: 10.0.2.128/25, via: e}, {destination: 10.0.2.128/26, via: local}",
			[]string{nothing, "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 br-b", "10.0.2.128/25 vpce-e", "10.0.2.128/26 br-b"}},
		{"an instance", "{destination: 192.0.2.0/24, via: i}",
			[]string{nothing, "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 br-b", "192.0.2.0/24 br-a 10.0.1.4"}},
	} {
		topology := parse(t, fmt.Sprintf(routed, c.routes))
		if diff := cmp.Diff(c.want, resolved(topology)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	ipv6 := parse(t, withIPv6(fmt.Sprintf(routed, `{destination: "::/0", via: e}, {destination: "2001:db8:b::/64", via: i}, {destination: "2001:db8:a:2::/64", via: e}`)))
	want := []string{nothing, "10.0.0.0/16 nowhere", "10.0.1.0/24 br-a", "10.0.2.0/24 br-b", "2001:db8:a:1::/64 br-a",
		"2001:db8:a:2::/64 vpce-e", "2001:db8:a::/56 nowhere", "2001:db8:b::/64 br-a 2001:db8:a:1::4", "::/0 vpce-e"}
	if diff := cmp.Diff(want, resolved(ipv6)); diff != "" {
		t.Errorf("with IPv6: %s", diff)
	}
}

// resolved are the kernel's routes for the first route table, as text.
func resolved(topology *Topology) (got []string) {
	for _, r := range topology.resolve(&topology.RouteTables[0], &topology.VPCs[0]) {
		text := r.Destination.String() + " nowhere"
		if r.Link != "" {
			text = r.Destination.String() + " " + r.Link
		}
		if r.Gateway.IsValid() {
			text += " " + r.Gateway.String()
		}
		got = append(got, text)
	}
	slices.Sort(got)
	return got
}

func TestRouteTablesAreChecked(t *testing.T) {
	whole := fmt.Sprintf(routed, "{destination: 0.0.0.0/0, via: e}")
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown vpc", "vpc: v, subnets: [a]", "vpc: w, subnets: [a]", `no vpc "w"`},
		{"unknown subnet", "subnets: [a], routes", "subnets: [c], routes", `no subnet "c"`},
		{"nothing follows it", "subnets: [a], routes", "routes", "nothing follows it"},
		{"two tables", "\nroute_tables:", "\nroute_tables:\n  - {name: q, vpc: v, subnets: [a]}", "follows q already"},
		{"name taken", "\nroute_tables:", "\nroute_tables:\n  - {name: r, vpc: v, subnets: [b]}", "two of the name"},
		{"unknown edge", "subnets: [a], routes", "edge: vpn, routes", `"vpn" is no edge`},
		{"no internet", "    internet: {cidr: 203.0.113.0/24}\n", "", `no subnet "internet"`},
		{"host bits", "0.0.0.0/0, via", "10.0.0.1/8, via", "is not a prefix of a family"},
		{"no prefix", "0.0.0.0/0, via", "everywhere, via", "line 22"},
		{"unknown next hop", "via: e", "via: f", `"f" is no next hop`},
		{"next hop elsewhere", "via: e", "via: fw", `"fw" is no next hop`},
		{"twice", "via: e}", "via: e}, {destination: 0.0.0.0/0, via: local}", "two routes to 0.0.0.0/0"},
		{"local of others", "0.0.0.0/0, via: e", "0.0.0.0/0, via: local", "only what is can be local"},
		{"internet inside", "203.0.113.0/24", "10.0.3.0/24", "of its internet"},
		{"subnet called internet", "{name: b, zone: z1,", "{name: internet, zone: z1,", "kept for the internet"},
		{"endpoint in the internet", "enis: [{subnet: b}]", "enis: [{subnet: internet}]", `no subnet "internet"`},
		{"two subnets", "enis: [{subnet: b}]", "enis: [{subnet: a}, {subnet: b}]", "is in one subnet"},
		{"wrong type", "service: s, vpc: v", "type: Interface, service: s, vpc: v", "write GatewayLoadBalancer"},
		{"a listener with a port", "[{target_group: t}]", "[{port: 80, target_group: t}]", "has one listener"},
		{"unknown type of load balancer", "type: gateway", "type: classic", "write network or gateway"},
		{"unknown stickiness", "{name: t,", "{name: t, stickiness: very,", "is no stickiness"},
		{"unknown failover", "{name: t,", "{name: t, target_failover: maybe,", "is no target_failover"},
		{"unknown mode", "{name: fw, subnet: a}", "{name: fw, subnet: a, run: [{appliance: {mode: fast}}]}", "write hairpin or tun"},
		{"appliance and server", "{name: fw, subnet: a}", "{name: fw, subnet: a, run: [{server: http, appliance: {}}]}", "two entries"},
		{"health port taken", "{name: fw, subnet: a}", "{name: fw, subnet: a, run: [{server: http}, {appliance: {}}]}", "another port"},
		{"IPv6 route without IPv6", "0.0.0.0/0, via", "'::/0', via", "of a family that vpc v has"},
		{"IPv6 subnet without IPv6", "{name: a, zone: z1,", "{name: a, zone: z1, ipv6_cidr: 'fd00::/64',", "is not a /64 inside"},
		{"IPv6 internet without IPv6", "internet: {", "internet: {ipv6_cidr: 'fd00::/64', ", "is not a /64 outside"},
		{"IPv4 as IPv6", "cidr: 10.0.0.0/16\n", "cidr: 10.0.0.0/16\n    ipv6_cidr: 10.0.0.0/16\n", "is not an IPv6 prefix"},
	} {
		text := strings.Replace(whole, c.old, c.new, 1)
		if text == whole {
			t.Errorf("%s: %q is not in the topology", c.name, c.old)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.want)
		}
	}
}

// tun is a device of the dataplane's in a router, opened by a test.
type tun struct{ *os.File }

func openTUN(t *testing.T, router *netns.NS, name string) tun {
	t.Helper()
	var fd int
	must(t, netns.Do(router, func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}))
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	must(t, netns.ConfigurePort(router, name, netns.PortOptions{Transit: true}))
	return tun{file}
}

// next is the next packet from src, waiting for it, and its TTL.
func (d tun) next(t *testing.T, src netip.Addr) (packet []byte, ttl uint8) {
	t.Helper()
	must(t, d.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 1<<16)
	for {
		n, err := d.Read(buf)
		must(t, err)
		switch b := buf[:n]; {
		case b[0]>>4 == 4 && netip.AddrFrom4(wire.IPv4(b).Src()) == src:
			return b, wire.IPv4(b).TTL()
		case b[0]>>4 == 6 && netip.AddrFrom16(wire.IPv6(b).Src()) == src:
			return b, wire.IPv6(b).HopLimit()
		}
	}
}

// TestRoutesLeadThroughEndpoints sends a datagram each way and looks where it goes, step by step.
func TestRoutesLeadThroughEndpoints(t *testing.T) {
	topology, dir := up(t, "../../examples/gwlb-two-vpcs.yaml")
	router := space(t, dir, "spoke-a")
	device := openTUN(t, router, "vpce-inspect-a")
	openTUN(t, space(t, dir, "spoke-b"), "vpce-inspect-b")
	routeTables(t, topology, dir)
	for _, ends := range [][2]string{{"10.0.1.10:7777", "203.0.113.10:7777"}, {"[2001:db8:a:1::a]:7777", "[2001:db8:ff::a]:7777"}} {
		app, site := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		sockets := map[netip.AddrPort]net.PacketConn{app: listenUDP(t, dir, "app-a", app), site: listenUDP(t, dir, "site-a", site)}
		for _, way := range []struct{ from, to netip.AddrPort }{{app, site}, {site, app}} {
			_, err := sockets[way.from].WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(way.to))
			must(t, err)
			packet, ttl := device.next(t, way.from.Addr())
			if ttl != 63 {
				t.Errorf("%s: the TTL at the endpoint is %d, want one less than 64", way.from, ttl)
			}
			_, err = device.Write(packet)
			must(t, err)
			buf := make([]byte, 100)
			n, from, err := sockets[way.to].ReadFrom(buf)
			must(t, err)
			if string(buf[:n]) != "hello" || from.String() != way.from.String() {
				t.Errorf("%q came from %s, want what %s sent", buf[:n], from, way.from)
			}
		}
	}
}

// routeTables makes the routes to GWLB endpoints as the daemon does.
func routeTables(t *testing.T, topology *Topology, dir string) {
	t.Helper()
	state, err := topology.State(dir)
	must(t, err)
	for _, p := range state.Ports {
		if p.Kind != vpc.TUN {
			continue
		}
		router, err := netns.Open(p.Netns)
		must(t, err)
		var routes []netns.PortRoute
		for _, r := range p.TableRoutes {
			routes = append(routes, netns.PortRoute{Destination: r.Destination, Table: int(r.Table)})
		}
		must(t, netns.SetPortRoutes(router, p.Device, routes))
		must(t, router.Close())
	}
}

// listenUDP opens a UDP socket of a node for the time of the test.
func listenUDP(t *testing.T, dir, node string, at netip.AddrPort) net.PacketConn {
	t.Helper()
	conn, err := netns.ListenPacket(space(t, dir, node), "udp", at.String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

// TestNothingPassesWithoutTheEndpoint shows that a route through an endpoint that is down is not replaced by a shorter one.
func TestNothingPassesWithoutTheEndpoint(t *testing.T) {
	netnstest.RequirePrivileged(t)
	topology := parse(t, fmt.Sprintf(routed, "{destination: 0.0.0.0/0, via: internet}, {destination: 203.0.113.4/32, via: e}"))
	dir := filepath.Join(t.TempDir(), topology.Name)
	gone(t, dir)
	must(t, Up(context.Background(), topology, dir))
	dial := func(to string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		conn, err := netns.Dial(ctx, space(t, dir, "i"), "tcp4", to)
		if err == nil {
			conn.Close()
		}
		return err
	}
	for _, at := range []string{"203.0.113.4:80", "203.0.113.1:80"} {
		listener, err := netns.Listen(space(t, dir, map[bool]string{true: "j", false: "v"}[at == "203.0.113.4:80"]), "tcp4", at)
		must(t, err)
		defer listener.Close()
	}
	if err := dial("203.0.113.1:80"); err != nil {
		t.Errorf("the internet's gateway: %v", err)
	}
	if err := dial("203.0.113.4:80"); err == nil {
		t.Error("a packet went around the endpoint")
	}
}
