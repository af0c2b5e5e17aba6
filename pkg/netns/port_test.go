// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// openTUN makes a TUN device in ns, and returns what reads its packets.
func openTUN(t *testing.T, ns *netns.NS, name string) *os.File {
	t.Helper()
	request, err := unix.NewIfreq(name)
	must(t, err)
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	var fd int
	must(t, netns.Do(ns, func() (err error) {
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}))
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	return file
}

// TestTransitPort makes a port in a router of both families, which had joined the group of all routers for it, and takes
// a packet of each family out of it. Nothing else comes.
func TestTransitPort(t *testing.T) {
	ns := netnstest.New(t)
	router := func(on string) {
		must(t, netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv6/conf/all/forwarding", Value: on}, netns.Sysctl{Name: "net/ipv4/ip_forward", Value: on}))
	}
	router("1")
	if _, err := netns.ReadSysctl(ns, "net/ipv6/conf/all/forwarding"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	must(t, netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv6/conf/lo/disable_ipv6", Value: "0"}))
	must(t, netns.AddAddress(ns, "lo", netip.MustParsePrefix("10.9.0.1/32")))
	must(t, netns.AddAddress(ns, "lo", netip.MustParsePrefix("fd00:9::1/128")))
	tun := openTUN(t, ns, "tun0")
	must(t, netns.ConfigurePort(ns, "tun0", netns.PortOptions{
		Routes: []netns.PortRoute{{Destination: netip.MustParsePrefix("10.1.0.0/16")}, {Destination: netip.MustParsePrefix("fd00:1::/64")}}, Transit: true,
	}))
	router("0")
	router("1")
	for name, want := range map[string]string{
		"net/ipv4/conf/tun0/rp_filter": "0", "net/ipv4/conf/tun0/send_redirects": "0", "net/ipv6/conf/tun0/disable_ipv6": "0",
		"net/ipv6/conf/tun0/addr_gen_mode": "1", "net/ipv6/conf/tun0/accept_ra": "0", "net/ipv6/conf/tun0/autoconf": "0",
	} {
		if got, err := netns.ReadSysctl(ns, name); got != want {
			t.Errorf("%s is %q, want %s (%v)", name, got, want, err)
		}
	}
	if groups := groupsOf(t, ns, "tun0"); len(groups) != 2 {
		t.Errorf("tun0 is in the groups %v; want those of all nodes of the interface and of the link, which are not reported", groups)
	}
	for _, to := range []string{"10.1.2.3:53", "[fd00:1::3]:53"} {
		conn, err := netns.Dial(context.Background(), ns, "udp", to)
		must(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte("first"))
		must(t, err)
		b := make([]byte, 2000)
		n, err := tun.Read(b)
		must(t, err)
		if !bytes.HasSuffix(b[:n], []byte("first")) {
			t.Errorf("before the datagram to %s came %x", to, b[:n])
		}
	}
}

// groupsOf lists the IPv6 multicast groups of a link.
func groupsOf(t *testing.T, ns *netns.NS, link string) (groups []string) {
	t.Helper()
	must(t, netns.Do(ns, func() error {
		content, err := os.ReadFile("/proc/thread-self/net/igmp6")
		for line := range strings.Lines(string(content)) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == link {
				groups = append(groups, f[2])
			}
		}
		return err
	}))
	return groups
}

// TestPortRoutes changes the routes of a port in two tables, beside one that is another's.
func TestPortRoutes(t *testing.T) {
	ns := netnstest.New(t)
	openTUN(t, ns, "tun0")
	prefix := netip.MustParsePrefix
	must(t, netns.ConfigurePort(ns, "tun0", netns.PortOptions{Routes: []netns.PortRoute{
		{Destination: prefix("10.1.0.1/16")}, {Destination: prefix("10.2.0.0/16"), Table: 100},
	}}))
	must(t, netns.SetRoute(ns, netns.Route{Destination: prefix("10.9.0.0/16"), Link: "tun0"}))
	check := func(want map[string]string) {
		t.Helper()
		for _, table := range []string{"main", "100"} {
			if got := routesThrough(t, ns, table); got != want[table] {
				t.Errorf("table %s has %q, want %q", table, got, want[table])
			}
		}
	}
	check(map[string]string{"main": "10.1.0.0/16 10.9.0.0/16", "100": "10.2.0.0/16"})
	must(t, netns.SetPortRoutes(ns, "tun0", []netns.PortRoute{
		{Destination: prefix("10.2.0.0/16"), Table: 100}, {Destination: prefix("10.3.0.0/16"), Table: 100}, {Destination: prefix("10.4.0.7/32")},
		{Destination: prefix("0.0.0.0/0"), Table: 100},
	}))
	check(map[string]string{"main": "10.4.0.7 10.9.0.0/16", "100": "10.2.0.0/16 10.3.0.0/16 default"})
	must(t, netns.SetPortRoutes(ns, "tun0", nil))
	check(map[string]string{"main": "10.9.0.0/16", "100": ""})
	if err := netns.SetPortRoutes(ns, "tun7", nil); err == nil || !strings.Contains(err.Error(), "tun7") {
		t.Errorf("a device that is not there: %v", err)
	}
}

// routesThrough asks ip for the destinations that a table has.
func routesThrough(t *testing.T, ns *netns.NS, table string) string {
	t.Helper()
	var out []byte
	must(t, netns.Do(ns, func() (err error) {
		out, err = exec.Command("ip", "-4", "route", "show", "table", table).Output()
		return err
	}))
	var destinations []string
	for line := range strings.Lines(string(out)) {
		destinations = append(destinations, strings.Fields(line)[0])
	}
	slices.Sort(destinations)
	return strings.Join(destinations, " ")
}
