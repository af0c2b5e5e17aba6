// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// namespace is a network namespace that goes away with the test.
type namespace struct {
	t  testing.TB
	ns *netns.NS
}

// newNamespace makes a namespace with its loopback up.
func newNamespace(t testing.TB) *namespace {
	t.Helper()
	return &namespace{t: t, ns: netnstest.New(t)}
}

// do runs f on a thread inside the namespace and ends the test if it fails.
func (n *namespace) do(f func() error) {
	n.t.Helper()
	if err := netns.Do(n.ns, f); err != nil {
		n.t.Fatal(err)
	}
}

// up must be called inside do, as all methods that return an error.
func (n *namespace) up(dev string, addrs ...string) error {
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s: %w", dev, err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags |= unix.IFA_F_NODAD // an IPv6 address is usable at once
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("address %s on %s: %w", a, dev, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func (n *namespace) mtu(dev string, mtu int) error {
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(l, mtu)
}

func (n *namespace) route(dev, prefix string) error {
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst})
}

func (n *namespace) routeVia(prefix, gateway string) error {
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)})
}

// receive waits until the queue has given n packets, and returns them.
func receive(t testing.TB, p Port, queue, n int) []*Buffer {
	t.Helper()
	var got []*Buffer
	deadline := time.Now().Add(5 * time.Second)
	for len(got) < n {
		bufs := newBuffers(n - len(got))
		k, err := p.Receive(queue, bufs)
		if err != nil {
			t.Fatal("receive: ", err)
		}
		got = append(got, bufs[:k]...)
		if k > 0 {
			continue
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d packets of %d", len(got), n)
		}
		fds := []unix.PollFd{{Fd: int32(p.FD(queue)), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && err != unix.EINTR {
			t.Fatal("poll: ", err)
		}
	}
	return got
}

func newBuffers(n int) []*Buffer {
	bufs := make([]*Buffer, n)
	for i := range bufs {
		bufs[i] = NewBuffer()
	}
	return bufs
}

// enableForwarding turns on IPv4 forwarding in the namespace of the calling thread.
func enableForwarding() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// validChecksums says whether the checksums of a TCP or UDP packet are right. It shares no code with the package.
func validChecksums(p []byte) bool {
	sum := func(parts ...[]byte) (s uint32) {
		for _, b := range parts {
			for i, x := range b {
				s += uint32(x) << (8 * (1 - i%2))
				s = s>>16 + s&0xffff
			}
		}
		return s
	}
	if p[0]>>4 == 6 {
		length := len(p) - 40
		return sum(p[8:40], []byte{0, p[6], byte(length >> 8), byte(length)}, p[40:]) == 0xffff
	}
	l4 := int(p[0]&15) * 4
	length := len(p) - l4
	return sum(p[:l4]) == 0xffff && sum(p[12:20], []byte{0, p[9], byte(length >> 8), byte(length)}, p[l4:]) == 0xffff
}
