// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/reflect/protoreflect"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// sameStates compares states; a list without items is as good as none.
var sameStates = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// reference is what ../testdata/reference.yaml says of the network load balancer.
func reference() *vpc.State {
	provider := func(zone, third string) vpc.Port {
		return vpc.Port{
			ID: "provider-" + zone, VPC: "vpc-provider", Kind: vpc.TAP, Netns: "/run/netns/provider", Device: "isthmus-" + zone,
			Bridge: "subnet-" + zone, Subnet: prefix("10.0." + third + ".0/24"), Gateway: addr("10.0." + third + ".1"),
		}
	}
	return &vpc.State{
		Revision: 7,
		HashKey:  [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		VPCs: []vpc.VPC{
			{ID: "vpc-consumer", CIDRs: []netip.Prefix{prefix("10.0.0.0/16")}},
			{ID: "vpc-provider", CIDRs: []netip.Prefix{prefix("10.0.0.0/16"), prefix("10.1.0.0/16")}},
		},
		Ports: []vpc.Port{
			{
				ID: "consumer-a", VPC: "vpc-consumer", Kind: vpc.TUN, Netns: "/run/netns/consumer-a", Device: "isthmus0",
				Addresses: []netip.Prefix{prefix("10.0.1.10/24")}, Routes: []netip.Prefix{prefix("10.0.2.0/24")},
			},
			provider("a", "1"), provider("b", "2"),
		},
		LoadBalancers: []vpc.LoadBalancer{{
			ID: "nlb", VPC: "vpc-provider",
			Nodes: []vpc.ENI{
				{Address: addr("10.0.1.20"), Zone: "use1-az1", Ports: []string{"provider-a"}},
				{Address: addr("10.0.2.20"), Zone: "use1-az2", Ports: []string{"provider-b"}},
			},
			Listeners: []vpc.Listener{{Port: 80, TargetGroup: "web", IdleTimeout: 350 * time.Second}},
		}},
		TargetGroups: []vpc.TargetGroup{{
			ID: "web", VPC: "vpc-provider", ProxyProtocol: vpc.ProxyProtocol{Enabled: true},
			HealthCheck: vpc.HealthCheck{
				Protocol: vpc.CheckHTTP, Port: 8081, Path: "/health", Interval: 10 * time.Second, Timeout: 6 * time.Second,
				HealthyThreshold: 5, UnhealthyThreshold: 2, MatchLow: 200, MatchHigh: 399,
			},
			DeregistrationDelay: 300 * time.Second, TerminateOnUnhealthy: true,
			Targets: []vpc.Target{
				{Address: addr("10.0.1.31"), Port: 8080, Zone: "use1-az1"},
				{Address: addr("10.0.2.31"), Port: 8080, Zone: "use1-az2", Draining: true},
			},
		}},
		Services: []vpc.EndpointService{{ID: "vpce-svc-0123456789abcdef0", LoadBalancers: []string{"nlb"}}},
		Endpoints: []vpc.Endpoint{{
			ID: "vpce-0123456789abcdef0", Service: "vpce-svc-0123456789abcdef0", VPC: "vpc-consumer",
			ENIs: []vpc.ENI{{Address: addr("10.0.2.5"), Zone: "use1-az1", Ports: []string{"consumer-a"}}},
		}},
		Testing: &vpc.Testing{TCPIdle: 2 * time.Second, HealthInterval: time.Second, HealthTimeout: 500 * time.Millisecond},
	}
}

const referenceFile = "../testdata/reference.yaml"

func TestReferenceFile(t *testing.T) {
	data, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	s, err := UnmarshalState(referenceFile, data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inspected(), s, sameStates); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// TestReferenceFileIsComplete fails when the schema has a field that the reference does not show.
func TestReferenceFileIsComplete(t *testing.T) {
	data, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if !strings.Contains(string(data), string(f.Name())+":") {
				t.Errorf("%s does not show %s", referenceFile, f.FullName())
			}
			if f.Message() != nil && f.Message().FullName() != durationName {
				walk(f.Message())
			}
		}
	}
	walk((&statev1.State{}).ProtoReflect().Descriptor())
}

