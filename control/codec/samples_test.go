// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

const (
	consumer = "111122223333"
	provider = "444455556666"
)

// samples is one resource of each kind, in which everything is said, and more where one cannot say everything.
func samples() []resource.Resource {
	meta := func(kind resource.Kind, id string) resource.Meta {
		return resource.Meta{
			Key: resource.Key{Kind: kind, Account: consumer, ID: id}, UID: "x-0123456789abcdef0", Tags: map[string]string{"Name": id, "a.b": ""},
			Created: time.Unix(1e9, 1).UTC(), Updated: time.Unix(2e9, 0).UTC(), Manifest: "lab", Revision: 7,
		}
	}
	nodes := []resource.SubnetAddress{{Subnet: "a", Address: addr("10.0.1.7")}, {Subnet: "b"}}
	group := inspected().TargetGroups[0]
	group.ID, group.VPC, group.Targets = "", "main", []vpc.Target{{Address: addr("10.0.1.31"), Port: 8080, Zone: "use1-az1"}}
	appliances := inspected().TargetGroups[1]
	appliances.ID, appliances.VPC = "", "main"
	return []resource.Resource{
		&resource.Account{Meta: meta(resource.KindAccount, consumer), DisplayName: "Consumer", Zones: map[string]string{"us-east-1a": "use1-az1"},
			Quotas: resource.Quotas{
				VPCs: 1, SubnetsPerVPC: 2, EndpointsPerVPC: 3, SecurityGroupsPerVPC: 4, SecurityGroupsPerENI: 5, RulesPerSecurityGroup: 6,
				LoadBalancers: 7, TargetGroups: 8, TargetsPerGroup: 9, ListenersPerLB: 10, EndpointServices: 11, RoutesPerTable: 12, TagsPerResource: 13,
			}},
		&resource.VPC{Meta: meta(resource.KindVPC, "main"), CIDRs: []netip.Prefix{prefix("10.0.0.0/16")}, DefaultSecurityGroup: "default"},
		&resource.Subnet{Meta: meta(resource.KindSubnet, "a"), VPC: "main", CIDR: prefix("10.0.1.0/24"), Zone: "us-east-1a", ZoneID: "use1-az1"},
		&resource.SecurityGroup{Meta: meta(resource.KindSecurityGroup, "default"), VPC: "main", Description: "all", Default: true,
			Members: []netip.Prefix{prefix("10.0.1.9/32"), prefix("10.0.2.0/24")},
			Ingress: []resource.Rule{
				{Protocol: "tcp", FromPort: 80, ToPort: 443, CIDRs: []netip.Prefix{prefix("0.0.0.0/0")}, Description: "web"},
				{Protocol: "-1", Group: "default"},
			}},
		&resource.TargetGroup{Meta: meta(resource.KindTargetGroup, "web"), Group: group,
			Draining: []resource.DrainingTarget{{Target: vpc.Target{Address: addr("10.0.1.32"), Port: 8080, Zone: "use1-az1"}, Since: time.Unix(3e9, 0).UTC()}}},
		&resource.TargetGroup{Meta: meta(resource.KindTargetGroup, "firewalls"), Type: vpc.Gateway, Group: appliances},
		&resource.TargetGroup{Meta: meta(resource.KindTargetGroup, "old"), Group: vpc.TargetGroup{VPC: "main", TerminateOnDeregistration: true}},
		&resource.LoadBalancer{Meta: meta(resource.KindLoadBalancer, "nlb"), VPC: "main", Type: vpc.Gateway, CrossZone: true, MTU: 1500, Nodes: nodes,
			Listeners: []vpc.Listener{{Port: 80, TargetGroup: "web", IdleTimeout: 350 * time.Second, ResetOnIdle: true}}},
		&resource.EndpointService{Meta: meta(resource.KindEndpointService, "svc"), LoadBalancers: []string{"nlb"}, Principals: []string{"*"}, AutoAccept: true,
			Name: "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0", Type: vpc.GatewayLoadBalancer, ZoneIDs: []string{"use1-az1"}},
		&resource.Endpoint{Meta: meta(resource.KindEndpoint, "ep"), VPC: "main", Service: "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0",
			Type: vpc.GatewayLoadBalancer, ENIs: nodes, SecurityGroups: []string{"default"},
			Bandwidth: vpc.Bandwidth{Rate: 1e9, Burst: 2e9, BurstTime: time.Second}, Creator: "arn:aws:iam::111122223333:user/a",
			State: resource.Failed, Reason: "no", StateSince: time.Unix(4e9, 0).UTC(), Generation: 3},
		&resource.Attachment{Meta: meta(resource.KindAttachment, "tap"), Subnet: "a", Netns: "/run/netns/a", Device: "tap0", Bridge: "br0",
			Gateway: addr("10.0.1.1"), Endpoint: "ep"},
		&resource.Attachment{Meta: meta(resource.KindAttachment, "tun"), Subnet: "a", Netns: "/run/netns/a", Device: "tun0",
			Addresses: []netip.Prefix{prefix("10.0.1.9/24")}},
		&resource.RouteTable{Meta: meta(resource.KindRouteTable, "rt"), VPC: "main", Table: 100,
			Routes: []resource.Route{{Destination: prefix("::/0"), Endpoint: "ep"}}},
	}
}

