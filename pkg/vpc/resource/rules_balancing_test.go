// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func TestTargetGroupRules(t *testing.T) {
	of := func(kind vpc.LoadBalancerType, change func(*TargetGroup)) func(*world, *Tx) error {
		return creating(with(aGroup("new", kind), change))
	}
	web := func(change func(*TargetGroup)) func(*world, *Tx) error {
		return updating(KindTargetGroup, provider, "web", change)
	}
	judge(t, connected(t), []rule{
		{"a group of a network load balancer", asP, of(vpc.Network, func(*TargetGroup) {}), broken{}},
		{"a group of a gateway load balancer", asP, of(vpc.Gateway, func(*TargetGroup) {}), broken{}},
		{"without targets", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Targets = nil }), broken{}},
		{"zone of a target's subnet", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Targets[0].Zone = "" }), broken{}},
		{"zone of a target elsewhere", asP, of(vpc.Network, func(g *TargetGroup) {
			g.Group.Targets[0].Zone, g.Group.Targets[0].Address = "", addr("192.168.1.1")
		}), invalid("targets[0].zone_id")},
		{"no VPC", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.VPC = "" }), missing("vpc")},
		{"unknown type", asP, of(2, func(*TargetGroup) {}), invalid("type")},
		{"delay too long", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.DeregistrationDelay = 3601 * time.Second }), invalid("deregistration_delay")},
		{"interval too short", asP, of(vpc.Network, func(g *TargetGroup) {
			g.Group.HealthCheck.Interval, g.Group.HealthCheck.Timeout = 4*time.Second, 3*time.Second
		}), invalid("health_check.interval")},
		{"stickiness of a network load balancer", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Stickiness = vpc.TwoTuple }), invalid("stickiness")},
		{"PROXY protocol to appliances", asP, of(vpc.Gateway, func(g *TargetGroup) { g.Group.ProxyProtocol.Enabled = true }), invalid("proxy_protocol_v2.enabled")},
		{"checks of appliances without port", asP, of(vpc.Gateway, func(g *TargetGroup) { g.Group.HealthCheck.Port = 0 }), invalid("health_check.port")},
		{"appliance on another port", asP, of(vpc.Gateway, func(g *TargetGroup) { g.Group.Targets[0].Port = 80 }), invalid("targets[0].port")},
		{"target without port", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Targets[0].Port = 0 }), invalid("targets[0].port")},
		{"target twice", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Targets = slices.Repeat(g.Group.Targets, 2) }), invalid("targets[1].address")},
		{"target that is an ENI", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Targets[0].Address = addr("10.0.1.4") }),
			broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "targets[0].address"}},
		{"target at the gateway's node", asP, of(vpc.Network, func(g *TargetGroup) { g.Group.Targets[0].Address = addr("10.0.2.5") }),
			broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "targets[0].address"}},
		{"other type", asP, web(func(g *TargetGroup) { g.Type, g.Group.TerminateOnUnhealthy, g.Group.Targets = vpc.Gateway, false, nil }), immutable("type")},
		{"stickiness that the listener's timeout forbids", asP, func(w *world, tx *Tx) error {
			lb := Clone(get[*LoadBalancer](w, KindLoadBalancer, provider, "gwlb"))
			lb.Listeners[0].IdleTimeout = time.Minute
			if _, err := tx.Update(lb, 0); err != nil {
				return err
			}
			g := Clone(get[*TargetGroup](w, KindTargetGroup, provider, "firewalls"))
			g.Group.Stickiness = vpc.TwoTuple
			_, err := tx.Update(g, 0)
			expect(t, err, broken{FailedPrecondition, "TARGET_GROUP_IN_USE", "InvalidConfigurationRequest", ""})
			return nil
		}, broken{}},
		{"in use", asP, deleting(KindTargetGroup, provider, "web"), broken{FailedPrecondition, "TARGET_GROUP_IN_USE", "ResourceInUse", ""}},
	})
}