func TestRoundTrip(t *testing.T) {
	for name, change := range map[string]func(*vpc.State){
		"reference":           func(*vpc.State) {},
		"empty":               func(s *vpc.State) { *s = vpc.State{Revision: 1} },
		"digits for a key":    func(s *vpc.State) { s.HashKey = [16]byte{0x11, 0x22} },
		"no checks":           func(s *vpc.State) { s.TargetGroups[0].HealthCheck = vpc.HealthCheck{} },
		"bare TUN":            func(s *vpc.State) { s.Ports[0].Addresses, s.Ports[0].Routes = nil, nil },
		"no gateway":          func(s *vpc.State) { s.Ports[1].Gateway = netip.Addr{} },
		"early header":        func(s *vpc.State) { s.TargetGroups[0].ProxyProtocol.Placement = vpc.FirstACK },
		"header off":          func(s *vpc.State) { s.TargetGroups[0].ProxyProtocol = vpc.ProxyProtocol{} },
		"cross zone":          func(s *vpc.State) { s.LoadBalancers[0].CrossZone = true },
		"no delay":            func(s *vpc.State) { s.TargetGroups[0].DeregistrationDelay = 0 },
		"ends at once":        func(s *vpc.State) { s.TargetGroups[0].TerminateOnDeregistration = true },
		"unhealthy goes on":   func(s *vpc.State) { s.TargetGroups[0].TerminateOnUnhealthy = false },
		"one code":            func(s *vpc.State) { s.TargetGroups[0].HealthCheck.MatchHigh = 200 },
		"fractions":           func(s *vpc.State) { s.LoadBalancers[0].Listeners[0].IdleTimeout = 61500 * time.Millisecond },
		"nothing overridden":  func(s *vpc.State) { s.Testing = &vpc.Testing{} },
		"one timer only":      func(s *vpc.State) { s.Testing = &vpc.Testing{TCPIdle: time.Second} },
		"no testing":          func(s *vpc.State) { s.Testing = nil },
		"ids that look wrong": func(s *vpc.State) { s.LoadBalancers[0].ID, s.Services[0].LoadBalancers[0] = "0x10", "0x10" },
		"TCP check": func(s *vpc.State) {
			h := &s.TargetGroups[0].HealthCheck
			h.Protocol, h.Path, h.MatchLow, h.MatchHigh = vpc.CheckTCP, "", 0, 0
		},
		"HTTPS check": func(s *vpc.State) { s.TargetGroups[0].HealthCheck.Protocol = vpc.CheckHTTPS },
	} {
		want := reference()
		change(want)
		roundTrip(t, name, want)
	}
}

// roundTrip writes a state and reads it again.
func roundTrip(t *testing.T, name string, want *vpc.State) {
	t.Helper()
	data, err := MarshalState(want)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	got, err := UnmarshalState("state.yaml", data)
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, data)
		return
	}
	if diff := cmp.Diff(want, got, sameStates); diff != "" {
		t.Errorf("%s: want -, got +:\n%s", name, diff)
	}
}

func TestMarshalRefusesWhatItCannotSay(t *testing.T) {
	s := reference()
	s.Ports[0].Kind = 9
	if _, err := MarshalState(s); err == nil {
		t.Error("an unknown kind of port passed")
	}
	s = reference()
	s.TargetGroups[0].HealthCheck.Protocol = 9
	if _, err := MarshalState(s); err == nil {
		t.Error("an unknown protocol passed")
	}
}

