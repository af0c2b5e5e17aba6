// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"
)

// minimal is the smallest topology there is.
const minimal = `
name: x
vpcs:
  - name: v
    cidr: 10.0.0.0/16
    subnets: [{name: a, zone: z1, cidr: 10.0.1.0/24}]
    instances: [{name: i, subnet: a}]
`

var netipValues = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, content string) *Topology {
	t.Helper()
	topology, err := Parse([]byte(content))
	must(t, err)
	return topology
}

// examples are the files that users are shown.
func examples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	must(t, err)
	if len(files) < 3 {
		t.Fatalf("examples are %v, want three at least", files)
	}
	return files
}

func TestParseDefaults(t *testing.T) {
	got := parse(t, minimal)
	want := &Topology{
		Name: "x",
		VPCs: []VPC{{
			Name: "v", ID: "vpc-c299113b8552b0472", Account: Consumer, CIDR: netip.MustParsePrefix("10.0.0.0/16"),
			Subnets: []Subnet{{
				Name: "a", Zone: "z1", CIDR: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1"),
			}},
			Instances: []Instance{{Name: "i", Subnet: "a", Address: netip.MustParseAddr("10.0.1.4"), MTU: 9001}},
		}},
	}
	if diff := cmp.Diff(want, got, netipValues); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name, old, new string // a change of minimal
		want           string // a part of the error
	}{
		{"nothing", minimal, "# nothing\n", "nothing in it"},
		{"two documents", "instances: [{name: i, subnet: a}]", "instances: []\n---\nname: y", "second document"},
		{"unknown field", "subnet: a}", "subnet: a, mru: 1500}", "line 7: field mru not found: there is no such field here"},
		{"unknown field at the top", "name: x", "name: x\ncolour: red", "line 3: field colour not found"},
		{"wrong type", "subnet: a}", "subnet: a, mtu: large}", "line 7: cannot unmarshal"},
		{"bad address", "subnet: a}", "subnet: a, address: 10.0.1.300}", `line 7: address "10.0.1.300"`},
		{"bad prefix", "cidr: 10.0.1.0/24", "cidr: 10.0.1.0", `line 6: cidr "10.0.1.0"`},
		{"duration without unit", "name: x", "name: x\ntesting: {idle_timeout: 5}", `line 3: "5" is not a duration`},
		{"not YAML", "name: x", "name: [x", "line"},
		{"bad name", "name: x", "name: X_1", `"X_1" is not a name`},
		{"no vpcs", minimal, "name: x", "no vpcs"},
		{"bits behind the prefix", "cidr: 10.0.1.0/24", "cidr: 10.0.1.1/24", "not a part of"},
		{"subnet outside", "cidr: 10.0.1.0/24", "cidr: 10.1.1.0/24", "not a part of"},
		{"subnet too small", "cidr: 10.0.1.0/24", "cidr: 10.0.1.0/29", "smallest subnet"},
		{"no zone", "zone: z1, ", "", "zone is missing"},
		{"no such subnet", "subnet: a}", "subnet: b}", `no subnet "b"`},
		{"instance named like its vpc", "name: i,", "name: v,", "taken by a vpc"},
		{"mtu", "subnet: a}", "subnet: a, mtu: 65535}", "out of range"},
		{"address of another subnet", "subnet: a}", "subnet: a, address: 10.0.2.4}", "not a host's"},
		{"address of the gateway", "subnet: a}", "subnet: a, address: 10.0.1.1}", "taken by the gateway"},
		{"no server", "subnet: a}", "subnet: a, run: [{server: gopher}]}", "neither a command nor a server"},
		{"two servers on a port", "subnet: a}", "subnet: a, run: [{server: http}, {server: echo, port: 80}]}", "port 80"},
		{"server and command", "subnet: a}", "subnet: a, run: [{server: http, command: [a]}]}", "write two entries"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(minimal, test.old) {
				t.Fatalf("minimal has no %q", test.old)
			}
			_, err := Parse([]byte(strings.Replace(minimal, test.old, test.new, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "lab.") {
				t.Errorf("error %v names our types", err)
			}
		})
	}
}

// TestBrokenReferences takes away, one at a time, what the examples refer to.
func TestBrokenReferences(t *testing.T) {
	whole, err := os.ReadFile("../../examples/two-zones.yaml")
	must(t, err)
	for _, change := range [][2]string{
		{"vpc: provider", "vpc: nowhere"},
		{"vpc: consumer-two", "vpc: nowhere"},
		{"target_group: web", "target_group: nowhere"},
		{"instance: web2", "instance: nowhere"},
		{"instance: web2", "instance: bob"},
		{"load_balancers: [front]", "load_balancers: [nowhere]"},
		{"service: api", "service: nowhere"},
		{"{subnet: b, address: 10.0.2.100}", "{subnet: nowhere}"},
		{"{subnet: b, address: 10.0.2.200}", "{subnet: nowhere}"},
		{"{subnet: b, address: 10.0.2.200}", "{subnet: b, address: 10.0.2.10}"},
		{"name: api-bob", "name: alice"},
		{"protocol: HTTP", "protocol: GOPHER"},
		{"{enabled: true}", "{enabled: true, header_placement: nowhere}"},
	} {
		content := strings.Replace(string(whole), change[0], change[1], 1)
		if content == string(whole) {
			t.Fatalf("the example has no %q", change[0])
		}
		if _, err := Parse([]byte(content)); err == nil {
			t.Errorf("%q instead of %q is accepted", change[1], change[0])
		}
	}
}

func TestYAMLRoundTrip(t *testing.T) {
	for _, file := range examples(t) {
		first, err := Load(file)
		must(t, err)
		must(t, first.Complete()) // once more changes nothing
		content, err := first.YAML()
		must(t, err)
		if diff := cmp.Diff(first, parse(t, string(content)), netipValues); diff != "" {
			t.Errorf("%s: written and read again:\n%s", file, diff)
		}
	}
}

// TestAddressesAreUnique fills a subnet to the last address.
func TestAddressesAreUnique(t *testing.T) {
	topology := parse(t, strings.ReplaceAll(minimal, "10.0.1.0/24", "10.0.1.0/28"))
	v := &topology.VPCs[0]
	for _, name := range []string{"b", "c", "d", "e", "f", "g", "h", "k", "l", "m"} {
		v.Instances = append(v.Instances, Instance{Name: name, Subnet: "a"})
	}
	v.Instances[3].Address = netip.MustParseAddr("10.0.1.5")
	must(t, topology.Complete())
	seen := map[netip.Addr]string{}
	for _, in := range v.Instances {
		if other, ok := seen[in.Address]; ok || !v.CIDR.Contains(in.Address) {
			t.Errorf("%s has %s, as has %q", in.Name, in.Address, other)
		}
		seen[in.Address] = in.Name
	}
	v.Instances = append(v.Instances, Instance{Name: "n", Subnet: "a"})
	if err := topology.Complete(); err == nil || !strings.Contains(err.Error(), "no address is free") {
		t.Errorf("one too many: %v", err)
	}
}

func TestDurations(t *testing.T) {
	for _, d := range []time.Duration{0, time.Millisecond, 1500 * time.Millisecond, 350 * time.Second, 100 * time.Minute} {
		topology := parse(t, minimal)
		topology.Testing = &Testing{IdleTimeout: Duration(d)}
		content, err := topology.YAML()
		must(t, err)
		if got := parse(t, string(content)).Testing.IdleTimeout; got != Duration(d) {
			t.Errorf("%v comes back as %v", d, time.Duration(got))
		}
	}
}
