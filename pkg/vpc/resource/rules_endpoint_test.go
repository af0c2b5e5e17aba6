// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func TestEndpointRules(t *testing.T) {
	w := connected(t)
	w.create(asC, &VPC{Meta: meta(KindVPC, consumer, "second"), CIDRs: get[*VPC](w, KindVPC, consumer, "main").CIDRs})
	second := get[*VPC](w, KindVPC, consumer, "second").DefaultSecurityGroup
	of := func(change func(*Endpoint)) func(*world, *Tx) error {
		return func(w *world, tx *Tx) error {
			return creating(with(w.anEndpoint("new", "web", "a", "b"), change))(w, tx)
		}
	}
	gateway := func(change func(*Endpoint)) func(*world, *Tx) error {
		return func(w *world, tx *Tx) error {
			return creating(with(w.anEndpoint("new", "firewall", "a"), change))(w, tx)
		}
	}
	noService := broken{NotFound, "SERVICE_NOT_FOUND", "InvalidServiceName", "service_name"}
	wrongType := broken{InvalidArgument, "ENDPOINT_TYPE", "InvalidParameterCombination", "type"}
	judge(t, w, []rule{
		{"an interface endpoint", asC, of(func(*Endpoint) {}), broken{}},
		{"an interface endpoint by type", asC, of(func(e *Endpoint) { e.Type, e.TypeOpen = vpc.Interface, false }), broken{}},
		{"a GWLB endpoint", asC, gateway(func(*Endpoint) {}), broken{}},
		{"a GWLB endpoint by type", asC, gateway(func(e *Endpoint) { e.Type, e.TypeOpen = vpc.GatewayLoadBalancer, false }), broken{}},
		{"no VPC", asC, of(func(e *Endpoint) { e.VPC = "" }), missing("vpc")},
		{"no service", asC, of(func(e *Endpoint) { e.Service = "" }), missing("service_name")},
		{"unknown service", asC, of(func(e *Endpoint) { e.Service += "0" }), noService},
		{"service by its uid alone", asC, of(func(e *Endpoint) { e.Service = e.Service[len("com.amazonaws.vpce.local-1."):] }), noService},
		{"service that does not allow it", asS, func(w *world, tx *Tx) error {
			return creating(with(w.anEndpoint("new", "web", "a"), func(e *Endpoint) { e.Account = stranger }))(w, tx)
		}, noService},
		{"service of the own account", asP, func(w *world, tx *Tx) error {
			return creating(with(w.anEndpoint("new", "web", "a"), func(e *Endpoint) { e.Account = provider }))(w, tx)
		}, broken{}},
		{"interface endpoint of a gateway", asC, gateway(func(e *Endpoint) { e.TypeOpen = false }), wrongType},
		{"GWLB endpoint of no gateway", asC, of(func(e *Endpoint) { e.Type, e.TypeOpen, e.ENIs = vpc.GatewayLoadBalancer, false, e.ENIs[:1] }), wrongType},
		{"no subnet", asC, of(func(e *Endpoint) { e.ENIs = nil }), missing("enis")},
		{"unknown subnet", asC, of(func(e *Endpoint) { e.ENIs[1].Subnet = "x" }), gone(KindSubnet, "enis[1].subnet")},
		{"two subnets in a zone", asC, of(func(e *Endpoint) { e.ENIs[1].Subnet = "a2" }), broken{InvalidArgument, "DUPLICATE_ZONE", "DuplicateSubnetsInSameZone", "enis[1].subnet"}},
		{"zone without the service", asC, of(func(e *Endpoint) { e.ENIs[1].Subnet = "c" }), broken{InvalidArgument, "ZONE_NOT_SERVED", "InvalidParameter", "enis[1].subnet"}},
		{"address chosen", asC, of(func(e *Endpoint) { e.ENIs[0].Address = addr("10.0.1.99") }), broken{}},
		{"address reserved", asC, of(func(e *Endpoint) { e.ENIs[0].Address = addr("10.0.1.1") }), broken{InvalidArgument, "ADDRESS_RESERVED", "InvalidParameterValue", "enis[0].address"}},
		{"address taken", asC, of(func(e *Endpoint) { e.ENIs[0].Address = addr("10.0.1.4") }), broken{AlreadyExists, "ADDRESS_TAKEN", "InvalidIPAddress.InUse", "enis[0].address"}},
		{"unknown security group", asC, of(func(e *Endpoint) { e.SecurityGroups = []string{"x"} }), gone(KindSecurityGroup, "security_groups[0]")},
		{"security group of another VPC", asC, of(func(e *Endpoint) { e.SecurityGroups = []string{second} }), broken{InvalidArgument, "GROUP_OF_OTHER_VPC", "InvalidParameterValue", "security_groups[0]"}},
		{"security group twice", asC, of(func(e *Endpoint) {
			e.SecurityGroups = slices.Repeat([]string{get[*VPC](w, KindVPC, consumer, "main").DefaultSecurityGroup}, 2)
		}), invalid("security_groups[1]")},
		{"GWLB endpoint in two subnets", asC, gateway(func(e *Endpoint) { e.ENIs = append(e.ENIs, SubnetAddress{Subnet: "b"}) }), broken{InvalidArgument, "ENDPOINT_ENIS", "InvalidParameterCombination", "enis"}},
		{"GWLB endpoint with a security group", asC, gateway(func(e *Endpoint) { e.SecurityGroups = []string{second} }), broken{InvalidArgument, "SECURITY_GROUPS_OF_GWLB_ENDPOINT", "InvalidParameterCombination", "security_groups"}},
		{"GWLB endpoint with routes", asC, deleting(KindEndpoint, consumer, "inspect"), inUse("ENDPOINT_HAS_ROUTES")},
		{"GWLB endpoint that is attached", asC, func(w *world, tx *Tx) error {
			if err := tx.Delete(Key{KindRouteTable, consumer, "routes"}, 0); err != nil {
				return err
			}
			expect(t, tx.Delete(Key{KindEndpoint, consumer, "inspect"}, 0), inUse("ENDPOINT_HAS_ATTACHMENT"))
			return nil
		}, broken{}},
		{"by the provider", asP, deleting(KindEndpoint, consumer, "web"), broken{PermissionDenied, "NOT_OWNER", "UnauthorizedOperation", ""}},
		{"by nobody", asS, deleting(KindEndpoint, consumer, "web"), broken{NotFound, "RESOURCE_NOT_FOUND", "InvalidVpcEndpointId.NotFound", ""}},
	})
}

