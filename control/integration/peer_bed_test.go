// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Addresses of an inspection: the client, the server and the node are as far as the prefixes go, and every family has
// one host of each kind.
var (
	inspectedClient = [2]netip.Prefix{netip.MustParsePrefix("10.1.5.10/24"), netip.MustParsePrefix("fd00:5::10/64")}
	inspectedServer = [2]netip.Prefix{netip.MustParsePrefix("10.1.6.10/24"), netip.MustParsePrefix("fd00:6::10/64")}
	gatewayNode     = netip.MustParseAddr("10.0.1.5")
	firewallAddrs   = []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.2.10")}
)

// inspectedEndpoint is the number of endpointID: its last 64 bits.
const inspectedEndpoint = 0x123456789abcdef0

// inspectedMTU is that of hosts behind GWLB endpoints, so that no kernel sends what the endpoint drops.
const inspectedMTU = 8500

// inspectionTable is the router's table of what comes from the hosts: all of it goes to the endpoint.
const inspectionTable = 100

// inspection is a client and a server, and a router between them that sends everything through a GWLB endpoint to two
// appliances, which are one peer's programs:
//
//	client -- router -- server
//	            |
//	         endpoint == daemon == node -- two firewalls
type inspection struct {
	testing.TB
	client, router, server *netns.NS
	firewalls              []*firewall
	daemon                 *control.Daemon
}

// firewall is the host of an appliance.
type firewall struct {
	ns      *netns.NS
	address netip.Addr
	wire    *capture // between the dataplane and the appliance
	before  uint64   // packets that had passed there when wire began
	kill    func()
}

// newInspection builds all this, starts the peer on both firewalls and waits until they are healthy.
func newInspection(t testing.TB, p peer, off port.Switches) *inspection {
	t.Helper()
	n := &inspection{TB: t, client: netnstest.New(t), router: netnstest.New(t), server: netnstest.New(t)}
	n.forward(n.router)
	n.attach(n.client, "client", inspectedClient)
	n.attach(n.server, "server", inspectedServer)
	for _, address := range firewallAddrs {
		f := &firewall{ns: netnstest.New(t), address: address}
		n.forward(f.ns)
		n.firewalls = append(n.firewalls, f)
	}
	off.USO = off.USO || !p.takes("super-packets")
	n.daemon = runDaemon(t, control.Options{Workers: 1, Offloads: off, MaxFlows: 1000}, n.describe(p))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("at the end the appliances are %+v", n.daemon.Stats().Targets)
		}
	})
	for _, f := range n.firewalls {
		f.before = n.passed(f)
		f.wire = watch(t, f.ns)
		f.kill = p.start(t, f)
	}
	n.await("both appliances are healthy", func() error { return healthy(n.daemon) })
	return n
}

// passed is how many packets the device of a firewall has carried.
func (n *inspection) passed(f *firewall) uint64 {
	n.Helper()
	link, err := netns.LinkByName(f.ns, "eni0")
	n.must(err)
	return link.RxPackets + link.TxPackets
}

// settle waits until all that the firewalls' devices have carried so far is captured.
func (n *inspection) settle() {
	n.Helper()
	for _, f := range n.firewalls {
		want := n.passed(f) - f.before
		n.await("every packet of "+f.address.String()+" is captured", func() error {
			if got := len(f.wire.find(func(captured) bool { return true })); uint64(got) < want {
				return fmt.Errorf("of %d packets %d are captured", want, got)
			}
			return nil
		})
	}
}

// must fails the test for an error.
func (n *inspection) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// await waits until check finds nothing wrong, and ends the test if that takes too long.
func (n *inspection) await(what string, check func() error) {
	n.Helper()
	var last error
	eventually(n, patience, func() error { last = check(); return last })
	if last != nil {
		n.Fatalf("it never came about that %s", what)
	}
}

