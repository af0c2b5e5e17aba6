// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// rule breaks one rule in a world, which stays as it is.
type rule struct {
	name string
	as   Actor
	do   func(w *world, t *Tx) error
	want broken
}

// judge breaks rules one after the other: each must be told, and must leave the Tx as it was.
func judge(t *testing.T, w *world, all []rule) {
	t.Helper()
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			w.t = t
			tx := w.begin(r.as)
			err := r.do(w, tx)
			if r.want == (broken{}) {
				if err == nil {
					err = tx.Check()
				}
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			expect(t, err, r.want)
			if n := len(tx.Changes()); n != 0 {
				t.Errorf("a failed operation left %d changes: %v", n, tx.Changes()[0])
			}
			sameSets(t, w.set, &Set{model: tx.model})
		})
	}
}

func creating(r Resource) func(*world, *Tx) error {
	return func(_ *world, t *Tx) error { _, err := t.Create(r); return err }
}

func deleting(kind Kind, account, id string) func(*world, *Tx) error {
	return func(_ *world, t *Tx) error { return t.Delete(Key{kind, account, id}, 0) }
}

func updating[R Resource](kind Kind, account, id string, change func(R)) func(*world, *Tx) error {
	return func(w *world, t *Tx) error {
		r := Clone(get[R](w, kind, account, id))
		change(r)
		_, err := t.Update(r, 0)
		return err
	}
}

// with is a resource with one thing changed.
func with[R Resource](r R, change func(R)) R {
	change(r)
	return r
}

func invalid(field string) broken {
	return broken{InvalidArgument, "INVALID_FIELD", "InvalidParameterValue", field}
}

func missing(field string) broken {
	return broken{InvalidArgument, "MISSING_FIELD", "MissingParameter", field}
}

func immutable(field string) broken {
	return broken{InvalidArgument, "FIELD_IMMUTABLE", "InvalidParameterCombination", field}
}

func gone(kind Kind, field string) broken {
	return broken{NotFound, "REFERENCE_NOT_FOUND", kinds[kind].missing, field}
}

func inUse(reason string) broken {
	return broken{FailedPrecondition, reason, "DependencyViolation", ""}
}

func account(change func(*Account)) *Account {
	return with(&Account{Meta: meta(KindAccount, "", "444444444444")}, change)
}

func aVPC(change func(*VPC)) *VPC {
	return with(&VPC{Meta: meta(KindVPC, consumer, "other"), CIDRs: []netip.Prefix{prefix("10.1.0.0/16")}}, change)
}

func aSubnet(change func(*Subnet)) *Subnet {
	return with(&Subnet{Meta: meta(KindSubnet, consumer, "d"), VPC: "main", CIDR: prefix("10.0.9.0/24"), Zone: "use1-az1"}, change)
}