func TestBandwidthRules(t *testing.T) {
	bandwidth := func(rate, burst uint64, d time.Duration) func(*world, *Tx) error {
		return func(w *world, tx *Tx) error {
			e := w.anEndpoint("new", "web", "a", "b")
			e.Bandwidth = vpc.Bandwidth{Rate: rate, Burst: burst, BurstTime: d}
			return creating(e)(w, tx)
		}
	}
	above := broken{PermissionDenied, "BANDWIDTH_ABOVE_DEFAULT", "UnauthorizedOperation", "bandwidth"}
	judge(t, connected(t), []rule{
		{"less bandwidth", asC, bandwidth(1e6, 0, 0), broken{}},
		{"the default bandwidth", asC, bandwidth(10e9, 40e9, time.Second), broken{}},
		{"more bandwidth", asC, bandwidth(11e9, 40e9, time.Second), above},
		{"more burst", asC, bandwidth(1e9, 41e9, time.Second), above},
		{"longer burst", asC, bandwidth(1e9, 2e9, time.Minute), above},
		{"more bandwidth by an operator", operator, bandwidth(100e9, 400e9, time.Minute), broken{}},
		{"burst less than the rate", asC, bandwidth(2e6, 1e6, time.Second), invalid("bandwidth.burst_bits_per_second")},
		{"burst without time", asC, bandwidth(1e6, 2e6, 0), invalid("bandwidth.burst_time")},
		{"burst without rate", asC, bandwidth(0, 1e6, time.Second), invalid("bandwidth.rate_bits_per_second")},
	})
}

func TestEndpointUpdates(t *testing.T) {
	w := connected(t)
	w.create(asC, w.anEndpoint("turned-away", "web", "a"))
	w.must(asP, func(t *Tx) error {
		_, err := t.Reject(Key{KindEndpointService, provider, "web"}, []string{w.endpoint("turned-away").UID})
		return err
	})
	web := func(change func(*Endpoint)) func(*world, *Tx) error {
		return updating(KindEndpoint, consumer, "web", change)
	}
	inspect := func(change func(*Endpoint)) func(*world, *Tx) error {
		return updating(KindEndpoint, consumer, "inspect", change)
	}
	away := func(change func(*Endpoint)) func(*world, *Tx) error {
		return updating(KindEndpoint, consumer, "turned-away", change)
	}
	state := broken{FailedPrecondition, "ENDPOINT_STATE", "IncorrectState", ""}
	judge(t, w, []rule{
		{"nothing", asC, web(func(*Endpoint) {}), broken{}},
		{"a subnet less", asC, web(func(e *Endpoint) { e.ENIs = e.ENIs[1:] }), broken{}},
		{"no subnet", asC, web(func(e *Endpoint) { e.ENIs = nil }), missing("enis")},
		{"another subnet of the zone", asC, web(func(e *Endpoint) { e.ENIs[0] = SubnetAddress{Subnet: "a2"} }), broken{}},
		{"a zone without the service", asC, web(func(e *Endpoint) { e.ENIs[0] = SubnetAddress{Subnet: "c"} }), broken{InvalidArgument, "ZONE_NOT_SERVED", "InvalidParameter", "enis[0].subnet"}},
		{"other address", asC, web(func(e *Endpoint) { e.ENIs[0].Address = addr("10.0.1.99") }), broken{InvalidArgument, "ADDRESS_IMMUTABLE", "InvalidParameterCombination", "enis[0].address"}},
		{"other VPC", asC, web(func(e *Endpoint) { e.VPC = "x" }), gone(KindVPC, "vpc")},
		{"other service", asC, web(func(e *Endpoint) { e.Service = w.endpoint("inspect").Service }), immutable("service_name")},
		{"other type", asC, web(func(e *Endpoint) { e.Type = vpc.GatewayLoadBalancer }), immutable("type")},
		{"type left out", asC, web(func(e *Endpoint) { e.TypeOpen = true }), broken{}},
		{"subnet of a GWLB endpoint", asC, inspect(func(e *Endpoint) { e.ENIs[0] = SubnetAddress{Subnet: "b"} }), immutable("enis[0].subnet")},
		{"subnet of a GWLB endpoint by uid", asC, inspect(func(e *Endpoint) {
			e.ENIs[0] = SubnetAddress{Subnet: get[*Subnet](w, KindSubnet, consumer, "a2").UID}
		}), immutable("enis[0].subnet")},
		{"the same subnet of a GWLB endpoint by uid", asC, inspect(func(e *Endpoint) {
			e.ENIs[0] = SubnetAddress{Subnet: get[*Subnet](w, KindSubnet, consumer, "a").UID}
		}), broken{}},
		{"a second subnet of a GWLB endpoint", asC, inspect(func(e *Endpoint) { e.ENIs = append(e.ENIs, SubnetAddress{Subnet: "b"}) }), broken{InvalidArgument, "ENDPOINT_ENIS", "InvalidParameterCombination", "enis"}},
		{"tags of one that was rejected", asC, away(func(e *Endpoint) { e.Tags = map[string]string{"a": "b"} }), broken{}},
		{"subnets of one that was rejected", asC, away(func(e *Endpoint) { e.ENIs[0] = SubnetAddress{Subnet: "a2"} }), state},
		{"by the provider", asP, web(func(*Endpoint) {}), broken{PermissionDenied, "NOT_OWNER", "UnauthorizedOperation", ""}},
	})
}

