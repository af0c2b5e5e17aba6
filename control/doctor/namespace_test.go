// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// routerSpace is a namespace between two links that suits Isthmus.
func routerSpace(t *testing.T) *netns.NS {
	t.Helper()
	ns := netnstest.New(t)
	must(t, netns.Forward(ns))
	for _, name := range []string{"left", "right"} {
		must(t, netns.CreateVethPair(ns, name, ns, name+"-far", netns.PortMTU))
		must(t, netns.SetUp(ns, name))
	}
	return ns
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, ns *netns.NS, name, value string) {
	t.Helper()
	must(t, netns.SetSysctls(ns, netns.Sysctl{Name: name, Value: value}))
}

// TestNamespace breaks one thing of a namespace after the other.
func TestNamespace(t *testing.T) {
	ns := routerSpace(t)
	path := ns.Path()
	look := func(gateway bool, want ...string) {
		t.Helper()
		e := &examination{Options: Options{Gateway: gateway}}
		e.namespace(path)
		if len(e.Limits) > 0 {
			t.Errorf("not looked at: %v", e.Limits)
		}
		expect(t, e.Findings, want...)
	}
	look(false)
	look(true)
	const strict, leftStrict = "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/left/rp_filter"
	set(t, ns, strict, "1")
	look(false, "nsenter --net="+path+" sysctl -w "+strict+"=2")
	look(true, "nsenter --net="+path+" sysctl -w "+strict+"=0")
	set(t, ns, strict, "0")
	set(t, ns, leftStrict, "2")
	look(false)
	look(true, leftStrict+" is 2, so")
	set(t, ns, leftStrict, "0")
	set(t, ns, "net/ipv4/conf/right/send_redirects", "1")
	look(true, "around the inspection")
	set(t, ns, "net/ipv4/conf/right/send_redirects", "0")
	set(t, ns, "net/ipv4/ip_forward", "0")
	look(false, "forwarding: net/ipv4/ip_forward is 0, so nothing is routed between the 2 links")
	look(true, "what comes back from inspection is not routed on")
	set(t, ns, "net/ipv4/ip_forward", "1")
	must(t, netns.SetMTU(ns, "left", 8567))
	look(false)
	look(true, "link left has an MTU of 8567, and gateway load balancers")
	must(t, netns.SetMTU(ns, "left", 1500))
	look(false, "ip link set dev left mtu 9001")
	must(t, netns.SetMTU(ns, "left", netns.PortMTU))

	if nft, err := exec.LookPath("nft"); err == nil {
		if netns.Do(ns, func() error {
			return exec.Command(nft, "add table ip mine; add chain ip mine post { type nat hook postrouting priority srcnat; }").Run()
		}) == nil {
			look(true, "(nftables chain ip mine post)")
			look(false)
		}
	}
}

// TestBrokenNamespace has all at once wrong, and no device to open.
func TestBrokenNamespace(t *testing.T) {
	ns := routerSpace(t)
	set(t, ns, "net/ipv4/conf/left/rp_filter", "1")
	set(t, ns, "net/ipv4/ip_forward", "0")
	must(t, netns.SetMTU(ns, "right", 1280))
	report, _ := Examine(Options{TUN: t.TempDir() + "/tun", Netns: []string{ns.Path()}})
	found := report.Findings[:0:0]
	for _, f := range report.Findings {
		if f.Check == "tun" || f.Where == ns.Path() {
			found = append(found, f)
		}
	}
	expect(t, found, "tun: ", "rp_filter: ", "forwarding: ", "mtu: ")
}

func TestNamespaceThatIsNone(t *testing.T) {
	e := &examination{}
	e.namespace(t.TempDir())
	if len(e.Limits) != 1 || len(e.Findings) > 0 {
		t.Errorf("got %v and %v", e.Limits, e.Findings)
	}
}

// TestPod looks at a namespace with one link of its own beside the daemon's: it need not forward.
func TestPod(t *testing.T) {
	ns := netnstest.New(t)
	must(t, netns.CreateVethPair(ns, "eth0", ns, "far", netns.PortMTU))
	must(t, netns.SetUp(ns, "eth0"))
	e := &examination{}
	e.namespace(ns.Path())
	expect(t, e.Findings)
	if NotForwarded(ns, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) != nil {
		t.Error("what leads nowhere is said to be kept")
	}
}

func TestPorts(t *testing.T) {
	var r Report
	r.Ports([]Port{
		{ID: "fine", Open: true},
		{ID: "gone", Problem: "no such namespace"},
		{ID: "odd", Open: true, Warnings: []string{"it is narrow; mend it with: ip link set dev x mtu 9001", "it is old"}},
	})
	r.Refused(7, "endpoints[0]: no such service")
	if len(r.Findings) != 4 || r.Findings[1].Mend != "ip link set dev x mtu 9001" || r.Findings[2].Fault != "it is old" {
		t.Errorf("got %+v", r.Findings)
	}
	expect(t, append(r.Findings[:2:2], r.Findings[3]), "the port is not open: no such namespace", "it is narrow", "revision 7 is not in force")
}

// TestPortsAreLookedAt finds what the daemon has not seen yet, and says once what it has.
func TestPortsAreLookedAt(t *testing.T) {
	ns := netnstest.New(t)
	must(t, netns.CreateBridge(ns, "br0", netns.PortMTU))
	for _, name := range []string{"device", "one", "other"} {
		must(t, netns.CreateVethPair(ns, name, ns, name+"-far", netns.PortMTU))
		must(t, netns.AddToBridge(ns, name, "br0"))
		must(t, netns.SetUp(ns, name))
	}
	p := Port{ID: "p", Open: true, Netns: ns.Path(), Device: "device"}
	look := func(want ...string) {
		t.Helper()
		var r Report
		r.Ports([]Port{p})
		expect(t, r.Findings, want...)
	}
	look()
	must(t, netns.SetMTU(ns, "device", 1400))
	look("mtu: somebody gave device an MTU of 1400")
	must(t, netns.SetMTU(ns, "other", 1500))
	look("somebody gave device", "bridge br0 has other with an MTU of 1500 beside one with 9001")
	for _, f := range p.look() {
		p.Warnings = append(p.Warnings, f.String())
	}
	look("ports: somebody gave device", "ports: bridge br0 has other")
	p.Netns = "/nowhere"
	look("ports: somebody gave device", "ports: bridge br0 has other")
}
