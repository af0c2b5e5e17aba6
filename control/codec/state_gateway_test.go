// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// inspected is all that ../testdata/reference.yaml says: reference, and a gateway load balancer beside it.
func inspected() *vpc.State {
	s := reference()
	s.Ports = append(s.Ports, vpc.Port{
		ID: "inspection-a", VPC: "vpc-consumer", Kind: vpc.TUN, Netns: "/run/netns/consumer-router", Device: "inspection",
		Routes: []netip.Prefix{prefix("10.0.9.0/24"), prefix("fd00:9::/64")},
	})
	s.LoadBalancers = append(s.LoadBalancers, vpc.LoadBalancer{
		ID: "gwlb", VPC: "vpc-provider", Type: vpc.Gateway, MTU: 8500,
		Nodes:     []vpc.ENI{{Address: addr("10.0.1.40"), Zone: "use1-az1", Ports: []string{"provider-a"}}},
		Listeners: []vpc.Listener{{TargetGroup: "firewalls", IdleTimeout: 600 * time.Second, ResetOnIdle: true}},
	})
	s.TargetGroups = append(s.TargetGroups, vpc.TargetGroup{
		ID: "firewalls", VPC: "vpc-provider", DeregistrationDelay: 300 * time.Second,
		HealthCheck:      applianceCheck,
		ResetOnUnhealthy: true, ResetOnDeregistration: true,
		Targets: []vpc.Target{{Address: addr("10.0.1.41"), Port: 6081, Zone: "use1-az1"}},
	})
	s.Services = append(s.Services, vpc.EndpointService{ID: "vpce-svc-0123456789abcdef1", LoadBalancers: []string{"gwlb"}})
	s.Endpoints = append(s.Endpoints, vpc.Endpoint{
		ID: "vpce-0123456789abcdef1", Type: vpc.GatewayLoadBalancer, Service: "vpce-svc-0123456789abcdef1", VPC: "vpc-consumer",
		ENIs: []vpc.ENI{{Address: addr("10.0.3.5"), Zone: "use1-az1", Ports: []string{"inspection-a"}}},
	})
	return s
}

// applianceCheck is the health check of a gateway load balancer's group that says nothing about it.
var applianceCheck = vpc.HealthCheck{
	Protocol: vpc.CheckTCP, Port: 80, Interval: 10 * time.Second, Timeout: 5 * time.Second, HealthyThreshold: 5, UnhealthyThreshold: 2,
}

func TestGatewayRoundTrip(t *testing.T) {
	for name, change := range map[string]func(*vpc.State, *vpc.LoadBalancer, *vpc.TargetGroup){
		"reference":     func(*vpc.State, *vpc.LoadBalancer, *vpc.TargetGroup) {},
		"no MTU chosen": func(_ *vpc.State, lb *vpc.LoadBalancer, _ *vpc.TargetGroup) { lb.MTU = 0 },
		"small MTU":     func(_ *vpc.State, lb *vpc.LoadBalancer, _ *vpc.TargetGroup) { lb.MTU = 1432 },
		"silence": func(_ *vpc.State, lb *vpc.LoadBalancer, g *vpc.TargetGroup) {
			lb.Listeners[0].ResetOnIdle, g.ResetOnUnhealthy, g.ResetOnDeregistration = false, false, false
		},
		"one reset": func(_ *vpc.State, _ *vpc.LoadBalancer, g *vpc.TargetGroup) { g.ResetOnUnhealthy = false },
		"rebalance": func(_ *vpc.State, _ *vpc.LoadBalancer, g *vpc.TargetGroup) {
			g.Rebalance, g.ResetOnUnhealthy, g.ResetOnDeregistration = true, false, false
		},
		"three tuple": func(_ *vpc.State, lb *vpc.LoadBalancer, g *vpc.TargetGroup) {
			lb.Listeners[0] = vpc.Listener{TargetGroup: g.ID, IdleTimeout: 350 * time.Second}
			g.Stickiness, g.ResetOnUnhealthy, g.ResetOnDeregistration = vpc.ThreeTuple, false, false
		},
		"two tuple": func(_ *vpc.State, lb *vpc.LoadBalancer, g *vpc.TargetGroup) {
			lb.Listeners[0] = vpc.Listener{TargetGroup: g.ID, IdleTimeout: 350 * time.Second}
			g.Stickiness, g.ResetOnUnhealthy, g.ResetOnDeregistration = vpc.TwoTuple, false, false
		},
		"no checks": func(_ *vpc.State, _ *vpc.LoadBalancer, g *vpc.TargetGroup) { g.HealthCheck = vpc.HealthCheck{} },
		"HTTPS check": func(_ *vpc.State, _ *vpc.LoadBalancer, g *vpc.TargetGroup) {
			h := &g.HealthCheck
			h.Protocol, h.Port, h.Path, h.MatchLow, h.MatchHigh = vpc.CheckHTTPS, 8443, "/ok", 200, 200
		},
		"a group that nobody uses": func(s *vpc.State, _ *vpc.LoadBalancer, g *vpc.TargetGroup) {
			spare := *g
			spare.ID, spare.HealthCheck.Port, spare.TerminateOnUnhealthy = "spare", 0, true
			s.TargetGroups = append(s.TargetGroups, spare)
		},
	} {
		want := inspected()
		change(want, &want.LoadBalancers[1], &want.TargetGroups[1])
		roundTrip(t, name, want)
	}
}

