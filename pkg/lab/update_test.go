// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

func TestFits(t *testing.T) {
	whole := fmt.Sprintf(routed, "{destination: 0.0.0.0/0, via: e}")
	for _, c := range []struct{ name, old, new, want string }{
		{"nothing", "", "", ""},
		{"another endpoint", "endpoints: [", "endpoints: [{name: f, service: s, vpc: v}, ", ""},
		{"what runs", "{name: i, subnet: a}", "{name: i, subnet: a, run: [{server: http}]}", ""},
		{"an address", "{name: i, subnet: a}", "{name: i, subnet: a, address: 10.0.1.9}", "vpcs have changed"},
		{"another instance", "- {name: i, subnet: a}", "- {name: i, subnet: a}\n      - {name: k, subnet: a}", "vpcs have changed"},
		{"a route", "{destination: 0.0.0.0/0,", "{destination: 198.51.100.0/24,", "route_tables have changed"},
	} {
		text := strings.Replace(whole, c.old, c.new, 1)
		err := parse(t, whole).Fits(parse(t, text))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestUpdate gives a lab that stands a second GWLB endpoint, which packets come from, and an interface endpoint.
func TestUpdate(t *testing.T) {
	netnstest.RequirePrivileged(t)
	whole := fmt.Sprintf(routed, "{destination: 0.0.0.0/0, via: e}")
	topology := parse(t, whole)
	dir := filepath.Join(t.TempDir(), topology.Name)
	gone(t, dir)
	if err := Update(topology, dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a lab that is not there: %v", err)
	}
	must(t, Up(context.Background(), topology, dir))
	next := parse(t, strings.NewReplacer(
		"load_balancers: [{", "load_balancers: [{name: n, vpc: p, listeners: [{port: 80, target_group: u}]}, {",
		"target_groups: [", "target_groups: [{name: u, targets: [{instance: fw, port: 80}]}, ",
		"services: [", "services: [{name: w, load_balancers: [n]}, ",
		"endpoints: [", "endpoints: [{name: web, service: w, vpc: v}, {name: f, service: s, vpc: v, enis: [{subnet: a}]}, ",
	).Replace(whole))
	for range 2 {
		must(t, Update(next, dir))
	}
	hosts, err := os.ReadFile(hostsFile(dir, "i"))
	must(t, err)
	if !strings.Contains(string(hosts), " web ") {
		t.Errorf("the hosts file does not have the new endpoint:\n%s", hosts)
	}
	if now, err := Open(dir); err != nil || len(now.Endpoints) != 3 {
		t.Errorf("the lab's topology is not the new one (%v)", err)
	}
	first, second := openTUN(t, space(t, dir, "v"), "vpce-e"), openTUN(t, space(t, dir, "v"), "vpce-f")
	routeTables(t, next, dir)
	from := netip.MustParseAddrPort("10.0.1.4:7777")
	_, err = listenUDP(t, dir, "i", from).WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.4:7777")))
	must(t, err)
	packet, _ := first.next(t, from.Addr())
	_, err = second.Write(packet)
	must(t, err)
	if _, ttl := first.next(t, from.Addr()); ttl != 62 {
		t.Errorf("what comes out of the new endpoint has a TTL of %d when it follows the table of its subnet, want 62", ttl)
	}
	if err := Update(parse(t, strings.Replace(whole, "10.0.2.0/24", "10.0.3.0/24", 1)), dir); err == nil || !strings.Contains(err.Error(), "take it down first") {
		t.Errorf("another subnet: %v", err)
	}
}