// maker draws parts of resources.
type maker struct{ *rapid.T }

// anyResource draws a resource of any kind as the rules would let it pass; references lead nowhere.
func anyResource(t *rapid.T) resource.Resource {
	m := maker{t}
	kind := resource.Kind(m.number("kind", int(resource.KindAccount), int(resource.KindRouteTable)))
	meta := resource.Meta{
		Key: resource.Key{Kind: kind, Account: consumer, ID: m.id()}, UID: m.id(), Tags: m.texts("tags"),
		Created: m.time(), Updated: m.time(), Manifest: m.text(), Revision: uint64(m.number("revision", 0, 1<<40)),
	}
	switch kind {
	case resource.KindAccount:
		meta.ID = consumer
		return &resource.Account{Meta: meta, DisplayName: m.text(), Zones: m.texts("zones"), Quotas: resource.Quotas{VPCs: m.number("vpcs", 0, 9), TagsPerResource: m.number("tags", 0, 9)}}
	case resource.KindVPC:
		return &resource.VPC{Meta: meta, CIDRs: m.prefixes(), DefaultSecurityGroup: m.maybeID()}
	case resource.KindSubnet:
		return &resource.Subnet{Meta: meta, VPC: m.maybeID(), CIDR: m.prefix(), Zone: m.text(), ZoneID: m.text()}
	case resource.KindSecurityGroup:
		return &resource.SecurityGroup{Meta: meta, VPC: m.id(), Description: m.text(), Members: m.prefixes(), Default: m.bool(), Ingress: repeat(m, func() resource.Rule {
			return resource.Rule{Protocol: m.text(), FromPort: m.port(), ToPort: m.port(), CIDRs: m.prefixes(), Group: m.maybeID(), Description: m.text()}
		})}
	case resource.KindTargetGroup:
		return m.targetGroup(meta)
	case resource.KindLoadBalancer:
		return &resource.LoadBalancer{Meta: meta, VPC: m.id(), Type: m.gateway(), CrossZone: m.bool(), MTU: m.number("mtu", 0, 9000), Nodes: m.enis(), Listeners: repeat(m, func() vpc.Listener {
			return vpc.Listener{Port: m.port(), TargetGroup: m.maybeID(), IdleTimeout: m.duration(), ResetOnIdle: m.bool()}
		})}
	case resource.KindEndpointService:
		return &resource.EndpointService{Meta: meta, LoadBalancers: m.ids(), AutoAccept: m.bool(), Principals: repeat(m, m.text), Name: m.text(), Type: vpc.EndpointType(m.gateway()), ZoneIDs: repeat(m, m.text)}
	case resource.KindEndpoint:
		return &resource.Endpoint{
			Meta: meta, VPC: m.id(), Service: m.text(), Type: vpc.EndpointType(m.gateway()), ENIs: m.enis(), SecurityGroups: m.ids(), Creator: m.text(),
			Bandwidth: vpc.Bandwidth{Rate: uint64(m.number("rate", 0, 9)), Burst: uint64(m.number("burst", 0, 9)), BurstTime: m.duration()},
			State:     resource.EndpointState(m.number("state", 0, int(resource.Expired))), Reason: m.text(), StateSince: m.time(),
			Generation: uint32(m.number("generation", 0, 9)),
		}
	case resource.KindAttachment:
		a := &resource.Attachment{Meta: meta, Subnet: m.id(), Netns: m.text(), Device: m.text(), Endpoint: m.maybeID()}
		if m.bool() {
			a.Bridge, a.Gateway = m.id(), m.addr()
		} else {
			a.Addresses = m.prefixes()
		}
		return a
	}
	return &resource.RouteTable{Meta: meta, VPC: m.id(), Table: uint32(m.number("table", 0, 1<<31)), Routes: repeat(m, func() resource.Route {
		return resource.Route{Destination: m.prefix(), Endpoint: m.maybeID()}
	})}
}