// TestDefaults leaves out all that can be.
func TestDefaults(t *testing.T) {
	group := func(t *testing.T, check string) *vpc.TargetGroup {
		t.Helper()
		s, err := UnmarshalState("state.yaml", []byte(`
vpcs: [{id: vpc-a, cidrs: [10.0.0.0/16]}]
ports: [{id: p, vpc_id: vpc-a, netns: /run/netns/a, device: d, tun: }]
target_groups:
  - id: web
    vpc_id: vpc-a
    `+check+`
load_balancers:
  - {id: nlb, vpc_id: vpc-a, nodes: [{zone_id: az1, address: 10.0.0.5, port_ids: [p]}], listeners: [{port: 80, target_group_id: web}]}
endpoints:
`))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.LoadBalancers[0].Listeners[0].IdleTimeout; got != 350*time.Second {
			t.Errorf("idle timeout %v, want 350s", got)
		}
		return &s.TargetGroups[0]
	}
	tcp := vpc.HealthCheck{Protocol: vpc.CheckTCP, Interval: 30 * time.Second, Timeout: 10 * time.Second, HealthyThreshold: 5, UnhealthyThreshold: 2}
	web := tcp
	web.Protocol, web.Timeout, web.Path, web.MatchLow, web.MatchHigh = vpc.CheckHTTP, 6*time.Second, "/", 200, 399
	secure := web
	secure.Protocol, secure.Timeout = vpc.CheckHTTPS, 10*time.Second
	fast := tcp
	fast.Interval, fast.Timeout = 5*time.Second, 5*time.Second
	for check, want := range map[string]vpc.HealthCheck{
		"":                                    tcp,
		"health_check:":                       tcp,
		"health_check: {protocol: http}":      web,
		"health_check: {protocol: HTTPS}":     secure,
		"health_check: {interval: 5s}":        fast,
		"health_check: {protocol: NONE}":      {},
		"health_check: {protocol: TCP }":      tcp,
		"health_check: {port: 0, path: \"\"}": tcp,
	} {
		g := group(t, check)
		if g.HealthCheck != want {
			t.Errorf("%q gives %+v, want %+v", check, g.HealthCheck, want)
		}
		if g.DeregistrationDelay != 300*time.Second || g.TerminateOnDeregistration || !g.TerminateOnUnhealthy || g.ProxyProtocol != (vpc.ProxyProtocol{}) {
			t.Errorf("%q gives the group %+v", check, g)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"", "state.yaml: is empty"},
		{"# only a comment\n", "state.yaml: is empty"},
		{"a: [", "state.yaml: yaml: line 1:"},
		{"vpcs: []\n---\nvpcs: []\n", "state.yaml:2:1: a second document"},
		{"- a\n", "state.yaml:1:1: is a list; write fields"},
		{"hello", `state.yaml:1:1: is the single value "hello"; write fields`},
		{"endpoint: []", `state.yaml:1:1: endpoint: unknown field; did you mean "endpoints"?`},
		{"endpoints:\n  - id: vpce-0123456789abcdef0\n    enis:\n      - adress: 10.0.0.1\n",
			`state.yaml:4:9: endpoints[0].enis[0].adress: unknown field; did you mean "address"?`},
		{"endpoints: [{zzzzzzzzzzz: 1}]", "endpoints[0].zzzzzzzzzzz: unknown field; there are id, service_id, vpc_id, enis"},
		{"<<: {}\n", "state.yaml:1:1: <<: unknown field"},
		{"revision: 1\nrevision: 2\n", "state.yaml:2:1: revision: is there twice"},
		{"? [a]\n: b\n", "has a list where the name of a field belongs"},
		{"revision: -1", `state.yaml:1:11: revision: "-1" is not a whole number`},
		{"revision: 18446744073709551616", "is not a whole number"},
		{"revision: [1]", "revision: is a list; write a single value"},
		{"revision:", "revision: has no value"},
		{"revision: ~", "revision: has no value"},
		{"hash_key: 00", `state.yaml:1:11: hash_key: "00" is not 32 hexadecimal digits`},
		{"hash_key: 000102030405060708090a0b0c0d0e0f00", "is not 32 hexadecimal digits"},
		{"hash_key: 000102030405060708090a0b0c0d0e0z", "is not 32 hexadecimal digits"},
		{"vpcs: 5", `state.yaml:1:7: vpcs: is the single value "5"; write a list`},
		{"vpcs: [5]", `vpcs[0]: is the single value "5"; write fields`},
		{"vpcs: [{id: {a: b}}]", "vpcs[0].id: is a group of fields; write a single value"},
		{"vpcs: [{cidrs: [10.0.0.0]}]", `state.yaml:1:17: vpcs[0].cidrs[0]: "10.0.0.0" is not a prefix`},
		{"vpcs: &x []\nports: *x\n", "state.yaml:2:8: ports: is an alias"},
		{"vpcs: [&a {id: x}, *a]\n", "vpcs[1]: is an alias"},
		{"ports: [{tun: {}, tap: {}}]", "state.yaml:1:19: ports[0].tap: cannot stand beside tun"},
		{"ports: [{tap: {gateway: 10.0.0}}]", `ports[0].tap.gateway: "10.0.0" is not an address`},
		{"load_balancers: [{cross_zone: 1}]", `load_balancers[0].cross_zone: "1" is neither true nor false`},
		{"load_balancers: [{listeners: [{port: 65536}]}]", "load_balancers[0].listeners[0].port: 65536 is not a TCP port"},
		{"load_balancers: [{listeners: [{port: http}]}]", `load_balancers[0].listeners[0].port: "http" is not a whole number`},
		{"load_balancers: [{listeners: [{idle_timeout: 350}]}]", `idle_timeout: "350" has no unit; write 350s`},
		{"load_balancers: [{listeners: [{idle_timeout: soon}]}]", `idle_timeout: "soon" is not a duration`},
		{"target_groups: [{health_check: {protocol: UDP}}]", `protocol: "UDP" is not one of TCP, HTTP, HTTPS, NONE`},
		{"target_groups: [{health_check: {matcher: ok}}]", `matcher: "ok" is not a status code`},
		{"target_groups: [{proxy_protocol_v2: {header_placement: unspecified}}]", "is not one of on_first_ack_with_payload, on_first_ack"},
		// Broken rules are found in the file as well; what is missing, where it belongs.
		{"vpcs:\n  - id: vpc-a\n    cidrs: [10.0.0.1/8]\n", "state.yaml:3:13: vpcs[0].cidrs[0]: 10.0.0.1/8 has bits set"},
		{"vpcs:\n  - id: vpc-a\n", "state.yaml:2:5: vpcs[0].cidrs: is empty"},
	} {
		_, err := UnmarshalState("state.yaml", []byte(c.yaml))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.yaml, err, c.want)
		}
	}
}

