// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// openTAP makes a bridge br0 with address gateway in n, and a TAP port on it.
func openTAP(n *namespace, cfg Config, gateway string) *TAP {
	n.t.Helper()
	prefix := netip.MustParsePrefix(gateway)
	cfg.Subnet, cfg.Gateway = prefix.Masked(), prefix.Addr()
	var p *TAP
	n.do(func() (err error) {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		if p, err = OpenTAP(cfg); err != nil {
			return err
		}
		tap, err := netlink.LinkByName(cfg.Device)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(tap, br); err != nil {
			return err
		}
		for _, dev := range []string{cfg.Device, "br0"} {
			if err := n.mtu(dev, 9001); err != nil {
				return err
			}
		}
		if err := n.up(cfg.Device); err != nil {
			return err
		}
		return n.up("br0", gateway)
	})
	n.t.Cleanup(func() { p.Close() })
	return p
}

func TestTAPAnswersARPAndReceives(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			n := newNamespace(t)
			p := openTAP(n, Config{Name: "p", Device: "tap0", Disable: m.off}, "10.0.0.1/24")
			p.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.50")})
			var c *net.UDPConn
			n.do(func() (err error) {
				if c, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 50), Port: 7}); err != nil {
					return err
				}
				_, err = c.Write([]byte("hi")) // shorter than the smallest Ethernet frame
				return err
			})
			defer c.Close()
			b := receive(t, p, 0, 1)[0]
			Complete(b)
			if b.Len() != 30 || b.Via != [4]byte{10, 0, 0, 50} || !validChecksums(b.Bytes()) {
				t.Errorf("got %x via %v", b.Bytes(), b.Via)
			}
			// The asker is known now, so the answer goes out without a question.
			spec := superSpec{udp: true, payload: []byte("answer"), ttl: 64,
				src: net.IPv4(10, 0, 0, 50), dst: net.IPv4(10, 0, 0, 1)}
			reply := spec.super(t)
			h := b.Bytes()
			copy(reply.Bytes()[20:22], h[22:24])
			copy(reply.Bytes()[22:24], h[20:22])
			if p.Send(0, []*Buffer{reply}) != 1 {
				t.Error("refused")
			}
			in := make([]byte, 100)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if k, err := c.Read(in); err != nil || string(in[:k]) != "answer" {
				t.Errorf("read %q, %v; %+v", in[:k], err, p.Stats())
			}
		})
	}
}

// TestTAPAsks sends to a station that has never spoken.
func TestTAPAsks(t *testing.T) {
	n := newNamespace(t)
	p := openTAP(n, Config{Name: "p", Device: "tap0"}, "10.0.0.1/24")
	p.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.50")})
	var c *net.UDPConn
	n.do(func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5000})
		return err
	})
	defer c.Close()
	spec := superSpec{udp: true, gso: 1000, payload: bytes.Repeat([]byte("x"), 3500), ttl: 64,
		src: net.IPv4(10, 0, 0, 50), dst: net.IPv4(10, 0, 0, 1)}
	if p.Send(0, []*Buffer{spec.super(t)}) != 1 {
		t.Fatal("refused")
	}
	// The worker has to read the answer to the question.
	stop := discard(t, p)
	defer stop()
	in, got := make([]byte, 4000), 0
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for got < 3500 {
		k, err := c.Read(in)
		if err != nil {
			t.Fatal(err, p.Stats())
		}
		got += k
	}
}

// discard reads a port and throws away what it gives.
func discard(t testing.TB, p Port) (stop func()) {
	return shuttle(t, p, NewMem(MemConfig{Queues: p.Queues(), Discard: true}))
}