// TestGatewayDefaults leaves out all that can be, for a group that a gateway load balancer uses.
func TestGatewayDefaults(t *testing.T) {
	web := applianceCheck
	web.Protocol, web.Path, web.MatchLow, web.MatchHigh = vpc.CheckHTTP, "/", 200, 399
	secure := web
	secure.Protocol, secure.Port = vpc.CheckHTTPS, 443
	fast := applianceCheck
	fast.Interval, fast.Timeout = 5*time.Second, 5*time.Second
	slow := applianceCheck
	slow.Timeout = 8 * time.Second
	for check, want := range map[string]vpc.HealthCheck{
		"":                               applianceCheck,
		"health_check:":                  applianceCheck,
		"health_check: {port: 0}":        applianceCheck,
		"health_check: {protocol: http}": web,
		"health_check: {protocol: HTTPS, port: 443}": secure,
		"health_check: {interval: 5s}":               fast,
		"health_check: {timeout: 8s}":                slow,
		"health_check: {protocol: NONE}":             {},
	} {
		s, err := UnmarshalState("state.yaml", []byte(`
vpcs: [{id: vpc-a, cidrs: [10.0.0.0/16]}]
ports: [{id: p, vpc_id: vpc-a, netns: /run/netns/a, device: d, tun: }]
target_groups:
  - id: firewalls
    vpc_id: vpc-a
    `+check+`
load_balancers:
  - {id: gwlb, type: GATEWAY, vpc_id: vpc-a, nodes: [{zone_id: az1, address: 10.0.0.5, port_ids: [p]}], listeners: [{target_group_id: firewalls}]}
`))
		if err != nil {
			t.Fatalf("%q: %v", check, err)
		}
		g, l := &s.TargetGroups[0], &s.LoadBalancers[0].Listeners[0]
		if g.HealthCheck != want {
			t.Errorf("%q gives %+v, want %+v", check, g.HealthCheck, want)
		}
		if g.DeregistrationDelay != 300*time.Second || g.TerminateOnUnhealthy || g.Stickiness != vpc.FiveTuple || g.Rebalance || g.ResetOnUnhealthy {
			t.Errorf("%q gives the group %+v", check, g)
		}
		if l.IdleTimeout != 350*time.Second || l.ResetOnIdle || s.LoadBalancers[0].MTU != 0 {
			t.Errorf("%q gives the listener %+v", check, l)
		}
	}
}

func TestGatewayMistakes(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"load_balancers: [{type: application}]", `load_balancers[0].type: "application" is not one of network, gateway`},
		{"load_balancers: [{mtu: big}]", `load_balancers[0].mtu: "big" is not a whole number`},
		{"endpoints: [{type: gateway}]", `endpoints[0].type: "gateway" is not one of Interface, GatewayLoadBalancer`},
		{"target_groups: [{stickiness: source_ip}]", `"source_ip" is not one of five_tuple, source_ip_dest_ip_proto, source_ip_dest_ip`},
		{"target_groups: [{target_failover: move}]", `"move" is not one of no_rebalance, rebalance`},
		{"target_groups: [{send_tcp_reset: true}]", `send_tcp_reset: is the single value "true"; write fields`},
		// A rule that is broken is found in the file as well.
		{"load_balancers:\n  - type: gateway\n    mtu: 9000\n", "state.yaml:3:10: load_balancers[0].mtu: 9000 is out of range"},
		{"target_groups:\n  - target_failover: rebalance\n    send_tcp_reset:\n      on_unhealthy: true\n",
			"state.yaml:4:21: target_groups[0].send_tcp_reset.on_unhealthy: needs target_failover: no_rebalance"},
	} {
		_, err := UnmarshalState("state.yaml", []byte(c.yaml))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.yaml, err, c.want)
		}
	}
}