func TestLoadBalancerRules(t *testing.T) {
	of := func(change func(*LoadBalancer)) func(*world, *Tx) error {
		return creating(with(aBalancer("new", vpc.Network, "web", "a", "b"), change))
	}
	gateway := func(change func(*LoadBalancer)) func(*world, *Tx) error {
		return creating(with(aBalancer("new", vpc.Gateway, "firewalls", "a", "b"), change))
	}
	nlb := func(change func(*LoadBalancer)) func(*world, *Tx) error {
		return updating(KindLoadBalancer, provider, "nlb", change)
	}
	w := connected(t)
	w.create(asP, &VPC{Meta: meta(KindVPC, provider, "second"), CIDRs: network(provider, "10.1.0.0/16")[0].(*VPC).CIDRs},
		aSubnet(func(s *Subnet) { s.ID, s.Account, s.VPC, s.CIDR = "second", provider, "second", prefix("10.1.1.0/24") }),
		with(aGroup("second", vpc.Network), func(g *TargetGroup) { g.Group.VPC = "second" }))
	address := func(a string) func(*world, *Tx) error {
		return of(func(lb *LoadBalancer) { lb.Nodes[0].Address = addr(a) })
	}
	judge(t, w, []rule{
		{"a network load balancer", asP, of(func(*LoadBalancer) {}), broken{}},
		{"a gateway load balancer", asP, gateway(func(lb *LoadBalancer) { lb.MTU = 1400 }), broken{}},
		{"no listeners", asP, of(func(lb *LoadBalancer) { lb.Listeners = nil }), broken{}},
		{"no nodes", asP, of(func(lb *LoadBalancer) { lb.Nodes = nil }), missing("nodes")},
		{"no VPC", asP, of(func(lb *LoadBalancer) { lb.VPC, lb.Nodes = "", nil }), missing("vpc")},
		{"unknown type", asP, of(func(lb *LoadBalancer) { lb.Type = 2 }), invalid("type")},
		{"two nodes in a zone", asP, of(func(lb *LoadBalancer) { lb.Nodes[1].Subnet = "a2" }), broken{InvalidArgument, "DUPLICATE_ZONE", "DuplicateSubnetsInSameZone", "nodes[1].subnet"}},
		{"unknown subnet", asP, of(func(lb *LoadBalancer) { lb.Nodes[1].Subnet = "x" }), gone(KindSubnet, "nodes[1].subnet")},
		{"subnet of another VPC", asP, of(func(lb *LoadBalancer) { lb.Nodes[1].Subnet = "second" }), broken{InvalidArgument, "SUBNET_OF_OTHER_VPC", "InvalidParameterValue", "nodes[1].subnet"}},
		{"chosen address", asP, address("10.0.1.200"), broken{}},
		{"last address for ENIs", asP, address("10.0.1.254"), broken{}},
		{"network's address", asP, address("10.0.1.0"), broken{InvalidArgument, "ADDRESS_RESERVED", "InvalidParameterValue", "nodes[0].address"}},
		{"fourth address", asP, address("10.0.1.3"), broken{InvalidArgument, "ADDRESS_RESERVED", "InvalidParameterValue", "nodes[0].address"}},
		{"last address", asP, address("10.0.1.255"), broken{InvalidArgument, "ADDRESS_RESERVED", "InvalidParameterValue", "nodes[0].address"}},
		{"address outside the subnet", asP, address("10.0.2.9"), broken{InvalidArgument, "ADDRESS_OUTSIDE_SUBNET", "InvalidParameterValue", "nodes[0].address"}},
		{"address of IPv6", asP, address("fd00::1"), broken{InvalidArgument, "ADDRESS_OUTSIDE_SUBNET", "InvalidParameterValue", "nodes[0].address"}},
		{"address of a target", asP, address("10.0.1.100"), broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "nodes[0].address"}},
		{"address of another ENI", asP, address("10.0.1.4"), broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "nodes[0].address"}},
		{"unknown target group", asP, of(func(lb *LoadBalancer) { lb.Listeners[0].TargetGroup = "x" }), gone(KindTargetGroup, "listeners[0].target_group")},
		{"no target group", asP, of(func(lb *LoadBalancer) { lb.Listeners[0].TargetGroup = "" }), missing("listeners[0].target_group")},
		{"target group of the other type", asP, of(func(lb *LoadBalancer) { lb.Listeners[0].TargetGroup = "firewalls" }), broken{InvalidArgument, "TARGET_GROUP_TYPE", "IncompatibleProtocols", "listeners[0].target_group"}},
		{"target group of another VPC", asP, of(func(lb *LoadBalancer) { lb.Listeners[0].TargetGroup = "second" }), broken{InvalidArgument, "TARGET_GROUP_OF_OTHER_VPC", "InvalidConfigurationRequest", "listeners[0].target_group"}},
		{"listeners on one port", asP, of(func(lb *LoadBalancer) { lb.Listeners = slices.Repeat(lb.Listeners, 2) }), invalid("listeners[1].port")},
		{"listener without port", asP, of(func(lb *LoadBalancer) { lb.Listeners[0].Port = 0 }), invalid("listeners[0].port")},
		{"timeout too short", asP, of(func(lb *LoadBalancer) { lb.Listeners[0].IdleTimeout = time.Second }), invalid("listeners[0].idle_timeout")},
		{"MTU of a network load balancer", asP, of(func(lb *LoadBalancer) { lb.MTU = 1500 }), invalid("mtu")},
		{"gateway with a port", asP, gateway(func(lb *LoadBalancer) { lb.Listeners[0].Port = 80 }), invalid("listeners[0].port")},
		{"gateway without listener", asP, gateway(func(lb *LoadBalancer) { lb.Listeners = nil }), invalid("listeners")},
		{"gateway with a small MTU", asP, gateway(func(lb *LoadBalancer) { lb.MTU = 500 }), invalid("mtu")},
		{"other type", asP, nlb(func(lb *LoadBalancer) { lb.Type, lb.Listeners[0].Port = vpc.Gateway, 0 }), immutable("type")},
		{"other address", asP, nlb(func(lb *LoadBalancer) { lb.Nodes[0].Address = addr("10.0.1.200") }), broken{InvalidArgument, "ADDRESS_IMMUTABLE", "InvalidParameterCombination", "nodes[0].address"}},
		{"address as it is", asP, nlb(func(lb *LoadBalancer) { lb.Nodes[0].Address = addr("10.0.1.4") }), broken{}},
		{"another node", asP, nlb(func(lb *LoadBalancer) { lb.Nodes = append(lb.Nodes, SubnetAddress{Subnet: "c"}) }), broken{}},
		{"a node less where endpoints are", asP, nlb(func(lb *LoadBalancer) { lb.Nodes = lb.Nodes[:1] }), broken{FailedPrecondition, "ZONE_HAS_ENDPOINTS", "ExistingVpcEndpointConnections", "nodes"}},
		{"a node less where none are", asP, updating(KindLoadBalancer, provider, "gwlb", func(lb *LoadBalancer) { lb.Nodes = lb.Nodes[:1] }), broken{}},
		{"of a service", asP, deleting(KindLoadBalancer, provider, "nlb"), broken{FailedPrecondition, "LOAD_BALANCER_IN_USE", "ResourceInUse", ""}},
		{"of no service", asP, func(_ *world, tx *Tx) error {
			if _, err := tx.Create(aBalancer("new", vpc.Network, "web", "a")); err != nil {
				return err
			}
			return tx.Delete(Key{KindLoadBalancer, provider, "new"}, 0)
		}, broken{}},
	})
}