// TestTCPThroughTwoTAPs routes a stream through an ENI on each of two bridges: the packets' own addresses are no ENIs.
func TestTCPThroughTwoTAPs(t *testing.T) {
	for _, m := range []struct{ from, to Switches }{{}, {Switches{}, Switches{Plain: true}}} {
		a, b := newNamespace(t), newNamespace(t)
		pa := openTAP(a, Config{Name: "a", Device: "tap0", Queues: 2, Disable: m.from}, "10.0.0.1/24")
		pb := openTAP(b, Config{Name: "b", Device: "tap0", Queues: 2, Disable: m.to}, "10.0.1.1/24")
		pa.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.50")})
		pb.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.1.50")})
		a.do(func() error { return a.routeVia("10.0.1.0/24", "10.0.0.50") })
		b.do(func() error { return b.routeVia("10.0.0.0/24", "10.0.1.50") })
		stop := both(t, pa, pb)
		exchange(t, a, b, "10.0.1.1:80", 4<<20)
		stop()
		if s := pa.Stats(); s.RxInvalid != 0 || m.from == (Switches{}) && s.RxBytes/s.RxPackets < 2000 {
			t.Errorf("%+v", s)
		}
	}
}

// TestTAPForeignFrames floods the port with frames for somebody else.
func TestTAPForeignFrames(t *testing.T) {
	n := newNamespace(t)
	p := openTAP(n, Config{Name: "p", Device: "tap0"}, "10.0.0.1/24")
	p.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.50")})
	n.do(func() error {
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return netlink.NeighAdd(&netlink.Neigh{LinkIndex: br.Attrs().Index, IP: net.IPv4(10, 0, 0, 9),
			State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 9, 9, 9, 9, 9}})
	})
	n.do(func() error {
		for _, to := range []byte{9, 9, 9, 50} {
			c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 0, 0, to), Port: 7})
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte("hi")); err != nil {
				return err
			}
			c.Close()
		}
		return nil
	})
	receive(t, p, 0, 1)
	if s := p.Stats(); s.RxForeign != 3 || s.RxPackets != 1 || s.RxInvalid != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTAPDeviceRemovedAndClosed(t *testing.T) {
	n := newNamespace(t)
	p := openTAP(n, Config{Name: "p", Device: "tap0"}, "10.0.0.1/24")
	n.do(func() error {
		l, err := netlink.LinkByName("tap0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if _, err := p.Receive(0, newBuffers(1)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	p.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.50")})
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p.SetAddresses(nil)
}

func TestTAPCloseRemovesDevice(t *testing.T) {
	n := newNamespace(t)
	p := openTAP(n, Config{Name: "p", Device: "tap0", Queues: 2}, "10.0.0.1/24")
	p.Close()
	n.do(func() error {
		if _, err := netlink.LinkByName("tap0"); err == nil {
			return errors.New("a descriptor is left open: the device is still there")
		}
		return nil
	})
}

func TestOpenTAPErrors(t *testing.T) {
	for _, c := range []Config{
		{Device: "tap0"},
		{Device: "tap0", Subnet: netip.MustParsePrefix("2001:db8::/64")},
		{Device: "tap0", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
	} {
		if _, err := OpenTAP(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestTAPDoesNotAllocate(t *testing.T) {
	n := newNamespace(t)
	p := openTAP(n, Config{Name: "p", Device: "tap0"}, "10.0.0.1/24")
	p.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.50"), netip.MustParseAddr("10.0.0.51")})
	n.do(enableForwarding)
	n.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/conf/all/send_redirects", []byte("0"), 0)
	})
	// The kernel forwards what we send from one of our addresses to the other.
	spec := superSpec{gso: 1000, payload: make([]byte, 5000), ttl: 64,
		src: net.IPv4(10, 0, 0, 50), dst: net.IPv4(192, 0, 2, 1)}
	n.do(func() error { return n.routeVia("192.0.2.0/24", "10.0.0.51") })
	super := []*Buffer{spec.super(t)}
	bufs := newBuffers(8)
	p.Send(0, super)
	for receive(t, p, 0, 1)[0].Len() < 4000 { // a redirect comes first
	}
	for deadline := time.Now().Add(5 * time.Second); len(p.n.table.Load().hops) == 0 && time.Now().Before(deadline); {
		runtime.Gosched() // the packet that waited is sent before the workers learn of the hop
	}
	if a := testing.AllocsPerRun(100, func() {
		p.Send(0, super)
		if _, err := p.Receive(0, bufs); err != nil {
			t.Fatal(err)
		}
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
	if s := p.Stats(); s.RxPackets < 50 || s.RxBytes/s.RxPackets < 4000 {
		t.Errorf("%+v", s)
	}
}