func TestMetaRules(t *testing.T) {
	tags := func(m map[string]string) func(*world, *Tx) error {
		return creating(aVPC(func(v *VPC) { v.Tags = m }))
	}
	many := map[string]string{}
	for i := range 51 {
		many[strings.Repeat("k", i+1)] = ""
	}
	id := func(id string) func(*world, *Tx) error { return creating(aVPC(func(v *VPC) { v.ID = id })) }
	judge(t, connected(t), []rule{
		{"a VPC", asC, creating(aVPC(func(*VPC) {})), broken{}},
		{"without id", asC, id(""), broken{}},
		{"id of a letter", asC, id("a"), broken{}},
		{"id of 63", asC, id(strings.Repeat("a", 63)), broken{}},
		{"id of 64", asC, id(strings.Repeat("a", 64)), invalid("name")},
		{"id in upper case", asC, id("Shop"), invalid("name")},
		{"id with a hyphen at its end", asC, id("shop-"), invalid("name")},
		{"id with a slash", asC, id("a/b"), invalid("name")},
		{"id of a uid's form", asC, id("vpc-0123456789abcdef0"), invalid("name")},
		{"id of another kind's uid's form", asC, id("vpce-svc-0123456789abcdef0"), invalid("name")},
		{"id taken", asC, id("main"), broken{AlreadyExists, "RESOURCE_EXISTS", "InvalidParameterValue", "name"}},
		{"id taken by another account", asC, creating(aVPC(func(v *VPC) { v.ID = "web" })), broken{}},
		{"50 tags", asC, func(w *world, tx *Tx) error { delete(many, "k"); return tags(many)(w, tx) }, broken{}},
		{"51 tags", asC, func(w *world, tx *Tx) error { many["k"] = ""; return tags(many)(w, tx) }, broken{ResourceExhausted, "QUOTA_EXCEEDED", "TagLimitExceeded", "metadata.tags"}},
		{"tag of aws", asC, tags(map[string]string{"AWS:x": ""}), invalid("metadata.tags[AWS:x]")},
		{"tag without key", asC, tags(map[string]string{"": "x"}), invalid("metadata.tags[]")},
		{"tag with a long key", asC, tags(map[string]string{strings.Repeat("ü", 129): ""}), invalid("metadata.tags[" + strings.Repeat("ü", 129) + "]")},
		{"tag with the longest key", asC, tags(map[string]string{strings.Repeat("ü", 128): ""}), broken{}},
		{"tag with a long value", asC, tags(map[string]string{"k": strings.Repeat("v", 257)}), invalid("metadata.tags[k]")},
		{"tag of no text", asC, tags(map[string]string{"k": "\xff"}), invalid("metadata.tags")},
	})
}

func TestAccountRules(t *testing.T) {
	zones := func(m map[string]string) func(*world, *Tx) error {
		return creating(account(func(a *Account) { a.Zones = m }))
	}
	judge(t, connected(t), []rule{
		{"an account", operator, zones(map[string]string{"us-east-1a": "use1-az3"}), broken{}},
		{"by an account", asC, creating(account(func(*Account) {})), broken{PermissionDenied, "NOT_OPERATOR", "UnauthorizedOperation", ""}},
		{"of 11 digits", operator, creating(account(func(a *Account) { a.ID = "44444444444" })), invalid("name")},
		{"zone of a strange name", operator, zones(map[string]string{"A": "use1-az1"}), invalid("zones[A]")},
		{"zone of a strange id", operator, zones(map[string]string{"a": ""}), invalid("zones[a]")},
		{"zone of two names", operator, zones(map[string]string{"a": "x", "b": "x"}), invalid("zones[b]")},
		{"long name", operator, creating(account(func(a *Account) { a.DisplayName = strings.Repeat("x", 256) })), invalid("display_name")},
		{"negative quota", operator, creating(account(func(a *Account) { a.Quotas.VPCs = -1 })), invalid("quotas.vpcs")},
		{"zone in use", operator, updating(KindAccount, consumer, consumer, func(a *Account) {
			a.Zones = map[string]string{"use1-az1": "use1-az6"}
		}), broken{FailedPrecondition, "ZONE_IN_USE", "DependencyViolation", "zones[use1-az1]"}},
		{"zone not in use", operator, updating(KindAccount, consumer, consumer, func(a *Account) {
			a.Zones = map[string]string{"us-east-1a": "use1-az6"}
		}), broken{}},
		{"changed by itself", asC, updating(KindAccount, consumer, consumer, func(*Account) {}), broken{PermissionDenied, "NOT_OWNER", "UnauthorizedOperation", ""}},
		{"deleted by itself", asC, deleting(KindAccount, consumer, consumer), broken{PermissionDenied, "NOT_OWNER", "UnauthorizedOperation", ""}},
		{"not empty", operator, deleting(KindAccount, consumer, consumer), inUse("ACCOUNT_NOT_EMPTY")},
		{"empty", operator, func(_ *world, t *Tx) error {
			if _, err := t.Create(account(func(*Account) {})); err != nil {
				return err
			}
			return t.Delete(Key{KindAccount, "444444444444", "444444444444"}, 0)
		}, broken{}},
	})
}