// TestAddressesLast checks that the addresses of subnets that stay are those that there were, and that those of subnets
// that go are free again.
func TestAddressesLast(t *testing.T) {
	w := connected(t)
	before := w.endpoint("web").ENIs
	update := func(subnets ...string) []SubnetAddress {
		w.must(asC, func(t *Tx) error {
			e := Clone(w.endpoint("web"))
			e.ENIs = nil
			for _, s := range subnets {
				e.ENIs = append(e.ENIs, SubnetAddress{Subnet: s})
			}
			_, err := t.Update(e, 0)
			return err
		})
		return w.endpoint("web").ENIs
	}
	if got := update("b", "a"); !slices.Equal(got, []SubnetAddress{before[1], before[0]}) {
		t.Errorf("turned round: %v, before %v", got, before)
	}
	if got := update("b"); !slices.Equal(got, before[1:]) {
		t.Errorf("without a: %v, before %v", got, before)
	}
	w.create(asC, w.anEndpoint("second", "web", "a"))
	if got := w.endpoint("second").ENIs[0]; got != before[0] {
		t.Errorf("the next in a is at %v, want %v", got, before[0])
	}
	if got := update("a", "b"); got[0].Address == before[0].Address || got[1] != before[1] {
		t.Errorf("with a again: %v, before %v", got, before)
	}
}

// TestAddressesRunOut fills the smallest subnet there is around addresses that are in use otherwise.
func TestAddressesRunOut(t *testing.T) {
	w := shop(t)
	w.create(asC, aSubnet(func(s *Subnet) { s.ID, s.CIDR = "small", prefix("10.0.9.16/28") }),
		tun(consumer, "clients", "small", ""),
		&SecurityGroup{Meta: meta(KindSecurityGroup, consumer, "more"), VPC: "main", Members: []netip.Prefix{prefix("10.0.9.21/32"), prefix("10.0.9.0/24")}})
	w.must(asC, func(t *Tx) error {
		a := Clone(get[*Attachment](w, KindAttachment, consumer, "clients"))
		a.Addresses = []netip.Prefix{prefix("10.0.9.24/28")}
		_, err := t.Update(a, 0)
		return err
	})
	var got []string
	for i := range 9 {
		id := string(rune('a' + i))
		w.create(asC, w.anEndpoint(id, "web", "small"))
		got = append(got, w.endpoint(id).ENIs[0].Address.String())
	}
	want := []string{"10.0.9.20", "10.0.9.22", "10.0.9.23", "10.0.9.25", "10.0.9.26", "10.0.9.27", "10.0.9.28", "10.0.9.29", "10.0.9.30"}
	if !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	err := w.try(asC, func(t *Tx) error { _, err := t.Create(w.anEndpoint("full", "web", "small")); return err })
	expect(t, err, broken{ResourceExhausted, "NO_FREE_ADDRESS", "InsufficientFreeAddressesInSubnet", "enis[0].address"})
	w.must(asC, func(t *Tx) error { return t.Delete(Key{KindEndpoint, consumer, "c"}, 0) })
	w.create(asC, w.anEndpoint("full", "web", "small"))
	if a := w.endpoint("full").ENIs[0].Address; a != addr("10.0.9.23") {
		t.Errorf("the address that became free is not given: %s", a)
	}
}
