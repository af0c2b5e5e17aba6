// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair is two namespaces on one cable, 10.0.0.1 and 10.0.0.2.
func pair(t *testing.T) (a, b *netns.NS) {
	a, b = netnstest.New(t), netnstest.New(t)
	must(t, netns.CreateVethPair(a, "left", b, "right", netns.PortMTU))
	must(t, netns.AddAddress(a, "left", netip.MustParsePrefix("10.0.0.1/24")))
	must(t, netns.AddAddress(b, "right", netip.MustParsePrefix("10.0.0.2/24")))
	must(t, netns.SetUp(a, "left"))
	must(t, netns.SetUp(b, "right"))
	return a, b
}

func TestLinks(t *testing.T) {
	ns, _ := pair(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	must(t, netns.CreateBridge(ns, "br", netns.PortMTU))
	must(t, netns.AddToBridge(ns, "left", "br"))
	must(t, netns.SetAlias(ns, "left", "isthmus:test:left"))
	must(t, netns.SetMAC(ns, "left", mac))
	must(t, netns.SetMTU(ns, "left", 1500))
	links, err := netns.Links(ns)
	must(t, err)
	byName := make(map[string]netns.Link)
	for _, l := range links {
		byName[l.Name] = l
	}
	left, bridge := byName["left"], byName["br"]
	if left.Kind != "veth" || left.Alias != "isthmus:test:left" || left.MTU != 1500 || left.MAC.String() != mac.String() ||
		left.Master != bridge.Index || !left.Up {
		t.Errorf("left is %+v", left)
	}
	if bridge.Kind != "bridge" || bridge.MTU != netns.PortMTU || bridge.Up {
		t.Errorf("bridge is %+v, want it down and its MTU its own whatever its members'", bridge)
	}
	for range 2 {
		must(t, netns.Delete(ns, "left"))
	}
	if err := netns.SetUp(ns, "left"); err == nil || !strings.Contains(err.Error(), "left") {
		t.Errorf("SetUp of a missing link: %v", err)
	}
	if err := netns.CreateBridge(ns, "br", 1500); !errors.Is(err, os.ErrExist) {
		t.Errorf("second bridge of the name: %v", err)
	}
}

func TestConfigurePort(t *testing.T) {
	ns := netnstest.New(t)
	openTUN := func(name string, flags uint16) {
		t.Helper()
		request, err := unix.NewIfreq(name)
		must(t, err)
		request.SetUint16(flags | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE)
		must(t, netns.Do(ns, func() error { // the descriptor belongs to the namespace it is opened in
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}))
	}
	openTUN("tun0", unix.IFF_TUN)
	openTUN("tap0", unix.IFF_TAP)
	must(t, netns.CreateBridge(ns, "br", netns.PortMTU))
	must(t, netns.SetUp(ns, "br"))

	must(t, netns.ConfigurePort(ns, "tun0", netns.PortOptions{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.5/32")},
		Routes:    netns.MainRoutes([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}),
	}))
	must(t, netns.ConfigurePort(ns, "tap0", netns.PortOptions{Bridge: "br"}))

	bridge, err := netns.LinkByName(ns, "br")
	must(t, err)
	for name, master := range map[string]int{"tun0": 0, "tap0": bridge.Index} {
		link, err := netns.LinkByName(ns, name)
		must(t, err)
		if link.MTU != netns.PortMTU || link.TxQueue != netns.PortTxQueueLen || !link.Up || link.Master != master {
			t.Errorf("%s is %+v", name, link)
		}
		if got := qdisc(t, ns, name); got != "noqueue" {
			t.Errorf("%s: root queueing discipline %q, want noqueue", name, got)
		}
	}
	if off, err := netns.ReadSysctl(ns, "net/ipv6/conf/tun0/disable_ipv6"); err == nil && off != "1" {
		t.Error("IPv6 is on")
	}
	conn, err := netns.Dial(context.Background(), ns, "udp", "10.1.2.3:53")
	must(t, err)
	defer conn.Close()
	if got := conn.LocalAddr().(*net.UDPAddr).IP.String(); got != "10.1.0.5" {
		t.Errorf("source toward the route is %s, want the port's address", got)
	}
}

// qdisc is the kind of the link's root queueing discipline.
func qdisc(t *testing.T, ns *netns.NS, name string) (kind string) {
	t.Helper()
	must(t, netns.Do(ns, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		list, err := netlink.QdiscList(link)
		for _, q := range list {
			if q.Attrs().Parent == netlink.HANDLE_ROOT {
				kind = q.Type()
			}
		}
		return err
	}))
	return kind
}