func TestManyMistakes(t *testing.T) {
	_, err := UnmarshalState("s", []byte("vpcs:\n"+strings.Repeat("  - {x: 1}\n", 50)))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxMistakes+1 || lines[maxMistakes] != "s: and 30 more" {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
	if !strings.HasPrefix(lines[0], "s:2:6: vpcs[0].x:") {
		t.Errorf("the first is %s", lines[0])
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"adress", "address", 1}, {"kitten", "sitting", 3}, {"abc", "xyz", 3}, {"abcdefghijkl", "a", 9}} {
		if got := editDistance(c.a, c.b, 9); got != c.want {
			t.Errorf("%s to %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// largeState is one of many endpoints and targets.
func largeState() *vpc.State {
	s := reference()
	s.Endpoints, s.TargetGroups[0].Targets = nil, nil
	for i := range 1000 {
		s.Endpoints = append(s.Endpoints, vpc.Endpoint{
			ID: fmt.Sprintf("vpce-%017x", i), Service: "vpce-svc-0123456789abcdef0", VPC: "vpc-consumer",
			ENIs: []vpc.ENI{{Address: netip.AddrFrom4([4]byte{10, 0, byte(100 + i>>8), byte(i)}), Zone: "use1-az1", Ports: []string{"consumer-a"}}},
		})
	}
	for i := range 10000 {
		s.TargetGroups[0].Targets = append(s.TargetGroups[0].Targets, vpc.Target{
			Address: netip.AddrFrom4([4]byte{10, 0, byte(100 + i>>8), byte(i)}), Port: 8080, Zone: "use1-az1",
		})
	}
	return s
}

func BenchmarkUnmarshalState(b *testing.B) {
	data, err := MarshalState(largeState())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := UnmarshalState("state.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzUnmarshalState looks for panics, for states that cannot be written and read again, and for empty errors. Run it with
// -fuzzminimizetime 10x: otherwise most of the time goes into making interesting inputs small.
func FuzzUnmarshalState(f *testing.F) {
	data, err := MarshalState(inspected())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("vpcs: [{id: vpc-a, cidrs: [10.0.0.0/16]}]\nports: [{id: p, vpc_id: vpc-a, netns: /n, device: d, tun: }]\n"))
	f.Add([]byte("endpoints:\n  - id: x\n    enis: [&a {}, *a]\n? [a]\n: b\n"))
	f.Add([]byte("a: &a [*a]\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := UnmarshalState("f", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if line == "" {
					t.Errorf("an empty line in %q", err)
				}
			}
			return
		}
		out, err := MarshalState(s)
		if err != nil {
			t.Fatalf("a valid state cannot be written: %v", err)
		}
		again, err := UnmarshalState("g", out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
		if diff := cmp.Diff(s, again, sameStates); diff != "" {
			t.Errorf("read -, read again +:\n%s", diff)
		}
	})
}
