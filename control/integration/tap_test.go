// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// TestTAP has clients and targets on bridges: in the subnet of the dataplane's address, where ARP finds each other, and
// in another, behind the gateway.
func TestTAP(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			l := newTAPLab(t, m.off)
			eventually(t, 20*time.Second, func() error { return healthy(l.daemon) })
			for _, client := range []string{"near-client", "far-client"} {
				for _, target := range []string{"near-target", "far-target"} {
					t.Run(client+" to "+target, func(t *testing.T) { l.smoke(t, client, target) })
				}
			}
			stats := l.daemon.Stats()
			for _, p := range stats.Ports {
				if p.NeighbourDropped+p.RxInvalid != 0 {
					t.Errorf("port %s: %+v", p.ID, p.Stats)
				}
			}
		})
	}
}

// smoke moves some bytes each way and small requests from one client to one target.
func (l *tapLab) smoke(t *testing.T, client, target string) {
	b := &bed{TB: t, consumer: l.node(t, client), provider: l.node(t, target), client: l.addresses[client], daemon: l.daemon}
	b.serve(l.ports[target], requireHeader)
	before := b.counters()
	b.upload(l.ports[target], load[int64](4<<20, 32<<20, 256<<20))
	b.download(l.ports[target], load[int64](4<<20, 32<<20, 256<<20))
	b.send(crowd{
		visits: load(20, 100, 1000), atOnce: 8, from: []netip.Addr{b.client}, ports: []uint16{l.ports[target]}, largest: 100_000, seed: 1,
	})
	b.quiet()
	b.unmoved(before, corrupt...)
	b.unmoved(before, "TcpExtBeyondWindow")
}

// tapLab is a lab with a daemon.
type tapLab struct {
	dir       string
	addresses map[string]netip.Addr
	ports     map[string]uint16 // by target
	daemon    *control.Daemon
}

func newTAPLab(t *testing.T, off port.Switches) *tapLab {
	t.Helper()
	netnstest.RequirePrivileged(t)
	near, far := netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("10.0.2.0/24")
	l := &tapLab{
		dir: filepath.Join(t.TempDir(), "lab"), addresses: map[string]netip.Addr{},
		ports: map[string]uint16{"near-target": goPort, "far-target": goPort + 1},
	}
	vpc := func(name string, instances ...string) lab.VPC {
		v := lab.VPC{Name: name, CIDR: cidr, Subnets: []lab.Subnet{
			{Name: "near", Zone: "use1-az1", CIDR: near}, {Name: "far", Zone: "use1-az1", CIDR: far},
		}}
		for i, name := range instances {
			address := []netip.Addr{hosts[0], netip.MustParseAddr("10.0.2.10")}[i]
			l.addresses[name] = address
			v.Instances = append(v.Instances, lab.Instance{Name: name, Subnet: v.Subnets[i].Name, Address: address})
		}
		return v
	}
	const checks = lab.Duration(200 * time.Millisecond)
	eni := []lab.ENI{{Subnet: "near", Address: eniAddr}}
	topology := &lab.Topology{
		Name:          "tap",
		VPCs:          []lab.VPC{vpc("consumer", "near-client", "far-client"), vpc("provider", "near-target", "far-target")},
		LoadBalancers: []lab.LoadBalancer{{Name: "nlb", VPC: "provider", Nodes: eni}},
		Services:      []lab.Service{{Name: "service", LoadBalancers: []string{"nlb"}}},
		Endpoints:     []lab.Endpoint{{Name: "endpoint", ID: endpointID, Service: "service", VPC: "consumer", ENIs: eni}},
		Testing:       &lab.Testing{HealthCheckInterval: checks, HealthCheckTimeout: checks},
	}
	for name, port := range l.ports {
		topology.TargetGroups = append(topology.TargetGroups, lab.TargetGroup{
			Name: name, ProxyProtocolV2: lab.ProxyProtocol{Enabled: true}, HealthCheck: lab.HealthCheck{Port: checkPort},
			Targets: []lab.Target{{Instance: name, Port: port}},
		})
		topology.LoadBalancers[0].Listeners = append(topology.LoadBalancers[0].Listeners, lab.Listener{Port: port, TargetGroup: name})
	}
	l.start(t, topology, off)
	return l
}

// checkPort is where the targets of a tapLab take health checks.
const checkPort = 9999

// start builds the lab, has its targets take health checks, and runs the daemon.
func (l *tapLab) start(t *testing.T, topology *lab.Topology, off port.Switches) {
	t.Helper()
	if err := lab.Up(t.Context(), topology, l.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(l.dir); err != nil {
			t.Error(err)
		}
	})
	for target := range l.ports {
		b := &bed{TB: t, provider: l.node(t, target)}
		b.serve(checkPort, requireHeader)
	}
	state, err := topology.State(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.daemon = runDaemon(t, control.Options{Offloads: off}, state)
}

// node opens the namespace of an instance for the time of the test.
func (l *tapLab) node(t *testing.T, name string) *netns.NS {
	t.Helper()
	ns, err := netns.Open(lab.Netns(l.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// healthy says which target has not passed its health checks.
func healthy(d *control.Daemon) error {
	targets := d.Stats().Targets
	if len(targets) == 0 {
		return errors.New("there are no targets")
	}
	for _, target := range targets {
		if target.Health != dataplane.Healthy {
			return fmt.Errorf("target %s is %s", target.Address, target.Health)
		}
	}
	return nil
}
