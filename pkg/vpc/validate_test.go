// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// good is a valid state with one of everything: a consumer on a TUN, a provider on TAPs, both with the same CIDR.
func good() *State {
	cidr := netip.MustParsePrefix("10.0.0.0/16")
	tap := func(id, device string) Port {
		return Port{
			ID: id, VPC: "vpc-provider", Kind: TAP, Netns: "/run/netns/provider", Device: device, Bridge: "br-" + device,
			Subnet: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1"),
		}
	}
	return &State{
		Revision: 1,
		VPCs:     []VPC{{ID: "vpc-consumer", CIDRs: []netip.Prefix{cidr}}, {ID: "vpc-provider", CIDRs: []netip.Prefix{cidr}}},
		Ports: []Port{
			{
				ID: "consumer", VPC: "vpc-consumer", Kind: TUN, Netns: "/run/netns/consumer", Device: "isthmus0",
				Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.10/24")},
				Routes:    []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24")},
			},
			tap("provider-a", "a"), tap("provider-b", "b"),
		},
		LoadBalancers: []LoadBalancer{{
			ID: "nlb", VPC: "vpc-provider",
			Nodes: []ENI{
				{Address: netip.MustParseAddr("10.0.1.20"), Zone: "use1-az1", Ports: []string{"provider-a"}},
				{Address: netip.MustParseAddr("10.0.1.21"), Zone: "use1-az2", Ports: []string{"provider-b"}},
			},
			Listeners: []Listener{{Port: 80, TargetGroup: "web", IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []TargetGroup{{
			ID: "web", VPC: "vpc-provider", DeregistrationDelay: 300 * time.Second,
			HealthCheck: HealthCheck{
				Protocol: CheckHTTP, Path: "/", Interval: 30 * time.Second, Timeout: 6 * time.Second,
				HealthyThreshold: 5, UnhealthyThreshold: 2, MatchLow: 200, MatchHigh: 399,
			},
			Targets: []Target{{Address: netip.MustParseAddr("10.0.1.30"), Port: 8080, Zone: "use1-az1"}},
		}},
		Services: []EndpointService{{ID: "vpce-svc-web", LoadBalancers: []string{"nlb"}}},
		Endpoints: []Endpoint{{
			ID: "vpce-0123456789abcdef0", Service: "vpce-svc-web", VPC: "vpc-consumer",
			ENIs: []ENI{{Address: netip.MustParseAddr("10.0.1.20"), Zone: "use1-az1", Ports: []string{"consumer"}}},
		}},
	}
}

func TestGoodStates(t *testing.T) {
	for name, change := range map[string]func(*State){
		"one of everything":                func(*State) {},
		"nothing":                          func(s *State) { *s = State{} },
		"no checks":                        func(s *State) { s.TargetGroups[0].HealthCheck = HealthCheck{} },
		"HTTPS checks":                     func(s *State) { s.TargetGroups[0].HealthCheck.Protocol = CheckHTTPS },
		"TAP without gateway":              func(s *State) { s.Ports[1].Gateway = netip.Addr{} },
		"a group nobody uses":              func(s *State) { s.LoadBalancers[0].Listeners = nil },
		"a load balancer nobody offers":    func(s *State) { s.Services, s.Endpoints = nil, nil },
		"tests override what is not legal": func(s *State) { s.Testing = &Testing{TCPIdle: time.Second} },
		"AWS service id": func(s *State) {
			s.Services[0].ID, s.Endpoints[0].Service = "vpce-svc-0123456789abcdef0", "vpce-svc-0123456789abcdef0"
		},
		"an ARN as id": func(s *State) {
			arn := "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/net/nlb/0123456789abcdef"
			s.LoadBalancers[0].ID, s.Services[0].LoadBalancers[0] = arn, arn
		},
		"one target in two groups": func(s *State) {
			g := s.TargetGroups[0]
			g.ID = "other"
			s.TargetGroups = append(s.TargetGroups, g)
		},
		"one device name in two namespaces": func(s *State) { s.Ports[0].Device = "a" },
		"a consumer's ENI has the address of a provider's target": func(s *State) {
			s.Endpoints[0].ENIs[0].Address = s.TargetGroups[0].Targets[0].Address
		},
	} {
		s := good()
		change(s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// badState breaks one rule: want is the path of the field and a part of what is said about it.
type badState struct {
	name   string
	change func(*State)
	path   string
	want   string
}

var badStates = []badState{
	{"VPC without id", func(s *State) { s.VPCs[0].ID = "" }, "vpcs[0].id", "is missing"},
	{"VPC with a strange id", func(s *State) { s.VPCs = append(s.VPCs, VPC{ID: "VPC 3", CIDRs: s.VPCs[0].CIDRs}) }, "vpcs[2].id", "write vpc- and a name"},
	{"VPC twice", func(s *State) { s.VPCs = append(s.VPCs, s.VPCs[0]) }, "vpcs[2].id", "ids are unique"},
	{"VPC without prefixes", func(s *State) { s.VPCs = append(s.VPCs, VPC{ID: "vpc-3"}) }, "vpcs[2].cidrs", "at least one"},
	{"VPC with an empty prefix", func(s *State) { s.VPCs[0].CIDRs = append(s.VPCs[0].CIDRs, netip.Prefix{}) }, "vpcs[0].cidrs[1]", "is missing"},
	{"VPC of IPv6", func(s *State) { s.VPCs[0].CIDRs = append(s.VPCs[0].CIDRs, prefix("fd00::/64")) }, "vpcs[0].cidrs[1]", "only IPv4"},
	{"VPC prefix with host bits", func(s *State) { s.VPCs[0].CIDRs = append(s.VPCs[0].CIDRs, prefix("10.1.0.1/16")) }, "vpcs[0].cidrs[1]", "write 10.1.0.0/16"},
	{"VPC prefixes overlap", func(s *State) { s.VPCs[0].CIDRs = append(s.VPCs[0].CIDRs, prefix("10.0.3.0/24")) }, "vpcs[0].cidrs[1]", "overlaps 10.0.0.0/16"},

	{"port without id", func(s *State) { addPort(s, func(p *Port) { p.ID = "" }) }, "ports[3].id", "is missing"},
	{"port with a strange id", func(s *State) { addPort(s, func(p *Port) { p.ID = "a b" }) }, "ports[3].id", "form of an id"},
	{"port twice", func(s *State) { addPort(s, func(p *Port) { p.ID = "consumer" }) }, "ports[3].id", "ids are unique"},
	{"port with the daemon's id", func(s *State) { addPort(s, func(p *Port) { p.ID = ReservedPortID }) }, "ports[3].id", "the daemon's own"},
	{"port of no VPC", func(s *State) { addPort(s, func(p *Port) { p.VPC = "" }) }, "ports[3].vpc_id", "is missing"},
	{"port of an unknown VPC", func(s *State) { addPort(s, func(p *Port) { p.VPC = "vpc-x" }) }, "ports[3].vpc_id", `no "vpc-x" among vpcs`},
	{"port without namespace", func(s *State) { s.Ports[0].Netns = "" }, "ports[0].netns", "is missing"},
	{"port with a relative namespace", func(s *State) { s.Ports[0].Netns = "consumer" }, "ports[0].netns", "absolute path"},
	{"port with a crooked namespace", func(s *State) { s.Ports[0].Netns = "/run/netns/../netns/consumer" }, "ports[0].netns", "absolute path"},
	{"port without device", func(s *State) { s.Ports[0].Device = "" }, "ports[0].device", "is missing"},
	{"port with a long device", func(s *State) { s.Ports[0].Device = "sixteen-letters-" }, "ports[0].device", "shorten it"},
	{"port with a device that is no name", func(s *State) { s.Ports[0].Device = "a/b" }, "ports[0].device", "cannot name"},
	{"port with a device with a space", func(s *State) { s.Ports[0].Device = "a b" }, "ports[0].device", "cannot name"},
	{"device twice in a namespace", func(s *State) { s.Ports[2].Device = "a" }, "ports[2].device", `device of port "provider-a"`},
	{"port without kind", func(s *State) { s.Ports[0].Kind = 0 }, "ports[0]", "has no kind"},
	{"TUN on a bridge", func(s *State) { s.Ports[0].Bridge = "br0" }, "ports[0].tap", "no bridge"},
	{"TUN with an empty address", func(s *State) { s.Ports[0].Addresses[0] = netip.Prefix{} }, "ports[0].tun.addresses[0]", "is missing"},
	{"TUN with a loopback address", func(s *State) { s.Ports[0].Addresses[0] = prefix("127.0.0.1/8") }, "ports[0].tun.addresses[0]", "unicast"},
	{"TUN with a crooked route", func(s *State) { s.Ports[0].Routes[0] = prefix("10.0.2.1/24") }, "ports[0].tun.routes[0]", "write 10.0.2.0/24"},
	{"TUN with a route twice", func(s *State) { s.Ports[0].Routes = append(s.Ports[0].Routes, s.Ports[0].Routes[0]) }, "ports[0].tun.routes[1]", "twice"},
	{"TAP with addresses", func(s *State) { s.Ports[1].Addresses = s.Ports[0].Addresses }, "ports[1].tun", "has no addresses"},
	{"TAP without bridge", func(s *State) { s.Ports[1].Bridge = "" }, "ports[1].tap.bridge", "is missing"},
	{"TAP that is its bridge", func(s *State) { s.Ports[1].Bridge = "a" }, "ports[1].tap.bridge", "the device itself"},
	{"TAP without subnet", func(s *State) { s.Ports[1].Subnet = netip.Prefix{} }, "ports[1].tap.subnet", "is missing"},
	{"TAP in a subnet of nobody", func(s *State) { s.Ports[2].Subnet = prefix("192.168.0.0/24") }, "ports[2].tap.subnet", "no prefix of vpc-provider"},
	{"TAP in a subnet larger than the VPC", func(s *State) { s.Ports[2].Subnet = prefix("10.0.0.0/8") }, "ports[2].tap.subnet", "no prefix of vpc-provider"},
	{"gateway of IPv6", func(s *State) { s.Ports[1].Gateway = addr("fd00::1") }, "ports[1].tap.gateway", "only IPv4"},
	{"gateway off link", func(s *State) { s.Ports[1].Gateway = addr("10.0.2.1") }, "ports[1].tap.gateway", "on link"},
	{"gateway at the network's address", func(s *State) { s.Ports[1].Gateway = addr("10.0.1.0") }, "ports[1].tap.gateway", "write a host's"},
	{"gateway at the broadcast address", func(s *State) { s.Ports[1].Gateway = addr("10.0.1.255") }, "ports[1].tap.gateway", "write a host's"},

	{"ENI without zone", func(s *State) { s.LoadBalancers[0].Nodes[1].Zone = "" }, "load_balancers[0].nodes[1].zone_id", "is missing"},
	{"ENI in a strange zone", func(s *State) { s.LoadBalancers[0].Nodes[1].Zone = "Zone 2" }, "load_balancers[0].nodes[1].zone_id", "no zone id"},
	{"ENI without address", func(s *State) { s.LoadBalancers[0].Nodes[0].Address = netip.Addr{} }, "load_balancers[0].nodes[0].address", "is missing"},
	{"ENI of IPv6", func(s *State) { s.LoadBalancers[0].Nodes[0].Address = addr("fd00::1") }, "load_balancers[0].nodes[0].address", "only IPv4"},
	{"ENI of mapped IPv4", func(s *State) { s.LoadBalancers[0].Nodes[0].Address = addr("::ffff:10.0.1.20") }, "load_balancers[0].nodes[0].address", "only IPv4"},
	{"ENI with a multicast address", func(s *State) { s.Endpoints[0].ENIs[0].Address = addr("224.0.0.5") }, "endpoints[0].enis[0].address", "unicast"},
	{"ENI with the broadcast address", func(s *State) { s.Endpoints[0].ENIs[0].Address = addr("255.255.255.255") }, "endpoints[0].enis[0].address", "unicast"},
	{"ENI without ports", func(s *State) { s.Endpoints[0].ENIs[0].Ports = nil }, "endpoints[0].enis[0].port_ids", "at least one port"},
	{"ENI on an unknown port", func(s *State) { s.Endpoints[0].ENIs[0].Ports = []string{"x"} }, "endpoints[0].enis[0].port_ids[0]", `no "x" among ports`},
	{"ENI on a port twice", func(s *State) { s.Endpoints[0].ENIs[0].Ports = []string{"consumer", "consumer"} }, "endpoints[0].enis[0].port_ids[1]", "twice"},
	{"ENI on a port of another VPC", func(s *State) { s.Endpoints[0].ENIs[0].Ports = []string{"provider-a"} }, "endpoints[0].enis[0].port_ids[0]", "belongs to vpc-provider"},
	{"ENI off the subnet of its TAP", func(s *State) { s.LoadBalancers[0].Nodes[0].Address = addr("10.0.2.20") }, "load_balancers[0].nodes[0].address", "not in the subnet 10.0.1.0/24"},
	{"ENI at the broadcast address of its TAP", func(s *State) { s.LoadBalancers[0].Nodes[0].Address = addr("10.0.1.255") }, "load_balancers[0].nodes[0].address", "choose a host's"},
	{"ENI outside its VPC", func(s *State) { s.Endpoints[0].ENIs[0].Address = addr("192.168.0.1") }, "endpoints[0].enis[0].address", "no prefix of vpc-consumer"},
	{"address of two ENIs", func(s *State) { s.LoadBalancers[0].Nodes[1].Address = addr("10.0.1.20") }, "load_balancers[0].nodes[1].address", "is taken in vpc-provider by load_balancers[0].nodes[0].address"},
	{"ENI at the gateway", func(s *State) { s.LoadBalancers[0].Nodes[0].Address = addr("10.0.1.1") }, "load_balancers[0].nodes[0].address", "is the gateway"},
	{"ENI at an address of the kernel", func(s *State) { s.Endpoints[0].ENIs[0].Address = addr("10.0.1.10") }, "endpoints[0].enis[0].address", "is the kernel's"},

	{"load balancer without id", func(s *State) { addLB(s, func(l *LoadBalancer) { l.ID = "" }) }, "load_balancers[1].id", "is missing"},
	{"load balancer twice", func(s *State) { addLB(s, func(l *LoadBalancer) { l.ID = "nlb" }) }, "load_balancers[1].id", "ids are unique"},
	{"load balancer of an unknown VPC", func(s *State) { addLB(s, func(l *LoadBalancer) { l.VPC, l.Listeners = "vpc-x", nil }) }, "load_balancers[1].vpc_id", `no "vpc-x"`},
	{"load balancer without nodes", func(s *State) { addLB(s, func(l *LoadBalancer) { l.Nodes = nil }) }, "load_balancers[1].nodes", "is empty"},
	{"two nodes in a zone", func(s *State) { s.LoadBalancers[0].Nodes[1].Zone = "use1-az1" }, "load_balancers[0].nodes[1].zone_id", "one a zone"},
	{"listener without port", func(s *State) { s.LoadBalancers[0].Listeners[0].Port = 0 }, "load_balancers[0].listeners[0].port", "is missing"},
	{"listeners on one port", func(s *State) {
		lb := &s.LoadBalancers[0]
		lb.Listeners = append(lb.Listeners, lb.Listeners[0])
	}, "load_balancers[0].listeners[1].port", "another listener on port 80"},
	{"listener without group", func(s *State) { s.LoadBalancers[0].Listeners[0].TargetGroup = "" }, "load_balancers[0].listeners[0].target_group_id", "is missing"},
	{"listener with an unknown group", func(s *State) { s.LoadBalancers[0].Listeners[0].TargetGroup = "x" }, "load_balancers[0].listeners[0].target_group_id", `no "x" among target_groups`},
	{"listener with a group of another VPC", func(s *State) { s.TargetGroups[0].VPC = "vpc-consumer" }, "load_balancers[0].listeners[0].target_group_id", "share a VPC"},
	{"idle timeout too short", func(s *State) { s.LoadBalancers[0].Listeners[0].IdleTimeout = 59 * time.Second }, "load_balancers[0].listeners[0].idle_timeout", "59s is out of range; write 60s to 6000s"},
	{"idle timeout too long", func(s *State) { s.LoadBalancers[0].Listeners[0].IdleTimeout = 6001 * time.Second }, "load_balancers[0].listeners[0].idle_timeout", "write 60s to 6000s"},

	{"group without id", func(s *State) { addGroup(s, func(g *TargetGroup) { g.ID = "" }) }, "target_groups[1].id", "is missing"},
	{"group twice", func(s *State) { addGroup(s, func(g *TargetGroup) { g.ID = "web" }) }, "target_groups[1].id", "ids are unique"},
	{"group of an unknown VPC", func(s *State) { addGroup(s, func(g *TargetGroup) { g.VPC = "vpc-x" }) }, "target_groups[1].vpc_id", `no "vpc-x"`},
	{"unknown placement", func(s *State) { s.TargetGroups[0].ProxyProtocol.Placement = 2 }, "target_groups[0].proxy_protocol_v2.header_placement", "no placement"},
	{"negative deregistration delay", func(s *State) { s.TargetGroups[0].DeregistrationDelay = -time.Second }, "target_groups[0].deregistration_delay", "-1s is out of range; write 0s to 3600s"},
	{"deregistration delay too long", func(s *State) { s.TargetGroups[0].DeregistrationDelay = 3601 * time.Second }, "target_groups[0].deregistration_delay", "write 0s to 3600s"},

	{"unknown check", func(s *State) { s.TargetGroups[0].HealthCheck.Protocol = 9 }, "target_groups[0].health_check.protocol", "no protocol"},
	{"TCP check with a path", func(s *State) { s.TargetGroups[0].HealthCheck.Protocol = CheckTCP }, "target_groups[0].health_check.protocol", "knows no path"},
	{"HTTP check without a path", func(s *State) { s.TargetGroups[0].HealthCheck.Path = "" }, "target_groups[0].health_check.path", "absolute path"},
	{"HTTP check with a path that breaks the request", func(s *State) { s.TargetGroups[0].HealthCheck.Path = "/a\r\nb" }, "target_groups[0].health_check.path", "escape them"},
	{"HTTP check with low codes", func(s *State) { s.TargetGroups[0].HealthCheck.MatchLow = 100 }, "target_groups[0].health_check.matcher", "inside 200-599"},
	{"HTTP check with high codes", func(s *State) { s.TargetGroups[0].HealthCheck.MatchHigh = 600 }, "target_groups[0].health_check.matcher", "inside 200-599"},
	{"HTTP check with codes the wrong way", func(s *State) { s.TargetGroups[0].HealthCheck.MatchLow = 400 }, "target_groups[0].health_check.matcher", "400-399"},
	{"interval too short", func(s *State) {
		s.TargetGroups[0].HealthCheck.Interval, s.TargetGroups[0].HealthCheck.Timeout = 4*time.Second, 2*time.Second
	}, "target_groups[0].health_check.interval", "write 5s to 300s"},
	{"interval too long", func(s *State) { s.TargetGroups[0].HealthCheck.Interval = 301 * time.Second }, "target_groups[0].health_check.interval", "write 5s to 300s"},
	{"timeout too short", func(s *State) { s.TargetGroups[0].HealthCheck.Timeout = 1500 * time.Millisecond }, "target_groups[0].health_check.timeout", "1.5s is out of range; write 2s to 120s"},
	{"timeout too long", func(s *State) {
		s.TargetGroups[0].HealthCheck.Interval, s.TargetGroups[0].HealthCheck.Timeout = 300*time.Second, 121*time.Second
	}, "target_groups[0].health_check.timeout", "write 2s to 120s"},
	{"timeout longer than the interval", func(s *State) { s.TargetGroups[0].HealthCheck.Timeout = 31 * time.Second }, "target_groups[0].health_check.timeout", "longer than the interval of 30s"},
	{"healthy threshold", func(s *State) { s.TargetGroups[0].HealthCheck.HealthyThreshold = 1 }, "target_groups[0].health_check.healthy_threshold", "write 2 to 10"},
	{"unhealthy threshold", func(s *State) { s.TargetGroups[0].HealthCheck.UnhealthyThreshold = 11 }, "target_groups[0].health_check.unhealthy_threshold", "write 2 to 10"},

	{"target without zone", func(s *State) { s.TargetGroups[0].Targets[0].Zone = "" }, "target_groups[0].targets[0].zone_id", "is missing"},
	{"target without port", func(s *State) { s.TargetGroups[0].Targets[0].Port = 0 }, "target_groups[0].targets[0].port", "is missing"},
	{"target without address", func(s *State) { s.TargetGroups[0].Targets[0].Address = netip.Addr{} }, "target_groups[0].targets[0].address", "is missing"},
	{"target that is an ENI", func(s *State) { s.TargetGroups[0].Targets[0].Address = addr("10.0.1.21") }, "target_groups[0].targets[0].address", "address of an ENI"},
	{"target twice", func(s *State) {
		g := &s.TargetGroups[0]
		g.Targets = append(g.Targets, g.Targets[0])
	}, "target_groups[0].targets[1].address", "targets are unique"},

	{"service with a strange id", func(s *State) { addService(s, func(e *EndpointService) { e.ID = "svc" }) }, "endpoint_services[1].id", "write vpce-svc-"},
	{"service twice", func(s *State) { addService(s, func(e *EndpointService) { e.ID = "vpce-svc-web" }) }, "endpoint_services[1].id", "ids are unique"},
	{"service without load balancers", func(s *State) { addService(s, func(e *EndpointService) { e.LoadBalancers = nil }) }, "endpoint_services[1].load_balancer_ids", "is empty"},
	{"service of an unknown load balancer", func(s *State) { addService(s, func(e *EndpointService) { e.LoadBalancers = []string{"x"} }) }, "endpoint_services[1].load_balancer_ids[0]", `no "x" among load_balancers`},
	{"service with a load balancer twice", func(s *State) { addService(s, func(e *EndpointService) { e.LoadBalancers = []string{"nlb", "nlb"} }) }, "endpoint_services[1].load_balancer_ids[1]", "twice"},

	{"endpoint with a short id", func(s *State) { s.Endpoints[0].ID = "vpce-1" }, "endpoints[0].id", "17 hexadecimal digits"},
	{"endpoint with an id in upper case", func(s *State) { s.Endpoints[0].ID = "vpce-0123456789ABCDEF0" }, "endpoints[0].id", "17 hexadecimal digits"},
	{"endpoint twice", func(s *State) {
		e := s.Endpoints[0]
		e.ENIs = []ENI{{Address: addr("10.0.1.50"), Zone: "use1-az1", Ports: []string{"consumer"}}}
		s.Endpoints = append(s.Endpoints, e)
	}, "endpoints[1].id", "ids are unique"},
	{"endpoint in an unknown VPC", func(s *State) { s.Endpoints[0].VPC = "vpc-x" }, "endpoints[0].vpc_id", `no "vpc-x"`},
	{"endpoint of an unknown service", func(s *State) { s.Endpoints[0].Service = "vpce-svc-x" }, "endpoints[0].service_id", `no "vpce-svc-x" among endpoint_services`},
	{"endpoint without ENIs", func(s *State) { s.Endpoints[0].ENIs = nil }, "endpoints[0].enis", "is empty"},
	{"two ENIs in a zone", func(s *State) {
		e := &s.Endpoints[0]
		e.ENIs = append(e.ENIs, ENI{Address: addr("10.0.1.50"), Zone: "use1-az1", Ports: []string{"consumer"}})
	}, "endpoints[0].enis[1].zone_id", "one a zone"},
	{"ENI in a zone that is not served", func(s *State) { s.Endpoints[0].ENIs[0].Zone = "use1-az3" }, "endpoints[0].enis[0].zone_id", "choose one of use1-az1, use1-az2"},

	{"negative override", func(s *State) { s.Testing = &Testing{TCPIdle: -1} }, "testing.idle_timeout", "out of range"},
	{"override too short", func(s *State) { s.Testing = &Testing{HealthInterval: time.Millisecond} }, "testing.health_check_interval", "write 0.1s to 6000s"},
	{"override of the timeout above the interval", func(s *State) {
		s.Testing = &Testing{HealthInterval: time.Second, HealthTimeout: 2 * time.Second}
	}, "testing.health_check_timeout", "longer than the interval"},

	{"too many ENIs", func(s *State) {
		s.LoadBalancers[0].Nodes = append(s.LoadBalancers[0].Nodes, make([]ENI, MaxENIs)...)
	}, "endpoints", "MaxENIs (65535)"},
	{"too many ports", func(s *State) { s.Ports = append(s.Ports, make([]Port, MaxPorts)...) }, "ports", "MaxPorts (65534)"},
	{"too many targets", func(s *State) {
		s.TargetGroups[0].Targets = append(s.TargetGroups[0].Targets, make([]Target, MaxTargets)...)
	}, "target_groups", "MaxTargets (65535)"},
}

func TestBadStates(t *testing.T) { judge(t, good, badStates) }

// judge breaks a valid state in one way after the other.
func judge(t *testing.T, valid func() *State, ways []badState) {
	t.Helper()
	for _, bad := range ways {
		s := valid()
		bad.change(s)
		err := s.Validate()
		if err == nil {
			t.Errorf("%s: passed", bad.name)
			continue
		}
		fields := fieldErrors(t, err)
		found := false
		for _, f := range fields {
			found = found || f.Path == bad.path && strings.Contains(f.Problem, bad.want)
		}
		if !found {
			t.Errorf("%s: no %s: ...%s... in:\n%.1000v", bad.name, bad.path, bad.want, err)
		}
		if len(fields) > 4 && !strings.HasPrefix(bad.name, "too many") {
			t.Errorf("%s: one mistake led to %d errors:\n%v", bad.name, len(fields), err)
		}
	}
}

func TestAllMistakesAreTold(t *testing.T) {
	s := good()
	s.Ports[0].Device = ""
	s.LoadBalancers[0].Listeners[0].Port = 0
	s.TargetGroups[0].Targets[0].Port = 0
	if n := len(fieldErrors(t, s.Validate())); n != 3 {
		t.Errorf("%d errors, want 3: %v", n, s.Validate())
	}
}

// fieldErrors takes an error of Validate apart.
func fieldErrors(t *testing.T, err error) []*FieldError {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is not made by errors.Join", err)
	}
	var out []*FieldError
	for _, e := range joined.Unwrap() {
		var f *FieldError
		if !errors.As(e, &f) {
			t.Fatalf("%v is no FieldError", e)
		}
		out = append(out, f)
	}
	return out
}

// large is a state of many endpoints and targets.
func large(endpoints, targets int) *State {
	s := good()
	s.Ports[0].Addresses = nil
	s.Endpoints, s.TargetGroups[0].Targets = nil, nil
	for i := range endpoints {
		s.Endpoints = append(s.Endpoints, Endpoint{
			ID: fmt.Sprintf("vpce-%017x", i), Service: "vpce-svc-web", VPC: "vpc-consumer",
			ENIs: []ENI{{Address: netip.AddrFrom4([4]byte{10, 0, byte(100 + i>>8), byte(i)}), Zone: "use1-az1", Ports: []string{"consumer"}}},
		})
	}
	for i := range targets {
		s.TargetGroups[0].Targets = append(s.TargetGroups[0].Targets, Target{
			Address: netip.AddrFrom4([4]byte{10, 0, byte(100 + i>>8), byte(i)}), Port: 8080, Zone: "use1-az1",
		})
	}
	return s
}

func BenchmarkValidate(b *testing.B) {
	s := large(1000, 10000)
	if err := s.Validate(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.Validate()
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// addPort adds a port with one thing changed; the others add their kind alike.
func addPort(s *State, change func(*Port)) {
	p := s.Ports[0]
	p.ID, p.Device, p.Addresses, p.Routes = "more", "more", nil, nil
	change(&p)
	s.Ports = append(s.Ports, p)
}

func addLB(s *State, change func(*LoadBalancer)) {
	lb := s.LoadBalancers[0]
	lb.ID = "more"
	lb.Nodes = []ENI{{Address: addr("10.0.1.60"), Zone: "use1-az1", Ports: []string{"provider-a"}}}
	change(&lb)
	s.LoadBalancers = append(s.LoadBalancers, lb)
}

func addGroup(s *State, change func(*TargetGroup)) {
	g := s.TargetGroups[0]
	g.ID = "more"
	change(&g)
	s.TargetGroups = append(s.TargetGroups, g)
}

func addService(s *State, change func(*EndpointService)) {
	e := s.Services[0]
	e.ID = "vpce-svc-more"
	change(&e)
	s.Services = append(s.Services, e)
}