func TestNetworkRules(t *testing.T) {
	cidrs := func(list ...string) func(*world, *Tx) error {
		return creating(aVPC(func(v *VPC) {
			v.CIDRs = nil
			for _, p := range list {
				v.CIDRs = append(v.CIDRs, prefix(p))
			}
		}))
	}
	var many []string
	for i := range 51 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16).String())
	}
	cidr := func(p string) func(*world, *Tx) error {
		return creating(aSubnet(func(s *Subnet) { s.CIDR = prefix(p) }))
	}
	w := connected(t)
	w.create(asP, &SecurityGroup{Meta: meta(KindSecurityGroup, provider, "clients"), VPC: "main", Members: []netip.Prefix{prefix("10.0.200.0/24")}})
	judge(t, w, []rule{
		{"two prefixes", asC, cidrs("10.1.0.0/16", "192.168.0.0/24"), broken{}},
		{"no prefix", asC, cidrs(), missing("cidrs")},
		{"empty prefix", asC, creating(aVPC(func(v *VPC) { v.CIDRs = make([]netip.Prefix, 1) })), missing("cidrs[0]")},
		{"IPv6 prefix", asC, cidrs("fd00::/64"), invalid("cidrs[0]")},
		{"prefix with host bits", asC, cidrs("10.1.0.1/16"), invalid("cidrs[0]")},
		{"loopback prefix", asC, cidrs("127.0.0.0/24"), invalid("cidrs[0]")},
		{"everything", asC, cidrs("0.0.0.0/0"), invalid("cidrs[0]")},
		{"multicast prefix", asC, cidrs("10.0.0.0/8", "239.0.0.0/24"), invalid("cidrs[1]")},
		{"prefixes overlap", asC, cidrs("10.0.0.0/8", "10.1.0.0/16"), broken{InvalidArgument, "CIDR_OVERLAP", "InvalidVpc.Range", "cidrs[1]"}},
		{"too many prefixes", asC, cidrs(many...), broken{ResourceExhausted, "TOO_MANY_CIDRS", "VpcCidrLimitExceeded", "cidrs"}},
		{"another prefix", asC, updating(KindVPC, consumer, "main", func(v *VPC) { v.CIDRs = append(v.CIDRs, prefix("10.1.0.0/16")) }), broken{}},
		{"prefix in use", asC, updating(KindVPC, consumer, "main", func(v *VPC) { // by subnet a
			v.CIDRs = []netip.Prefix{prefix("10.0.2.0/23"), prefix("10.0.4.0/22")}
		}), broken{FailedPrecondition, "CIDR_IN_USE", "DependencyViolation", "cidrs"}},
		{"prefix of a member", asP, updating(KindVPC, provider, "main", func(v *VPC) {
			v.CIDRs = []netip.Prefix{prefix("10.0.0.0/17")}
		}), broken{FailedPrecondition, "CIDR_IN_USE", "DependencyViolation", "cidrs"}},
		{"VPC in use", asC, deleting(KindVPC, consumer, "main"), inUse("VPC_IN_USE")},

		{"a subnet", asC, creating(aSubnet(func(*Subnet) {})), broken{}},
		{"the smallest subnet", asC, cidr("10.0.9.16/28"), broken{}},
		{"too small", asC, cidr("10.0.9.16/29"), broken{InvalidArgument, "SUBNET_TOO_SMALL", "InvalidSubnet.Range", "cidr"}},
		{"outside", asC, cidr("10.1.9.0/24"), broken{InvalidArgument, "SUBNET_OUTSIDE_VPC", "InvalidSubnet.Range", "cidr"}},
		{"overlap", asC, cidr("10.0.1.128/25"), broken{InvalidArgument, "SUBNET_OVERLAP", "InvalidSubnet.Conflict", "cidr"}},
		{"no CIDR", asC, creating(aSubnet(func(s *Subnet) { s.CIDR = netip.Prefix{} })), missing("cidr")},
		{"no VPC", asC, creating(aSubnet(func(s *Subnet) { s.VPC = "" })), missing("vpc")},
		{"unknown VPC", asC, creating(aSubnet(func(s *Subnet) { s.VPC = "x" })), gone(KindVPC, "vpc")},
		{"VPC by uid", asC, func(w *world, tx *Tx) error {
			return creating(aSubnet(func(s *Subnet) { s.VPC = get[*VPC](w, KindVPC, consumer, "main").UID }))(w, tx)
		}, broken{}},
		{"VPC of another account by uid", asC, func(w *world, tx *Tx) error {
			return creating(aSubnet(func(s *Subnet) { s.VPC = get[*VPC](w, KindVPC, provider, "main").UID }))(w, tx)
		}, gone(KindVPC, "vpc")},
		{"no zone", asC, creating(aSubnet(func(s *Subnet) { s.Zone = "" })), missing("zone")},
		{"strange zone", asC, creating(aSubnet(func(s *Subnet) { s.Zone = "Zone 1" })), invalid("zone")},
		{"moved", asC, updating(KindSubnet, consumer, "a", func(s *Subnet) { s.CIDR = prefix("10.0.9.0/24") }), immutable("cidr")},
		{"to another zone", asC, updating(KindSubnet, consumer, "a", func(s *Subnet) { s.Zone = "use1-az2" }), immutable("zone")},
		{"subnet in use", asC, deleting(KindSubnet, consumer, "a"), inUse("SUBNET_IN_USE")},
		{"subnet not in use", asC, deleting(KindSubnet, consumer, "c"), broken{}},
	})
}

