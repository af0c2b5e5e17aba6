// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// gatewayBed is a bed whose client and server are hosts at a router, which sends all that comes from either through a
// GWLB endpoint. One appliance, a process of its own, sends everything back as it comes:
//
//	client -- router -- server
//	            |
//	     consumer's port == daemon == provider's port -- host of the appliance
//
// The server has the address of the endpoints of other beds, so that their clients reach it.
type gatewayBed struct {
	*bed
	router, inspector *netns.NS
}

// hostMTU is that of the two hosts: what a GWLB endpoint carries.
const hostMTU = 8500

// Addresses at the appliance: its own, and that of the load balancer's node.
var (
	inspectorAddr = netip.MustParseAddr("10.9.0.10")
	gwlbNodeAddr  = netip.MustParseAddr("10.9.0.5")
)

// newGatewayBed builds a bed that is taken away when the test ends. Of its options the services do not count.
func newGatewayBed(t testing.TB, o options) *gatewayBed {
	t.Helper()
	g := &gatewayBed{
		bed:    &bed{TB: t, consumer: netnstest.New(t), provider: netnstest.New(t), client: hosts[0]},
		router: netnstest.New(t), inspector: netnstest.New(t),
	}
	if err := netns.Forward(g.router); err != nil {
		t.Fatal(err)
	}
	g.attach(g.consumer, "toclient", hosts[0])
	g.attach(g.provider, "toserver", eniAddr)
	g.startAppliance(o.off)
	g.state = g.describe()
	g.daemon = runDaemon(t, control.Options{Workers: o.workers, Offloads: o.off, WrapPort: o.wrap}, g.state)
	everything := netip.MustParsePrefix("0.0.0.0/0")
	if err := netns.SetRoute(g.router, netns.Route{Destination: everything, Link: "eni0", Table: inspectedTable}); err != nil {
		t.Fatal(err)
	}
	return g
}

// inspectedTable is the routing table of the router that leads to the endpoint.
const inspectedTable = 100

// attach connects a host to the router, by a subnet of four addresses, and has what it sends inspected.
func (g *gatewayBed) attach(host *netns.NS, link string, addr netip.Addr) {
	g.Helper()
	gateway := addr.Prev()
	if addr.As4()[3]%4 == 1 { // the first of its subnet
		gateway = addr.Next()
	}
	for _, step := range []func() error{
		func() error { return netns.CreateVethPair(g.router, link, host, "eth0", hostMTU) },
		func() error { return netns.AddAddress(g.router, link, netip.PrefixFrom(gateway, 30)) },
		func() error { return netns.AddAddress(host, "eth0", netip.PrefixFrom(addr, 30)) },
		func() error { return netns.SetUp(g.router, link) },
		func() error { return netns.SetUp(host, "eth0") },
		func() error { return netns.AddDefaultRoute(host, "eth0", gateway) },
		func() error {
			return netns.AddRule(g.router, netns.Rule{Priority: 100, InInterface: link, Table: inspectedTable})
		},
	} {
		if err := step(); err != nil {
			g.Fatal(err)
		}
	}
}

// startAppliance builds the program and runs its appliance.
func (g *gatewayBed) startAppliance(off port.Switches) {
	g.Helper()
	const health = "127.0.0.1:80"
	program := filepath.Join(g.TempDir(), "isthmus")
	build := exec.CommandContext(g.Context(), find(g, "go"), "build", "-o", program, "github.com/isthmus-net/isthmus/cmd/isthmus")
	if out, err := build.CombinedOutput(); err != nil {
		g.Fatalf("build the program: %v\n%s", err, out)
	}
	argv := []string{program, "appliance", "--health", health}
	if off != (port.Switches{}) {
		argv = append(argv, "--offloads", "off")
	}
	start(g, g.inspector, argv...)
	eventually(g, 10*time.Second, func() error {
		conn, err := netns.Dial(g.Context(), g.inspector, "tcp4", health)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// sourcePort is the port of the server.
const sourcePort = 8000

// startServer serves what the servers of other beds do. Those are told by a PROXY protocol header whom they speak to; this
// one sees the client's address, and says so in the same header of its answers.
func (g *gatewayBed) startServer() {
	g.Helper()
	handler := lab.Handler("server")
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(sourceHeader, r.RemoteAddr)
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: patience,
	}
	listener := g.listen(sourcePort)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener) // ends with ErrServerClosed
	}()
	g.Cleanup(func() {
		server.Close()
		<-done
	})
}

// describe is the state of the bed.
func (g *gatewayBed) describe() *vpc.State {
	const zone, service = "use1-az1", "vpce-svc-bed"
	return &vpc.State{
		Revision: 1,
		HashKey:  [16]byte{1},
		VPCs: []vpc.VPC{
			{ID: "vpc-consumer", CIDRs: []netip.Prefix{cidr}},
			{ID: "vpc-provider", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}},
		},
		Ports: []vpc.Port{
			{ID: consumerPort, VPC: "vpc-consumer", Kind: vpc.TUN, Netns: g.router.Path(), Device: "eni0"},
			{ID: providerPort, VPC: "vpc-provider", Kind: vpc.TUN, Netns: g.inspector.Path(), Device: "eni0",
				Addresses: []netip.Prefix{netip.PrefixFrom(inspectorAddr, 24)}},
		},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: "gwlb", VPC: "vpc-provider", Type: vpc.Gateway,
			Nodes:     []vpc.ENI{{Address: gwlbNodeAddr, Zone: zone, Ports: []string{providerPort}}},
			Listeners: []vpc.Listener{{TargetGroup: "appliances", IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{{
			ID: "appliances", VPC: "vpc-provider", DeregistrationDelay: 300 * time.Second,
			Targets: []vpc.Target{{Address: inspectorAddr, Port: vpc.GenevePort, Zone: zone}},
		}},
		Services: []vpc.EndpointService{{ID: service, LoadBalancers: []string{"gwlb"}}},
		Endpoints: []vpc.Endpoint{{
			ID: endpointID, Type: vpc.GatewayLoadBalancer, Service: service, VPC: "vpc-consumer",
			ENIs: []vpc.ENI{{Address: netip.MustParseAddr("10.0.3.5"), Zone: zone, Ports: []string{consumerPort}}},
		}},
	}
}