func TestServiceRules(t *testing.T) {
	of := func(change func(*EndpointService)) func(*world, *Tx) error {
		return creating(with(aService("new", "nlb"), change))
	}
	principal := func(p ...string) func(*world, *Tx) error {
		return of(func(s *EndpointService) { s.Principals = p })
	}
	web := func(change func(*EndpointService)) func(*world, *Tx) error {
		return updating(KindEndpointService, provider, "web", change)
	}
	bad := broken{InvalidArgument, "INVALID_PRINCIPAL", "InvalidPrincipal", "allowed_principals[0]"}
	attached := broken{FailedPrecondition, "SERVICE_HAS_ENDPOINTS", "ExistingVpcEndpointConnections", ""}
	w := connected(t)
	w.create(asP, aBalancer("nlb-2", vpc.Network, "web", "b", "c"), aService("unused", "nlb", "nlb-2"))
	judge(t, w, []rule{
		{"a service", asP, of(func(*EndpointService) {}), broken{}},
		{"two load balancers", asP, of(func(s *EndpointService) { s.LoadBalancers = []string{"nlb", "nlb-2"} }), broken{}},
		{"no load balancer", asP, of(func(s *EndpointService) { s.LoadBalancers = nil }), missing("load_balancers")},
		{"unknown load balancer", asP, of(func(s *EndpointService) { s.LoadBalancers = []string{"x"} }), gone(KindLoadBalancer, "load_balancers[0]")},
		{"two types", asP, of(func(s *EndpointService) { s.LoadBalancers = []string{"nlb", "gwlb"} }), broken{InvalidArgument, "LOAD_BALANCER_TYPE", "InvalidParameterCombination", "load_balancers[1]"}},
		{"load balancer twice", asP, of(func(s *EndpointService) { s.LoadBalancers = []string{"nlb", "nlb"} }), invalid("load_balancers[1]")},
		{"principals", asP, principal("*", "arn:aws:iam::222222222222:user/eng/ann", "arn:aws-cn:iam::222222222222:role/deploy"), broken{}},
		{"bare account", asP, principal("222222222222"), bad},
		{"session", asP, principal("arn:aws:sts::222222222222:assumed-role/deploy/x"), bad},
		{"user without name", asP, principal("arn:aws:iam::222222222222:user/"), bad},
		{"group", asP, principal("arn:aws:iam::222222222222:group/eng"), bad},
		{"principal twice", asP, principal("*", "*"), invalid("allowed_principals[1]")},
		{"other type", asP, updating(KindEndpointService, provider, "unused", func(s *EndpointService) { s.LoadBalancers = []string{"gwlb"} }), immutable("load_balancers")},
		{"another load balancer", asP, web(func(s *EndpointService) { s.LoadBalancers = []string{"nlb", "nlb-2"} }), broken{}},
		{"a load balancer for another", asP, web(func(s *EndpointService) { s.LoadBalancers = []string{"nlb-2"} }), broken{attached.code, attached.reason, attached.ec2, "load_balancers"}},
		{"a load balancer less without endpoints", asP, updating(KindEndpointService, provider, "unused", func(s *EndpointService) { s.LoadBalancers = []string{"nlb"} }), broken{}},
		{"attached", asP, deleting(KindEndpointService, provider, "web"), attached},
		{"not attached", asP, deleting(KindEndpointService, provider, "unused"), broken{}},
	})
}
