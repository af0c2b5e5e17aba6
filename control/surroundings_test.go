// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func TestUsesOfPorts(t *testing.T) {
	s := inspected()
	s.LoadBalancers[1].MTU = 0
	s.TargetGroups[1].Targets = append(s.TargetGroups[1].Targets, vpc.Target{Address: addr("10.0.2.41"), Port: 6081, Zone: "use1-az2"})
	near, far := s.TargetGroups[1].Targets[0].Address, s.TargetGroups[1].Targets[1].Address
	want := map[string]portUse{
		"inspection-a": {nextHop: true},
		"provider-a":   {ways: []way{{loadBalancer: "gwlb", need: 8568, targets: []netip.Addr{near}}}, targets: []netip.Addr{addr("10.0.1.31")}},
		"provider-b":   {targets: []netip.Addr{addr("10.0.2.31")}},
	}
	same := func(got map[string]portUse) bool { return reflect.DeepEqual(got, want) }
	if got := usesOf(s); !same(got) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.LoadBalancers[1].MTU, s.LoadBalancers[1].CrossZone = 1432, true
	want["provider-a"] = portUse{
		ways: []way{{loadBalancer: "gwlb", need: 1500, targets: []netip.Addr{near, far}}}, targets: want["provider-a"].targets,
	}
	if got := usesOf(s); !same(got) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNarrowError(t *testing.T) {
	e := &narrowError{loadBalancer: "gwlb", netns: "/n", link: "br", mtu: 1500, need: 8568}
	want := "load balancer gwlb: packets to its appliances have up to 8568 bytes, but link br in /n has an MTU of 1500: " +
		"raise that to 8568, or lower the limit with mtu: 1432 on the load balancer"
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
	if e.mtu = 600; strings.Contains(e.Error(), "mtu: ") {
		t.Errorf("an MTU that is not to be had is advised: %s", e)
	}
}