func (m maker) targetGroup(meta resource.Meta) *resource.TargetGroup {
	target := func() vpc.Target {
		return vpc.Target{Address: m.addr(), Port: uint16(m.number("target port", 1, 65535)), Zone: m.text()}
	}
	g := &resource.TargetGroup{Meta: meta, Type: m.gateway(), Group: vpc.TargetGroup{
		VPC: m.id(), DeregistrationDelay: m.duration(), TerminateOnDeregistration: m.bool(), TerminateOnUnhealthy: m.bool(),
		Stickiness: vpc.Stickiness(m.number("stickiness", 0, 2)), Rebalance: m.bool(), ResetOnUnhealthy: m.bool(), ResetOnDeregistration: m.bool(),
		ProxyProtocol: vpc.ProxyProtocol{Enabled: m.bool(), Placement: vpc.Placement(m.number("placement", 0, 1))}, Targets: repeat(m, target),
	}, Draining: repeat(m, func() resource.DrainingTarget { return resource.DrainingTarget{Target: target(), Since: m.time()} })}
	if h := &g.Group.HealthCheck; m.bool() {
		h.Protocol, h.Port = vpc.CheckTCP, uint16(m.number("check port", 1, 65535))
		h.Interval, h.Timeout, h.HealthyThreshold, h.UnhealthyThreshold = m.duration(), m.duration(), m.number("up", 0, 10), m.number("down", 0, 10)
		if m.bool() {
			h.Protocol, h.Path, h.MatchLow, h.MatchHigh = vpc.CheckHTTPS, "/"+m.text(), m.number("low", 0, 999), m.number("high", 0, 999)
		}
	}
	return g
}

func repeat[V any](m maker, f func() V) []V {
	var out []V
	for range m.number("length", 0, 3) {
		out = append(out, f())
	}
	return out
}

func (m maker) number(label string, low, high int) int {
	return rapid.IntRange(low, high).Draw(m.T, label)
}
func (m maker) bool() bool                    { return rapid.Bool().Draw(m.T, "bool") }
func (m maker) text() string                  { return rapid.String().Draw(m.T, "text") }
func (m maker) id() string                    { return rapid.StringMatching(`[a-z0-9-]{1,9}`).Draw(m.T, "id") }
func (m maker) ids() []string                 { return repeat(m, m.id) }
func (m maker) port() uint16                  { return uint16(m.number("port", 0, 65535)) }
func (m maker) gateway() vpc.LoadBalancerType { return vpc.LoadBalancerType(m.number("type", 0, 1)) }

func (m maker) maybeID() string {
	if m.bool() {
		return ""
	}
	return m.id()
}

func (m maker) texts(label string) map[string]string {
	return rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(m.T, label)
}

func (m maker) time() time.Time {
	if m.bool() {
		return time.Time{}
	}
	return time.Unix(int64(m.number("seconds", 0, 1<<33)), int64(m.number("nanos", 0, 999999999))).UTC()
}

func (m maker) duration() time.Duration {
	return time.Duration(m.number("duration", 0, int(7000*time.Second)))
}

func (m maker) addr() netip.Addr {
	switch m.number("family", 0, 2) {
	case 0:
		return netip.Addr{}
	case 1:
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(m.T, "address")))
	}
	return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(m.T, "address")))
}

func (m maker) prefix() netip.Prefix {
	a := m.addr()
	if !a.IsValid() || a.Is4In6() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, m.number("bits", 0, a.BitLen()))
}

func (m maker) prefixes() []netip.Prefix {
	return repeat(m, func() netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(m.number("third", 0, 255))}), m.number("bits", 0, 32))
	})
}

func (m maker) enis() []resource.SubnetAddress {
	return repeat(m, func() resource.SubnetAddress { return resource.SubnetAddress{Subnet: m.id(), Address: m.addr()} })
}