func TestSecurityGroupRules(t *testing.T) {
	group := func(rules ...Rule) *SecurityGroup {
		return &SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "clients"), VPC: "main", Ingress: rules}
	}
	one := func(r Rule) func(*world, *Tx) error { return creating(group(r)) }
	all := []netip.Prefix{prefix("0.0.0.0/0")}
	members := func(p string) func(*world, *Tx) error {
		return creating(with(group(), func(g *SecurityGroup) { g.Members = []netip.Prefix{prefix(p)} }))
	}
	w := connected(t)
	w.create(asC, &VPC{Meta: meta(KindVPC, consumer, "second"), CIDRs: []netip.Prefix{prefix("10.2.0.0/16")}})
	second := get[*VPC](w, KindVPC, consumer, "second").DefaultSecurityGroup
	main := get[*VPC](w, KindVPC, consumer, "main").DefaultSecurityGroup
	w.create(asC, &SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "used"), VPC: "main"})
	w.create(asC, &SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "user"), VPC: "main", Ingress: []Rule{{Protocol: "tcp", Group: "used"}}})
	judge(t, w, []rule{
		{"all ports", asC, one(Rule{Protocol: "tcp", CIDRs: all}), broken{}},
		{"all protocols of IPv6", asC, one(Rule{Protocol: "-1", CIDRs: []netip.Prefix{prefix("::/0")}}), broken{}},
		{"a range", asC, one(Rule{Protocol: "tcp", FromPort: 80, ToPort: 90, CIDRs: all}), broken{}},
		{"itself", asC, one(Rule{Protocol: "tcp", Group: "clients"}), broken{}},
		{"another group", asC, one(Rule{Protocol: "tcp", Group: main}), broken{}},
		{"unknown protocol", asC, one(Rule{Protocol: "udp", CIDRs: all}), broken{InvalidArgument, "INVALID_PROTOCOL", "InvalidPermission.Malformed", "ingress[0].protocol"}},
		{"ports of all protocols", asC, one(Rule{Protocol: "-1", ToPort: 80, CIDRs: all}), broken{InvalidArgument, "PORTS_OF_ALL_PROTOCOLS", "InvalidParameterCombination", "ingress[0].from_port"}},
		{"ports the wrong way", asC, one(Rule{Protocol: "tcp", FromPort: 80, CIDRs: all}), broken{InvalidArgument, "INVALID_PORTS", "InvalidParameterValue", "ingress[0].to_port"}},
		{"nobody", asC, one(Rule{Protocol: "tcp"}), missing("ingress[0].cidrs")},
		{"CIDRs and a group", asC, one(Rule{Protocol: "tcp", CIDRs: all, Group: main}), broken{InvalidArgument, "CIDRS_AND_GROUP", "InvalidParameterCombination", "ingress[0].group"}},
		{"CIDR with host bits", asC, one(Rule{Protocol: "tcp", CIDRs: []netip.Prefix{prefix("10.0.0.1/16")}}), invalid("ingress[0].cidrs[0]")},
		{"mapped CIDR", asC, one(Rule{Protocol: "tcp", CIDRs: []netip.Prefix{prefix("::ffff:10.0.0.0/112")}}), invalid("ingress[0].cidrs[0]")},
		{"unknown group", asC, one(Rule{Protocol: "tcp", Group: "x"}), gone(KindSecurityGroup, "ingress[0].group")},
		{"group of another VPC", asC, one(Rule{Protocol: "tcp", Group: second}), broken{InvalidArgument, "GROUP_OF_OTHER_VPC", "InvalidParameterValue", "ingress[0].group"}},
		{"long description", asC, creating(with(group(), func(g *SecurityGroup) { g.Description = strings.Repeat("x", 256) })), invalid("description")},
		{"member", asC, members("10.0.200.7/32"), broken{}},
		{"member outside", asC, members("10.1.0.7/32"), invalid("members[0]")},
		{"member of IPv6", asC, members("fd00::/64"), invalid("members[0]")},
		{"more rules than the quota", asC, one(Rule{Protocol: "tcp", CIDRs: slices.Repeat(all, 61)}), broken{ResourceExhausted, "QUOTA_EXCEEDED", "RulesPerSecurityGroupLimitExceeded", "ingress"}},
		{"to another VPC", asC, updating(KindSecurityGroup, consumer, "user", func(g *SecurityGroup) { g.VPC = "second" }), immutable("vpc")},
		{"default group changed", asC, updating(KindSecurityGroup, consumer, main, func(g *SecurityGroup) { g.Ingress = nil }), broken{}},
		{"default group deleted", asC, deleting(KindSecurityGroup, consumer, second), broken{FailedPrecondition, "DEFAULT_GROUP", "CannotDelete", ""}},
		{"group that rules refer to", asC, deleting(KindSecurityGroup, consumer, "used"), inUse("SECURITY_GROUP_IN_USE")},
		{"group that refers to others", asC, deleting(KindSecurityGroup, consumer, "user"), broken{}},
		{"VPC with nothing but its default group", asC, deleting(KindVPC, consumer, "second"), broken{}},
	})
}

