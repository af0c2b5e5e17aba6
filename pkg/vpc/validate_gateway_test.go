// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// inspected is good with a gateway load balancer beside the network one: appliances in the provider's VPC, an endpoint on
// a TUN in the consumer's router.
func inspected() *State {
	s := good()
	s.Ports = append(s.Ports, Port{ID: "router", VPC: "vpc-consumer", Kind: TUN, Netns: "/run/netns/router", Device: "gwlbe"})
	s.LoadBalancers = append(s.LoadBalancers, LoadBalancer{
		ID: "gwlb", VPC: "vpc-provider", Type: Gateway,
		Nodes:     []ENI{{Address: addr("10.0.1.40"), Zone: "use1-az1", Ports: []string{"provider-a"}}},
		Listeners: []Listener{{TargetGroup: "firewalls", IdleTimeout: DefaultIdleTimeout}},
	})
	s.TargetGroups = append(s.TargetGroups, TargetGroup{
		ID: "firewalls", VPC: "vpc-provider", DeregistrationDelay: 300 * time.Second,
		HealthCheck: HealthCheck{
			Protocol: CheckTCP, Port: 80, Interval: 10 * time.Second, Timeout: 5 * time.Second, HealthyThreshold: 5, UnhealthyThreshold: 2,
		},
		Targets: []Target{{Address: addr("10.0.1.31"), Port: GenevePort, Zone: "use1-az1"}},
	})
	s.Services = append(s.Services, EndpointService{ID: "vpce-svc-fw", LoadBalancers: []string{"gwlb"}})
	s.Endpoints = append(s.Endpoints, Endpoint{
		ID: "vpce-0123456789abcdef1", Type: GatewayLoadBalancer, Service: "vpce-svc-fw", VPC: "vpc-consumer",
		ENIs: []ENI{{Address: addr("10.0.3.5"), Zone: "use1-az1", Ports: []string{"router"}}},
	})
	return s
}

// gateway, listener, group and endpoint are what inspected adds to good.
func gateway(s *State) *LoadBalancer     { return &s.LoadBalancers[1] }
func listener(s *State) *Listener        { return &s.LoadBalancers[1].Listeners[0] }
func group(s *State) *TargetGroup        { return &s.TargetGroups[1] }
func gatewayEndpoint(s *State) *Endpoint { return &s.Endpoints[1] }

// taps puts the GWLB endpoint on two TAPs, beside an interface endpoint.
func taps(s *State) {
	tap := s.Ports[1]
	tap.ID, tap.VPC, tap.Netns, tap.Gateway = "tap-1", "vpc-consumer", "/run/netns/router", addr("10.0.1.1")
	s.Ports = append(s.Ports, tap)
	tap.ID, tap.Device, tap.Bridge = "tap-2", "b", "br-b"
	s.Ports = append(s.Ports, tap)
	gatewayEndpoint(s).ENIs[0].Address = addr("10.0.1.77")
	gatewayEndpoint(s).ENIs[0].Ports = []string{"tap-1", "tap-2"}
	s.Endpoints[0].ENIs[0].Ports = []string{"consumer", "tap-1"}
}

// another adds a second GWLB endpoint, on a port of its own.
func another(s *State, id string) {
	p := s.Ports[3]
	p.ID, p.Device = "router-2", "gwlbe-2"
	s.Ports = append(s.Ports, p)
	e := *gatewayEndpoint(s)
	e.ID, e.ENIs = id, []ENI{{Address: addr("10.0.4.5"), Zone: "use1-az1", Ports: []string{"router-2"}}}
	s.Endpoints = append(s.Endpoints, e)
}