// TestNarrowWays looks around a TAP in a router, with an appliance on the same bridge and one behind another link, and
// around a TUN.
func TestNarrowWays(t *testing.T) {
	netnstest.RequirePrivileged(t)
	path := filepath.Join(t.TempDir(), "router")
	ns := space(t, path)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netns.CreateBridge(ns, "br0", 9001))
	must(netns.AddAddress(ns, "br0", prefix("10.0.1.1/24")))
	must(netns.SetUp(ns, "br0"))
	must(netns.CreateBridge(ns, "far0", 9001))
	must(netns.AddAddress(ns, "far0", prefix("10.0.2.1/24")))
	must(netns.SetUp(ns, "far0"))
	tap := vpc.Port{ID: "p", Kind: vpc.TAP, Netns: path, Device: "tap0", Bridge: "br0", Subnet: prefix("10.0.1.0/24"), Gateway: addr("10.0.1.1")}
	tun := vpc.Port{ID: "q", Kind: vpc.TUN, Netns: path, Device: "tun0", Addresses: []netip.Prefix{prefix("10.0.3.9/24")}}
	for _, spec := range []*vpc.Port{&tap, &tun} {
		d, err := kernel{queues: 1}.open(spec, false)
		must(err)
		defer d.port.Close()
	}
	elsewhere := tap
	elsewhere.Gateway = addr("10.0.1.254")
	for _, c := range []struct {
		name         string
		spec         *vpc.Port
		bridge, far  int
		need         int
		target, want string
	}{
		{"wide enough", &tap, 9001, 9001, 8568, "10.0.1.31", ""},
		{"just enough", &tap, 8568, 8568, 8568, "10.0.2.31", ""},
		{"a bridge", &tap, 8567, 9001, 8568, "10.0.1.31", "link br0 in " + path + " has an MTU of 8567"},
		{"a bridge, and little asked for", &tap, 1500, 9001, 1500, "10.0.1.31", ""},
		{"a route", &tap, 9001, 1500, 8568, "10.0.2.31", "the route to 10.0.2.31 by far0 in " + path + " has an MTU of 1500"},
		{"a route that is not followed", &elsewhere, 9001, 1500, 8568, "10.0.2.31", ""},
		{"no route", &tap, 9001, 1500, 8568, "192.0.2.1", ""},
		{"more than a device takes", &tap, 9500, 9500, 9002, "10.0.1.31", "link tap0 in " + path + " has an MTU of 9001"},
		{"a TUN in the appliance", &tun, 9001, 1500, 8568, "10.0.3.9", ""},
		{"a TUN in front of the appliance", &tun, 9001, 1500, 8568, "10.0.2.31", "the route to 10.0.2.31 by far0"},
	} {
		must(netns.SetMTU(ns, "br0", c.bridge))
		must(netns.SetMTU(ns, "far0", c.far))
		err := kernel{}.narrow(c.spec, []way{{loadBalancer: "gwlb", need: c.need, targets: []netip.Addr{addr(c.target)}}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if err := (kernel{}).narrow(&vpc.Port{Netns: path + "x"}, []way{{need: 8568}}); err != nil {
		t.Errorf("a namespace that is not there: %v", err)
	}
}

// TestWarnings makes a namespace as GWLB endpoints need it and breaks one thing after the other.
func TestWarnings(t *testing.T) {
	netnstest.RequirePrivileged(t)
	path := filepath.Join(t.TempDir(), "router")
	ns := space(t, path)
	set := func(name, value string) {
		t.Helper()
		if err := netns.SetSysctls(ns, netns.Sysctl{Name: name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := netns.Forward(ns); err != nil {
		t.Fatal(err)
	}
	if err := netns.CreateBridge(ns, "br0", 9001); err != nil {
		t.Fatal(err)
	}
	// The devices begin with the strictest settings; the TUN's are the daemon's to change.
	set("net/ipv4/conf/default/rp_filter", "1")
	set("net/ipv4/conf/default/send_redirects", "1")
	tun := &vpc.Port{ID: "p", Kind: vpc.TUN, Netns: path, Device: "tun0"}
	tap := &vpc.Port{ID: "q", Kind: vpc.TAP, Netns: path, Device: "tap0", Bridge: "br0"}
	d, err := kernel{queues: 1}.open(tun, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.port.Close()
	check := func(spec *vpc.Port, want ...string) {
		t.Helper()
		got := kernel{}.warnings(spec, portUse{nextHop: true})
		if len(got) != len(want) {
			t.Errorf("got %q, want %q", got, want)
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("got %q, want %q", got[i], want[i])
			}
		}
	}
	check(tun)
	check(tap)
	for _, where := range []string{"all", "tun0"} {
		for _, name := range []string{"rp_filter", "send_redirects"} {
			name = "net/ipv4/conf/" + where + "/" + name
			set(name, "1")
			check(tun, name+" is 1, so")
			set(name, "0")
		}
	}
	set("net/ipv4/conf/br0/rp_filter", "2")
	check(tap, "net/ipv4/conf/br0/rp_filter is 2, so")
	set("net/ipv4/ip_forward", "0")
	check(tun, "net/ipv4/ip_forward is 0, so what comes back from inspection is not routed on; mend it with: nsenter --net="+path+" sysctl -w net/ipv4/ip_forward=1")
	check(tap) // a switch
	set("net/ipv4/ip_forward", "1")
	if nft, err := exec.LookPath("nft"); err == nil {
		if err := netns.Do(ns, func() error {
			return exec.Command(nft, "add table ip mine; add chain ip mine post { type nat hook postrouting priority srcnat; }").Run()
		}); err == nil {
			check(tun, "(nftables chain ip mine post)")
		}
	}
	check(&vpc.Port{Netns: path + "x"})
}

// TestWarningsOfAnyPort looks around ports that have nothing to do with GWLB endpoints.
func TestWarningsOfAnyPort(t *testing.T) {
	netnstest.RequirePrivileged(t)
	path := filepath.Join(t.TempDir(), "router")
	ns := space(t, path)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netns.CreateBridge(ns, "br0", 9001))
	must(netns.AddAddress(ns, "br0", prefix("10.0.1.1/24")))
	must(netns.SetUp(ns, "br0"))
	for _, name := range []string{"one", "other"} {
		must(netns.CreateVethPair(ns, name, ns, name+"-far", 9001))
		must(netns.AddToBridge(ns, name, "br0"))
		must(netns.SetUp(ns, name))
	}
	tun := &vpc.Port{ID: "p", Kind: vpc.TUN, Netns: path, Device: "tun0"}
	tap := &vpc.Port{ID: "q", Kind: vpc.TAP, Netns: path, Device: "tap0", Bridge: "br0", Subnet: prefix("10.0.1.0/24")}
	for _, spec := range []*vpc.Port{tun, tap} {
		d, err := kernel{queues: 1}.open(spec, false)
		must(err)
		defer d.port.Close()
	}
	local, far := addr("10.0.1.1"), addr("10.0.1.31")
	check := func(spec *vpc.Port, use portUse, want ...string) {
		t.Helper()
		got := kernel{}.warnings(spec, use)
		if len(got) != len(want) {
			t.Errorf("got %q, want %q", got, want)
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) || !strings.Contains(got[i], "; mend it with: nsenter --net="+path+" ") {
				t.Errorf("got %q, want %q and its command", got[i], want[i])
			}
		}
	}
	check(tun, portUse{targets: []netip.Addr{local, addr("192.0.2.1")}}) // nothing leads to the second
	check(tun, portUse{targets: []netip.Addr{local, far}}, "net/ipv4/ip_forward is 0, so what is sent to target 10.0.1.31 goes no further")
	check(tap, portUse{targets: []netip.Addr{far}})
	must(netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv4/ip_forward", Value: "1"}))
	check(tun, portUse{targets: []netip.Addr{far}})
	must(netns.SetMTU(ns, "tun0", 1500))
	check(tun, portUse{}, "somebody gave tun0 an MTU of 1500")
	must(netns.SetMTU(ns, "one", 1500))
	must(netns.SetMTU(ns, "br0", 9001))
	check(tap, portUse{}, "bridge br0 has one with an MTU of 1500 beside other with 9001")
	must(netns.SetMTU(ns, "other", 1500))
	must(netns.SetMTU(ns, "br0", 8567))
	check(tap, portUse{})
	check(tap, portUse{ways: []way{{loadBalancer: "gwlb", need: 8568, targets: []netip.Addr{far}}}},
		"load balancer gwlb: packets to its appliances have up to 8568 bytes, but link br0")
	if on := (netns.Sysctl{Name: "net/bridge/bridge-nf-call-iptables", Value: "1"}); netns.SetSysctls(ns, on) == nil {
		if _, err := netns.ReadSysctl(ns, on.Name); err == nil {
			check(tap, portUse{}, "net/bridge/bridge-nf-call-iptables is on")
			check(tun, portUse{}, "somebody gave tun0")
		}
	}
}

// TestFewLooksAtATime has more ports than are looked around at once.
func TestFewLooksAtATime(t *testing.T) {
	k := newFakeKernel()
	k.wrong = map[string][]string{}
	a := newAttacher(k, nil, slog.New(slog.DiscardHandler))
	now := time.Now()
	for i := range 2*mostLooks + 1 {
		spec := vpc.Port{ID: fmt.Sprint("p", i), Device: fmt.Sprint("d", i)}
		k.wrong[spec.ID] = []string{"something"}
		a.ports[spec.ID] = a.attach(&spec, portUse{}, now)
	}
	for _, want := range []int{mostLooks, 2 * mostLooks, 2*mostLooks + 1, 2*mostLooks + 1} {
		a.look(now)
		warned := 0
		for _, at := range a.ports {
			warned += len(at.warnings)
		}
		if warned != want {
			t.Errorf("%d ports have been looked at, want %d", warned, want)
		}
	}
}

// TestNarrowStateIsRefused refuses a state for what is around its ports, and takes it where that is enough.
func TestNarrowStateIsRefused(t *testing.T) {
	r, e, k := newTestReconciler(t)
	k.mtu = map[string]int{"provider-a": 1500, "consumer-a": 100, "provider-b": 100} // of which only the first matters
	if err := r.put(inspected()); err == nil || !strings.Contains(err.Error(), "mtu: 1432 on the load balancer") {
		t.Fatalf("a narrow state: %v", err)
	}
	if len(k.devices) != 0 || e.applies() != 0 {
		t.Errorf("after that %d devices are there and %d states were applied", len(k.devices), e.applies())
	}
	k.transit = nil
	s := inspected()
	s.LoadBalancers[1].MTU = 1432
	put(t, r, s)
	if got := e.portIDs(); len(got) != 4 || !slices.Equal(k.transit, []string{"inspection-a"}) {
		t.Errorf("the engine uses %v, for transit were opened %v", got, k.transit)
	}
	// Ports that stay open are looked at again, and stay open.
	opened := len(k.openIDs())
	if err := r.put(inspected()); err == nil {
		t.Error("a state that asks for more passed")
	}
	if len(k.openIDs()) != opened || len(k.devices) != 4 || e.applies() != 1 {
		t.Errorf("after that %d devices are there, %d states were applied", len(k.devices), e.applies())
	}
	k.mtu = nil
	put(t, r, inspected())
	if len(k.openIDs()) != opened {
		t.Errorf("ports were opened again: %v", k.openIDs()[opened:])
	}
}

// TestNarrowPortDoesNotOpen has a namespace come after the state, too narrow at first.
func TestNarrowPortDoesNotOpen(t *testing.T) {
	r, e, k := newTestReconciler(t)
	k.spaces["/run/netns/provider"] = 0
	put(t, r, inspected())
	k.spaces["/run/netns/provider"], k.mtu = 5, map[string]int{"provider-a": 1500}
	r.checkPorts(true)
	if got := e.portIDs(); !slices.Equal(got, []string{"consumer-a", "inspection-a", "provider-b"}) {
		t.Errorf("the engine uses %v", got)
	}
	if p := r.report.Load().ports[1]; p.open || !strings.Contains(p.problem, "has an MTU of 1500") {
		t.Errorf("the narrow port is reported as %+v", p)
	}
	if len(k.devices) != 3 {
		t.Errorf("%d devices are there, want 3", len(k.devices))
	}
	s := inspected()
	s.LoadBalancers[1].MTU = 1000
	put(t, r, s)
	r.checkPorts(false) // at once
	if p := r.report.Load().ports[1]; !p.open || p.problem != "" {
		t.Errorf("with a lower limit it is reported as %+v", p)
	}
}

// TestPortBecomesNextHop opens a port again when a GWLB endpoint comes to it.
func TestPortBecomesNextHop(t *testing.T) {
	r, _, k := newTestReconciler(t)
	s := inspected()
	endpoint := s.Endpoints[1]
	s.Endpoints = s.Endpoints[:1]
	put(t, r, s)
	if len(k.transit) != 0 {
		t.Errorf("for transit were opened %v", k.transit)
	}
	s = inspected()
	put(t, r, s)
	if got := k.openIDs(); !slices.Equal(got[4:], []string{"inspection-a"}) || len(k.transit) != 1 {
		t.Errorf("opened again were %v, for transit %v", got[4:], k.transit)
	}
	s = inspected()
	s.Endpoints[1] = endpoint
	s.Endpoints[1].ID = "vpce-0123456789abcdef9"
	put(t, r, s)
	if got := k.openIDs(); len(got) != 5 {
		t.Errorf("another endpoint there opened %v again", got[5:])
	}
}

// TestWarningsAreReported has them come, change and go.
func TestWarningsAreReported(t *testing.T) {
	r, _, k := newTestReconciler(t)
	k.wrong = map[string][]string{"inspection-a": {"rp_filter is 1"}}
	put(t, r, inspected())
	reported := func() string { return fmt.Sprint(r.report.Load().ports[0].warnings, r.report.Load().ports[3].warnings) }
	if got := reported(); got != "[] [rp_filter is 1]" {
		t.Errorf("reported is %s", got)
	}
	k.wrong = nil
	r.checkPorts(false) // too early to look again
	if got := reported(); got != "[] [rp_filter is 1]" {
		t.Errorf("reported is %s", got)
	}
	r.attacher.ports["inspection-a"].lookAt = r.attacher.ports["inspection-a"].lookAt.Add(-lookAgain)
	r.checkPorts(false)
	if got := reported(); got != "[] []" {
		t.Errorf("after all was set right reported is %s", got)
	}
}