func TestAttachmentRules(t *testing.T) {
	of := func(base *Attachment, change func(*Attachment)) func(*world, *Tx) error {
		return creating(with(Clone(base), change))
	}
	onTUN, onTAP := tun(consumer, "new", "a", ""), tap(consumer, "new", "a", "")
	taken := broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "namespace.addresses[0]"}
	w := connected(t)
	judge(t, w, []rule{
		{"a TUN", asC, of(onTUN, func(a *Attachment) { a.Addresses = []netip.Prefix{prefix("10.0.1.77/24")} }), broken{}},
		{"a TAP", asC, of(onTAP, func(a *Attachment) { a.Gateway = addr("10.0.1.1") }), broken{}},
		{"no subnet", asC, of(onTUN, func(a *Attachment) { a.Subnet = "" }), missing("subnet")},
		{"unknown subnet", asC, of(onTUN, func(a *Attachment) { a.Subnet = "x" }), gone(KindSubnet, "subnet")},
		{"no namespace", asC, of(onTUN, func(a *Attachment) { a.Netns = "" }), missing("netns")},
		{"relative path", asC, of(onTUN, func(a *Attachment) { a.Netns = "run/netns/x" }), invalid("netns")},
		{"path with dots", asC, of(onTUN, func(a *Attachment) { a.Netns = "/run/../x" }), invalid("netns")},
		{"path with a NUL", asC, of(onTUN, func(a *Attachment) { a.Netns = "/run/\x00x" }), invalid("netns")},
		{"long device", asC, of(onTUN, func(a *Attachment) { a.Device = strings.Repeat("x", 16) }), invalid("device")},
		{"device with a slash", asC, of(onTUN, func(a *Attachment) { a.Device = "a/b" }), invalid("device")},
		{"device taken", asC, func(w *world, tx *Tx) error {
			other := get[*Attachment](w, KindAttachment, consumer, "clients")
			return of(onTUN, func(a *Attachment) { a.Netns, a.Device = other.Netns, other.Device })(w, tx)
		}, broken{AlreadyExists, "DEVICE_TAKEN", "InvalidParameterValue", "device"}},
		{"device of that name elsewhere", asC, func(w *world, tx *Tx) error {
			other := get[*Attachment](w, KindAttachment, consumer, "clients")
			return of(onTUN, func(a *Attachment) { a.Device = other.Device })(w, tx)
		}, broken{}},
		{"bridge is the device", asC, of(onTAP, func(a *Attachment) { a.Device = a.Bridge }), broken{InvalidArgument, "BRIDGE_IS_DEVICE", "InvalidParameterCombination", "bridge.name"}},
		{"addresses on a bridge", asC, of(onTAP, func(a *Attachment) { a.Addresses = []netip.Prefix{prefix("10.0.1.77/24")} }), broken{InvalidArgument, "BRIDGE_HAS_ADDRESSES", "InvalidParameterCombination", "namespace.addresses"}},
		{"gateway without a bridge", asC, of(onTUN, func(a *Attachment) { a.Gateway = addr("10.0.1.1") }), broken{InvalidArgument, "GATEWAY_WITHOUT_BRIDGE", "InvalidParameterCombination", "bridge.gateway"}},
		{"gateway outside", asC, of(onTAP, func(a *Attachment) { a.Gateway = addr("10.0.2.1") }), invalid("bridge.gateway")},
		{"gateway at the network's address", asC, of(onTAP, func(a *Attachment) { a.Gateway = addr("10.0.1.0") }), invalid("bridge.gateway")},
		{"gateway at the broadcast address", asC, of(onTAP, func(a *Attachment) { a.Gateway = addr("10.0.1.255") }), invalid("bridge.gateway")},
		{"gateway at an ENI", asC, func(w *world, tx *Tx) error {
			return of(onTAP, func(a *Attachment) { a.Gateway = w.endpoint("web").ENIs[0].Address })(w, tx)
		}, broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "bridge.gateway"}},
		{"kernel at an ENI", asC, func(w *world, tx *Tx) error {
			return of(onTUN, func(a *Attachment) {
				a.Addresses = []netip.Prefix{netip.PrefixFrom(w.endpoint("web").ENIs[0].Address, 24)}
			})(w, tx)
		}, taken},
		{"address of IPv6", asC, of(onTUN, func(a *Attachment) { a.Addresses = []netip.Prefix{prefix("fd00::1/64")} }), invalid("namespace.addresses[0]")},
		{"empty address", asC, of(onTUN, func(a *Attachment) { a.Addresses = make([]netip.Prefix, 1) }), missing("namespace.addresses[0]")},
		{"for an interface endpoint", asC, creating(tun(consumer, "new", "a", "web")), broken{InvalidArgument, "ENDPOINT_TYPE", "InvalidParameterCombination", "endpoint"}},
		{"for an unknown endpoint", asC, creating(tun(consumer, "new", "a", "x")), gone(KindEndpoint, "endpoint")},
		{"for an endpoint elsewhere", asC, creating(tun(consumer, "new", "a2", "inspect")), broken{InvalidArgument, "ENDPOINT_IN_OTHER_SUBNET", "InvalidParameterCombination", "endpoint"}},
		{"for an endpoint on a TUN already", asC, creating(tap(consumer, "new", "a", "inspect")), broken{InvalidArgument, "ENDPOINT_ATTACHED", "InvalidParameterCombination", "endpoint"}},
		{"to another subnet", asC, updating(KindAttachment, consumer, "clients", func(a *Attachment) { a.Subnet = "b" }), immutable("subnet")},
		{"to another endpoint", asC, updating(KindAttachment, consumer, "router", func(a *Attachment) { a.Endpoint = "" }), immutable("endpoint")},
		{"deleted", asC, deleting(KindAttachment, consumer, "clients"), broken{}},
	})
	if a := get[*Attachment](w, KindAttachment, consumer, "clients"); len(a.Device) > vpc.MaxDevice || a.Device == "" {
		t.Errorf("device %q was chosen", a.Device)
	}
}