func TestGoodGatewayStates(t *testing.T) {
	for name, change := range map[string]func(*State){
		"one of everything": func(*State) {},
		"smallest MTU":      func(s *State) { gateway(s).MTU = MinGatewayMTU },
		"largest MTU":       func(s *State) { gateway(s).MTU = MaxGatewayMTU },
		"other timeout":     func(s *State) { listener(s).IdleTimeout = time.Minute },
		"reset on idle":     func(s *State) { listener(s).ResetOnIdle = true },
		"resets":            func(s *State) { group(s).ResetOnUnhealthy, group(s).ResetOnDeregistration = true, true },
		"rebalance":         func(s *State) { group(s).Rebalance = true },
		"three tuple":       func(s *State) { group(s).Stickiness = ThreeTuple },
		"two tuple":         func(s *State) { group(s).Stickiness, group(s).Rebalance = TwoTuple, true },
		"timeout overridden for a test": func(s *State) {
			group(s).Stickiness, s.Testing = TwoTuple, &Testing{TCPIdle: time.Second}
		},
		"no checks":     func(s *State) { group(s).HealthCheck = HealthCheck{} },
		"IPv6 routes":   func(s *State) { s.Ports[3].Routes = []netip.Prefix{prefix("fd00:3::/64"), prefix("0.0.0.0/0")} },
		"on TAPs":       taps,
		"two endpoints": func(s *State) { another(s, "vpce-0123456789abcdef2") },
		"a group nobody uses": func(s *State) {
			g := *group(s)
			g.ID, g.Stickiness = "spare", TwoTuple
			s.TargetGroups = append(s.TargetGroups, g)
		},
		"two gateway load balancers of one group": func(s *State) {
			lb := *gateway(s)
			lb.ID, lb.Nodes = "gwlb-2", []ENI{{Address: addr("10.0.1.41"), Zone: "use1-az2", Ports: []string{"provider-b"}}}
			s.LoadBalancers = append(s.LoadBalancers, lb)
			s.Services[1].LoadBalancers = []string{"gwlb", "gwlb-2"}
		},
	} {
		s := inspected()
		change(s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var badGatewayStates = []badState{
	{"unknown type", func(s *State) { s.LoadBalancers[0].Type, s.Endpoints = 2, nil }, "load_balancers[0].type", "write network or gateway"},
	{"no listener", func(s *State) { gateway(s).Listeners = nil }, "load_balancers[1].listeners", "exactly one"},
	{"two listeners", func(s *State) { gateway(s).Listeners = append(gateway(s).Listeners, *listener(s)) }, "load_balancers[1].listeners", "there are 2"},
	{"listener with a port", func(s *State) { listener(s).Port = 6081 }, "load_balancers[1].listeners[0].port", "leave it out"},
	{"listener without group", func(s *State) { listener(s).TargetGroup = "" }, "load_balancers[1].listeners[0].target_group_id", "is missing"},
	{"listener with a group of a network load balancer", func(s *State) { listener(s).TargetGroup = "web" },
		"load_balancers[1].listeners[0].target_group_id", `used by the network load balancer "nlb"`},
	{"group of a gateway load balancer", func(s *State) {
		s.LoadBalancers[0], s.LoadBalancers[1] = s.LoadBalancers[1], s.LoadBalancers[0]
		s.LoadBalancers[1].Listeners[0].TargetGroup = "firewalls"
	}, "load_balancers[1].listeners[0].target_group_id", `used by the gateway load balancer "gwlb"`},
	{"MTU too small", func(s *State) { gateway(s).MTU = 575 }, "load_balancers[1].mtu", "write 576 to 8500"},
	{"MTU too large", func(s *State) { gateway(s).MTU = 8501 }, "load_balancers[1].mtu", "write 576 to 8500"},
	{"negative MTU", func(s *State) { gateway(s).MTU = -1 }, "load_balancers[1].mtu", "write 576 to 8500"},
	{"MTU of a network load balancer", func(s *State) { s.LoadBalancers[0].MTU = 1500 }, "load_balancers[0].mtu", "gateway load balancers"},
	{"resets of a network load balancer", func(s *State) { s.LoadBalancers[0].Listeners[0].ResetOnIdle = true },
		"load_balancers[0].listeners[0].send_tcp_reset_on_idle_timeout", "gateway load balancers"},
	{"timeout too short", func(s *State) { listener(s).IdleTimeout = time.Second }, "load_balancers[1].listeners[0].idle_timeout", "write 60s to 6000s"},
	{"timeout without ports", func(s *State) { group(s).Stickiness, listener(s).IdleTimeout = ThreeTuple, 351*time.Second },
		"load_balancers[1].listeners[0].idle_timeout", "351s needs five_tuple"},
	{"reset without ports", func(s *State) { group(s).Stickiness, listener(s).ResetOnIdle = TwoTuple, true },
		"load_balancers[1].listeners[0].send_tcp_reset_on_idle_timeout", "needs five_tuple"},

	{"unknown stickiness", func(s *State) { group(s).Stickiness = 3 }, "target_groups[1].stickiness",
		"write five_tuple, source_ip_dest_ip_proto or source_ip_dest_ip"},
	{"reset of the unhealthy without ports", func(s *State) { group(s).Stickiness, group(s).ResetOnUnhealthy = ThreeTuple, true },
		"target_groups[1].send_tcp_reset.on_unhealthy", "needs five_tuple"},
	{"reset of the deregistered without ports", func(s *State) { group(s).Stickiness, group(s).ResetOnDeregistration = TwoTuple, true },
		"target_groups[1].send_tcp_reset.on_deregistration", "needs five_tuple"},
	{"reset of the unhealthy that move", func(s *State) { group(s).Rebalance, group(s).ResetOnUnhealthy = true, true },
		"target_groups[1].send_tcp_reset.on_unhealthy", "no_rebalance"},
	{"reset of the deregistered that move", func(s *State) { group(s).Rebalance, group(s).ResetOnDeregistration = true, true },
		"target_groups[1].send_tcp_reset.on_deregistration", "no_rebalance"},
	{"stickiness of servers", func(s *State) { s.TargetGroups[0].Stickiness = TwoTuple }, "target_groups[0].stickiness", "gateway load balancers"},
	{"failover of servers", func(s *State) { s.TargetGroups[0].Rebalance = true }, "target_groups[0].target_failover", "gateway load balancers"},
	{"resets of servers", func(s *State) { s.TargetGroups[0].ResetOnUnhealthy = true }, "target_groups[0].send_tcp_reset.on_unhealthy", "gateway load balancers"},
	{"resets of deregistered servers", func(s *State) { s.TargetGroups[0].ResetOnDeregistration = true },
		"target_groups[0].send_tcp_reset.on_deregistration", "gateway load balancers"},
	{"PROXY header for appliances", func(s *State) { group(s).ProxyProtocol.Enabled = true }, "target_groups[1].proxy_protocol_v2.enabled", "network load balancers"},
	{"termination of the deregistered", func(s *State) { group(s).TerminateOnDeregistration = true },
		"target_groups[1].terminate_on_deregistration", "network load balancers"},
	{"termination of the unhealthy", func(s *State) { group(s).TerminateOnUnhealthy = true }, "target_groups[1].terminate_on_unhealthy", "network load balancers"},
	{"appliance on a port of its own", func(s *State) { group(s).Targets[0].Port = 80 }, "target_groups[1].targets[0].port", "write 6081"},
	{"appliance without a port", func(s *State) { group(s).Targets[0].Port = 0 }, "target_groups[1].targets[0].port", "is missing"},
	{"check of GENEVE's port", func(s *State) { group(s).HealthCheck.Port = 0 }, "target_groups[1].health_check.port", "such as 80"},

	{"service of both types", func(s *State) { s.Services[0].LoadBalancers = []string{"nlb", "gwlb"} }, "endpoint_services[0].load_balancer_ids[1]",
		`"gwlb" is a gateway load balancer, "nlb" a network one`},
	{"endpoint of no type", func(s *State) { gatewayEndpoint(s).Type = 2 }, "endpoints[1].type", "write Interface or GatewayLoadBalancer"},
	{"interface endpoint of a gateway load balancer", func(s *State) { gatewayEndpoint(s).Type = Interface }, "endpoints[1].type", "write GatewayLoadBalancer"},
	{"GWLB endpoint of a network load balancer", func(s *State) { gatewayEndpoint(s).Service = "vpce-svc-web" }, "endpoints[1].type", "write Interface"},
	{"GWLB endpoint without ENI", func(s *State) { gatewayEndpoint(s).ENIs = nil }, "endpoints[1].enis", "is empty"},
	{"GWLB endpoint in two zones", func(s *State) {
		gatewayEndpoint(s).ENIs = append(gatewayEndpoint(s).ENIs, ENI{Address: addr("10.0.3.6"), Zone: "use1-az2", Ports: []string{"router"}})
	}, "endpoints[1].enis", "exactly one"},
	{"GWLB endpoint beside an interface endpoint", func(s *State) { gatewayEndpoint(s).ENIs[0].Ports[0] = "consumer" }, "endpoints[1].enis[0].port_ids[0]",
		`port "consumer" also has endpoints[0].enis[0]`},
	{"GWLB endpoint beside a node", func(s *State) {
		lb := s.LoadBalancers[0]
		lb.ID, lb.VPC, lb.Listeners = "inside", "vpc-consumer", nil
		lb.Nodes = []ENI{{Address: addr("10.0.3.6"), Zone: "use1-az1", Ports: []string{"router"}}}
		s.LoadBalancers = append(s.LoadBalancers, lb)
	}, "endpoints[1].enis[0].port_ids[0]", "also has load_balancers[2].nodes[0]"},
	{"two GWLB endpoints on a TUN", func(s *State) {
		another(s, "vpce-0123456789abcdef2")
		s.Endpoints[2].ENIs[0].Ports[0] = "router"
	}, "endpoints[2].enis[0].port_ids[0]", "also has endpoints[1].enis[0]"},
	{"GWLB endpoint on two TUNs", func(s *State) {
		another(s, "vpce-0123456789abcdef2")
		s.Endpoints = s.Endpoints[:2]
		gatewayEndpoint(s).ENIs[0].Ports = []string{"router", "router-2"}
	}, "endpoints[1].enis[0].port_ids[1]", "on one TUN alone"},
	{"GWLB endpoint on a TUN and a TAP", func(s *State) {
		taps(s)
		gatewayEndpoint(s).ENIs[0].Ports = []string{"tap-1", "router"}
	}, "endpoints[1].enis[0].port_ids[1]", "on one TUN alone"},
	{"endpoints that appliances cannot tell apart", func(s *State) { another(s, "vpce-f123456789abcdef1") }, "endpoints[2].id", "last 16 digits"},
	{"IPv6 routes of another port", func(s *State) { s.Ports[0].Routes = []netip.Prefix{prefix("fd00::/64")} }, "ports[0].tun.routes[0]", "only IPv4"},
}

func TestBadGatewayStates(t *testing.T) { judge(t, inspected, badGatewayStates) }

func TestGatewayGroups(t *testing.T) {
	if got := inspected().GatewayGroups(); !reflect.DeepEqual(got, map[string]bool{"firewalls": true}) {
		t.Errorf("got %v", got)
	}
}
