// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func TestExamplesHaveStates(t *testing.T) {
	for _, file := range examples(t) {
		topology, err := Load(file)
		must(t, err)
		if want := strings.TrimSuffix(filepath.Base(file), ".yaml"); topology.Name != want {
			t.Errorf("%s: the lab is called %q, want it called like the file", file, topology.Name)
		}
		state, err := topology.State(Dir(topology.Name))
		must(t, err)
		if len(state.Endpoints) == 0 || len(state.Ports) == 0 {
			t.Errorf("%s: the state has %d endpoints and %d ports", file, len(state.Endpoints), len(state.Ports))
		}
	}
}

func TestState(t *testing.T) {
	topology, err := Load("../../examples/two-vpcs.yaml")
	must(t, err)
	got, err := topology.State("/run/x")
	must(t, err)
	consumer, provider, service, endpoint := topology.VPCs[0].ID, topology.VPCs[1].ID, topology.Services[0].ID, topology.Endpoints[0].ID
	for _, id := range []struct{ got, form string }{
		{consumer, `^vpc-[0-9a-f]{17}$`}, {service, `^vpce-svc-[0-9a-f]{17}$`}, {endpoint, `^vpce-[0-9a-f]{17}$`},
	} {
		if !regexp.MustCompile(id.form).MatchString(id.got) {
			t.Errorf("id %q, want the form %s", id.got, id.form)
		}
	}
	if consumer == provider {
		t.Error("both VPCs have one id")
	}
	uid := uids(t, topology)
	cidr, subnet, gateway := netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.0.1.0/24"), netip.MustParseAddr("10.0.1.1")
	near, far := uid[Consumer+"/attachments/consumer-a"], uid[Provider+"/attachments/provider-a"]
	port := func(id, vpcID, node string) vpc.Port {
		return vpc.Port{
			ID: id, VPC: vpcID, Kind: vpc.TAP, Netns: "/run/x/netns/" + node, Device: "tap-a",
			Bridge: "br-a", Subnet: subnet, Gateway: gateway,
		}
	}
	eni := func(port string) []vpc.ENI {
		return []vpc.ENI{{Address: netip.MustParseAddr("10.0.1.5"), Zone: "use1-az1", Ports: []string{port}}}
	}
	balancer, group, everybody := uid[Provider+"/loadBalancers/front"], uid[Provider+"/targetGroups/servers"], uid[Consumer+"/securityGroups/consumer"]
	want := &vpc.State{
		HashKey: got.HashKey,
		VPCs: []vpc.VPC{
			{ID: consumer, CIDRs: []netip.Prefix{cidr}},
			{ID: provider, CIDRs: []netip.Prefix{cidr}},
		},
		Ports: []vpc.Port{port(near, consumer, "consumer"), port(far, provider, "provider")},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: balancer, VPC: provider, Nodes: eni(far),
			Listeners: []vpc.Listener{{Port: 80, TargetGroup: group, IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{{
			ID: group, VPC: provider,
			HealthCheck: vpc.HealthCheck{
				Protocol: vpc.CheckTCP, Interval: 30 * time.Second, Timeout: 10 * time.Second,
				HealthyThreshold: 5, UnhealthyThreshold: 2,
			},
			DeregistrationDelay: 300 * time.Second, TerminateOnUnhealthy: true,
			Targets: []vpc.Target{{Address: netip.MustParseAddr("10.0.1.4"), Port: 80, Zone: "use1-az1"}},
		}},
		Services: []vpc.EndpointService{{ID: service, LoadBalancers: []string{balancer}}},
		Endpoints: []vpc.Endpoint{{
			ID: endpoint, Generation: 1, Service: service, VPC: consumer, ENIs: eni(near), Filtered: true, SecurityGroups: []string{everybody},
		}},
		SecurityGroups: []vpc.SecurityGroup{{
			ID: everybody, Ingress: []vpc.SecurityRule{{ToPort: 65535, Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}},
		}},
	}
	if diff := cmp.Diff(want, got, netipValues); diff != "" {
		t.Error(diff)
	}
	if got.HashKey == [16]byte{} {
		t.Error("the hash key is zero")
	}
}

// uids are those of the resources of a topology, by what is behind accounts/ in their names.
func uids(t *testing.T, topology *Topology) map[string]string {
	t.Helper()
	list, err := topology.Resources("/run/x")
	must(t, err)
	uid := map[string]string{}
	for _, r := range list {
		uid[strings.TrimPrefix(r.Metadata().Key.String(), "accounts/")] = r.Metadata().UID
	}
	return uid
}

func TestStateOfTwoZones(t *testing.T) {
	topology, err := Load("../../examples/two-zones.yaml")
	must(t, err)
	state, err := topology.State("/run/x")
	must(t, err)
	group := state.TargetGroups[0]
	if !group.ProxyProtocol.Enabled || group.HealthCheck.Protocol != vpc.CheckHTTP || group.HealthCheck.MatchHigh != 399 {
		t.Errorf("target group is %+v", group)
	}
	if zone := group.Targets[2].Zone; zone != "use1-az2" {
		t.Errorf("web3 is in zone %s, want its subnet's", zone)
	}
	if got := len(state.Endpoints[0].ENIs); got != 2 || !state.LoadBalancers[0].CrossZone {
		t.Errorf("%d ENIs, cross zone %v", got, state.LoadBalancers[0].CrossZone)
	}
	if state.Testing == nil || state.Testing.TCPIdle != 10*time.Second {
		t.Errorf("testing is %+v", state.Testing)
	}
	if len(state.Ports) != 5 {
		t.Errorf("%d ports, want one for each of five subnets with ENIs", len(state.Ports))
	}
}

func TestStateOfGateway(t *testing.T) {
	topology := parse(t, strings.Replace(fmt.Sprintf(routed, "{destination: 0.0.0.0/0, via: e}, {destination: 10.0.2.0/24, via: i}"), "{name: t,",
		"{name: t, stickiness: source_ip_dest_ip, target_failover: rebalance,", 1))
	got, err := topology.State("/run/x")
	must(t, err)
	v, p, service, endpoint := topology.VPCs[0].ID, topology.VPCs[1].ID, topology.Services[0].ID, topology.Endpoints[0].ID
	uid := uids(t, topology)
	next, fleet := uid[Consumer+"/attachments/next-hop-e"], uid[Provider+"/attachments/p-a"]
	balancer, group := uid[Provider+"/loadBalancers/g"], uid[Provider+"/targetGroups/t"]
	cidr, subnet := netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.0.1.0/24")
	want := &vpc.State{
		HashKey: got.HashKey,
		VPCs:    []vpc.VPC{{ID: v, CIDRs: []netip.Prefix{cidr}}, {ID: p, CIDRs: []netip.Prefix{cidr}}},
		Ports: []vpc.Port{
			{
				ID: next, VPC: v, Kind: vpc.TUN, Netns: "/run/x/netns/v", Device: "vpce-e",
				TableRoutes: []vpc.TableRoute{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Table: firstTable}},
			},
			{ID: fleet, VPC: p, Kind: vpc.TAP, Netns: "/run/x/netns/p", Device: "tap-a", Bridge: "br-a", Subnet: subnet,
				Gateway: netip.MustParseAddr("10.0.1.1")},
		},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: balancer, VPC: p, Type: vpc.Gateway,
			Nodes:     []vpc.ENI{{Address: netip.MustParseAddr("10.0.1.5"), Zone: "z1", Ports: []string{fleet}}},
			Listeners: []vpc.Listener{{TargetGroup: group, IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{{
			ID: group, VPC: p, Stickiness: vpc.TwoTuple, Rebalance: true,
			HealthCheck: vpc.HealthCheck{
				Protocol: vpc.CheckTCP, Port: 80, Interval: 10 * time.Second, Timeout: 5 * time.Second,
				HealthyThreshold: 5, UnhealthyThreshold: 2,
			},
			DeregistrationDelay: 300 * time.Second,
			Targets:             []vpc.Target{{Address: netip.MustParseAddr("10.0.1.4"), Port: 6081, Zone: "z1"}},
		}},
		Services: []vpc.EndpointService{{ID: service, LoadBalancers: []string{balancer}}},
		Endpoints: []vpc.Endpoint{{
			ID: endpoint, Type: vpc.GatewayLoadBalancer, Generation: 1, Service: service, VPC: v,
			ENIs: []vpc.ENI{{Address: netip.MustParseAddr("10.0.2.4"), Zone: "z1", Ports: []string{next}}},
		}},
	}
	if diff := cmp.Diff(want, got, netipValues); diff != "" {
		t.Error(diff)
	}
}

func TestDeviceNames(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a", "eleven-char", "twelve-chars", "twelve-chars-and-one", "twelve-chars-and-two"} {
		got := device("tap-", name)
		if len(got) > netns.MaxName || !strings.HasPrefix(got, "tap-") {
			t.Errorf("device for %s is %q", name, got)
		}
		if other, taken := seen[got]; taken {
			t.Errorf("%s and %s share device %s", name, other, got)
		}
		seen[got] = name
	}
}

func TestHosts(t *testing.T) {
	topology, err := Load("../../examples/two-zones.yaml")
	must(t, err)
	v := topology.vpc("consumer-one")
	names := "127.0.0.1 localhost\n10.0.1.10 alice\n10.0.2.10 carol\n"
	a, b := "10.0.1.200 api api-use1-az1\n", "10.0.2.200 api api-use1-az2\n"
	for node, want := range map[string]string{"alice": names + a + b, "carol": names + b + a, "consumer-one": names + a + b} {
		if got := topology.hosts(v, node); got != want {
			t.Errorf("hosts of %s:\n%swant\n%s", node, got, want)
		}
	}
}

func TestHostsHaveIPv6Names(t *testing.T) {
	topology := parse(t, withIPv6(fmt.Sprintf(routed, "")))
	want := "127.0.0.1 localhost\n10.0.1.4 i\n2001:db8:a:1::4 i-ipv6\n203.0.113.4 j\n2001:db8:ff::4 j-ipv6\n"
	if got := topology.hosts(topology.vpc("v"), "i"); got != want {
		t.Errorf("hosts:\n%swant, and no name for an endpoint that is a next hop:\n%s", got, want)
	}
}

func TestProcesses(t *testing.T) {
	topology := parse(t, strings.Replace(minimal, "subnet: a}",
		"subnet: a, run: [{server: http, port: 8080, proxy_protocol: true}, {command: [sleep, \"1\"]}, {appliance: {drop: [icmp]}}]}", 1))
	got := topology.Processes("isthmus", "lab", "serve")
	want := []Process{
		{Name: "i-0", Node: "i", Listen: 8080,
			Argv: []string{"isthmus", "lab", "serve", "--server=http", "--instance=i", "--proxy-protocol"}},
		{Name: "i-1", Node: "i", Argv: []string{"sleep", "1"}},
		{Name: "i-2", Node: "i", Argv: []string{"isthmus", "appliance", "--mode=hairpin", "--device=gwlb%d", "--health=:80", "--drop=icmp"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