func TestRouteTableRules(t *testing.T) {
	table := func(change func(*RouteTable)) func(*world, *Tx) error {
		return creating(with(&RouteTable{Meta: meta(KindRouteTable, consumer, "more"), VPC: "main", Table: 7, Routes: []Route{{prefix("10.9.0.0/16"), "inspect"}}}, change))
	}
	w := connected(t)
	w.create(asC, w.anEndpoint("inspect-2", "firewall", "b"),
		with(tun(consumer, "router-2", "b", "inspect-2"), func(a *Attachment) { a.Netns = "/run/netns/" + consumer + "router" }))
	judge(t, w, []rule{
		{"a table", asC, table(func(*RouteTable) {}), broken{}},
		{"the main table", asC, table(func(r *RouteTable) { r.Table = 0 }), broken{}},
		{"the main table by number", asC, table(func(r *RouteTable) { r.Table = 254 }), invalid("table")},
		{"the kernel's table", asC, table(func(r *RouteTable) { r.Table = 255 }), invalid("table")},
		{"no VPC", asC, table(func(r *RouteTable) { r.VPC = "" }), missing("vpc")},
		{"route with host bits", asC, table(func(r *RouteTable) { r.Routes[0].Destination = prefix("10.9.0.1/16") }), invalid("routes[0].destination")},
		{"route without destination", asC, table(func(r *RouteTable) { r.Routes[0].Destination = netip.Prefix{} }), missing("routes[0].destination")},
		{"route twice", asC, table(func(r *RouteTable) { r.Routes = append(r.Routes, r.Routes[0]) }), broken{AlreadyExists, "ROUTE_EXISTS", "RouteAlreadyExists", "routes[1].destination"}},
		{"route without endpoint", asC, table(func(r *RouteTable) { r.Routes[0].Endpoint = "" }), missing("routes[0].endpoint")},
		{"route to an unknown endpoint", asC, table(func(r *RouteTable) { r.Routes[0].Endpoint = "x" }), gone(KindEndpoint, "routes[0].endpoint")},
		{"route to an interface endpoint", asC, table(func(r *RouteTable) { r.Routes[0].Endpoint = "web" }), broken{InvalidArgument, "ENDPOINT_TYPE", "InvalidParameterCombination", "routes[0].endpoint"}},
		{"route of another VPC", asC, func(w *world, tx *Tx) error {
			if _, err := tx.Create(aVPC(func(*VPC) {})); err != nil {
				return err
			}
			before := len(tx.Changes())
			err := table(func(r *RouteTable) { r.VPC = "other" })(w, tx)
			expect(t, err, broken{InvalidArgument, "ENDPOINT_OF_OTHER_VPC", "InvalidParameterCombination", "routes[0].endpoint"})
			if len(tx.Changes()) != before {
				t.Error("a failed operation left changes")
			}
			return nil
		}, broken{}},
		{"a kernel's route twice", asC, table(func(r *RouteTable) { r.Table, r.Routes = 100, []Route{{prefix("0.0.0.0/0"), "inspect-2"}} }), broken{AlreadyExists, "ROUTE_EXISTS", "RouteAlreadyExists", "routes"}},
		{"a kernel's route in another table", asC, table(func(r *RouteTable) { r.Routes = []Route{{prefix("0.0.0.0/0"), "inspect-2"}} }), broken{}},
		{"51 routes", asC, table(func(r *RouteTable) {
			r.Routes = nil
			for i := range 51 {
				r.Routes = append(r.Routes, Route{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16), "inspect"})
			}
		}), broken{ResourceExhausted, "QUOTA_EXCEEDED", "RouteLimitExceeded", "routes"}},
		{"deleted", asC, deleting(KindRouteTable, consumer, "routes"), broken{}},
	})
}