// forward makes a namespace a router for both families.
func (n *inspection) forward(ns *netns.NS) {
	n.Helper()
	n.must(netns.Forward(ns))
	n.must(netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv6/conf/all/forwarding", Value: "1"}))
}

// attach connects a host to the router, which sends what comes from it to the endpoint.
func (n *inspection) attach(host *netns.NS, name string, addresses [2]netip.Prefix) {
	n.Helper()
	n.must(netns.CreateVethPair(n.router, name, host, "eth0", inspectedMTU))
	for _, end := range []struct {
		ns   *netns.NS
		link string
	}{{n.router, name}, {host, "eth0"}} {
		n.must(netns.SetSysctls(end.ns,
			netns.Sysctl{Name: "net/ipv6/conf/" + end.link + "/disable_ipv6", Value: "0"},
			netns.Sysctl{Name: "net/ipv6/conf/" + end.link + "/accept_dad", Value: "0"}))
		n.must(netns.SetUp(end.ns, end.link))
	}
	for _, a := range addresses {
		gateway := netip.PrefixFrom(a.Masked().Addr().Next(), a.Bits())
		n.must(netns.AddAddress(n.router, name, gateway))
		n.must(netns.AddAddress(host, "eth0", a))
		n.must(netns.AddDefaultRoute(host, "eth0", gateway.Addr()))
		n.must(netns.AddRule(n.router, netns.Rule{
			Priority: 100, InInterface: name, Table: inspectionTable, IPv6: a.Addr().Is6(),
		}))
	}
}

// describe is the state of the inspection.
func (n *inspection) describe(p peer) *vpc.State {
	const zone = "use1-az1"
	node := vpc.ENI{Address: gatewayNode, Zone: zone}
	group := vpc.TargetGroup{
		ID: "firewalls", VPC: "vpc-provider", DeregistrationDelay: 300 * time.Second,
		HealthCheck: vpc.HealthCheck{
			Protocol: p.health, Port: 80, Path: "/", Interval: 5 * time.Second, Timeout: 2 * time.Second,
			HealthyThreshold: 2, UnhealthyThreshold: 2,
		},
	}
	if p.health == vpc.CheckHTTP {
		group.HealthCheck.MatchLow, group.HealthCheck.MatchHigh = 200, 399
	} else {
		group.HealthCheck.Path = ""
	}
	ports := []vpc.Port{{
		ID: consumerPort, VPC: "vpc-consumer", Kind: vpc.TUN, Netns: n.router.Path(), Device: "eni0",
		TableRoutes: []vpc.TableRoute{
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Table: inspectionTable},
			{Destination: netip.MustParsePrefix("::/0"), Table: inspectionTable},
		},
	}}
	for _, f := range n.firewalls {
		id := "firewall-" + f.address.String()
		ports = append(ports, vpc.Port{
			ID: id, VPC: "vpc-provider", Kind: vpc.TUN, Netns: f.ns.Path(), Device: "eni0",
			Addresses: []netip.Prefix{netip.PrefixFrom(f.address, 24)},
			Routes:    []netip.Prefix{netip.PrefixFrom(gatewayNode, 32)},
		})
		node.Ports = append(node.Ports, id)
		group.Targets = append(group.Targets, vpc.Target{Address: f.address, Port: vpc.GenevePort, Zone: zone})
	}
	return &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1},
		VPCs: []vpc.VPC{
			{ID: "vpc-consumer", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
			{ID: "vpc-provider", CIDRs: []netip.Prefix{cidr}},
		},
		Ports: ports,
		LoadBalancers: []vpc.LoadBalancer{{
			ID: "gwlb", VPC: "vpc-provider", Type: vpc.Gateway, Nodes: []vpc.ENI{node},
			Listeners: []vpc.Listener{{TargetGroup: group.ID, IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{group},
		Services:     []vpc.EndpointService{{ID: "vpce-svc-bed", LoadBalancers: []string{"gwlb"}}},
		Endpoints: []vpc.Endpoint{{
			ID: endpointID, Type: vpc.GatewayLoadBalancer, Service: "vpce-svc-bed", VPC: "vpc-consumer",
			ENIs: []vpc.ENI{{Address: netip.MustParseAddr("10.1.9.5"), Zone: zone, Ports: []string{consumerPort}}},
		}},
		Testing: &vpc.Testing{HealthInterval: 500 * time.Millisecond, HealthTimeout: 500 * time.Millisecond},
	}
}