func TestDialAndListen(t *testing.T) {
	a, b := pair(t)
	listener, err := netns.Listen(b, "tcp", "10.0.0.2:80")
	must(t, err)
	defer listener.Close()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	})}
	go server.Serve(listener)
	defer server.Close()

	dialer := &netns.Dialer{NS: a, Local: netip.MustParseAddrPort("10.0.0.1:4321")}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://10.0.0.2/")
	must(t, err)
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "10.0.0.1:4321" {
		t.Errorf("the server saw %q (%v), want the local address asked for", body, err)
	}
}

func TestDialErrors(t *testing.T) {
	a, b := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	dial := func(ctx context.Context, address string) error {
		conn, err := netns.Dial(ctx, a, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(ctx, "10.0.0.2:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed port: %v", err)
	}
	if err := dial(ctx, "192.0.2.1:80"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("no route: %v", err)
	}
	if err := dial(ctx, "localhost:80"); err == nil || !strings.Contains(err.Error(), "not resolved") {
		t.Errorf("a name: %v", err)
	}
	must(t, netns.SetDown(b, "right")) // from here on nothing answers
	late, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	var timeout net.Error
	if err := dial(late, "10.0.0.2:80"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("deadline: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- dial(ctx, "10.0.0.2:80") }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPacketSockets(t *testing.T) {
	a, b := pair(t)
	server, err := netns.ListenPacket(b, "udp", "10.0.0.2:5000")
	must(t, err)
	defer server.Close()
	client, err := netns.Dial(context.Background(), a, "udp", "10.0.0.2:5000")
	must(t, err)
	defer client.Close()
	_, err = client.Write([]byte("hello"))
	must(t, err)
	must(t, server.SetReadDeadline(time.Now().Add(5*time.Second)))
	buffer := make([]byte, 16)
	n, from, err := server.ReadFrom(buffer)
	must(t, err)
	if string(buffer[:n]) != "hello" || from.String() != client.LocalAddr().String() {
		t.Errorf("got %q from %v", buffer[:n], from)
	}
}

// TestRouter sends across a third namespace, by default routes.
func TestRouter(t *testing.T) {
	a, r, b := netnstest.New(t), netnstest.New(t), netnstest.New(t)
	must(t, netns.Forward(r))
	for _, side := range []struct {
		ns            *netns.NS
		name          string
		address, gate string
	}{{a, "ra", "10.0.1.2", "10.0.1.1"}, {b, "rb", "10.0.2.2", "10.0.2.1"}} {
		must(t, netns.CreateVethPair(r, side.name, side.ns, "eth0", netns.PortMTU))
		must(t, netns.AddAddress(r, side.name, netip.MustParsePrefix(side.gate+"/24")))
		must(t, netns.AddAddress(side.ns, "eth0", netip.MustParsePrefix(side.address+"/24")))
		must(t, netns.SetUp(r, side.name))
		must(t, netns.SetUp(side.ns, "eth0"))
		must(t, netns.AddDefaultRoute(side.ns, "eth0", netip.MustParseAddr(side.gate)))
	}
	listener, err := netns.Listen(b, "tcp", ":80")
	must(t, err)
	defer listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := netns.Dial(ctx, a, "tcp", "10.0.2.2:80")
	must(t, err)
	conn.Close()
}
