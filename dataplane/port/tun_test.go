// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openTUN makes a TUN device with an address in n.
func openTUN(n *namespace, cfg Config, addr string) *TUN {
	n.t.Helper()
	var p *TUN
	n.do(func() (err error) {
		if p, err = OpenTUN(cfg); err != nil {
			return err
		}
		if err = n.mtu(cfg.Device, 9001); err != nil {
			return err
		}
		return n.up(cfg.Device, addr)
	})
	n.t.Cleanup(func() { p.Close() })
	return p
}

// modes are the ways to open a port.
var modes = []struct {
	name string
	off  Switches
}{
	{"on", Switches{}},
	{"noTSO", Switches{TSO: true}},
	{"noUSO", Switches{USO: true}},
	{"off", Switches{Offloads: true}},
	{"plain", Switches{Plain: true}},
}

func TestTUNDeliversWhatTheKernelSends(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			n := newNamespace(t)
			p := openTUN(n, Config{Name: "p", Device: "tun0", Disable: m.off}, "10.0.0.1/24")
			n.do(func() error {
				c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 7})
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("hello"))
				return err
			})
			b := receive(t, p, 0, 1)[0]
			if partial := b.Flags&NeedsCsum != 0; partial != p.Offloads().Csum {
				t.Errorf("partial checksum: %v, with %+v", partial, p.Offloads())
			}
			Complete(b)
			if !bytes.HasSuffix(b.Bytes(), []byte("hello")) || b.Len() != 33 || !validChecksums(b.Bytes()) {
				t.Errorf("got %x", b.Bytes())
			}
			if s := p.Stats(); s.RxPackets != 1 || s.RxBytes != 33 || s.RxInvalid != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// TestTUNSendsToSockets writes packets of every kind to a port and reads them with sockets of the kernel.
func TestTUNSendsToSockets(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			n := newNamespace(t)
			p := openTUN(n, Config{Name: "p", Device: "tun0", Disable: m.off}, "10.0.0.1/24")
			var c *net.UDPConn
			n.do(func() (err error) {
				c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5000})
				return err
			})
			defer c.Close()
			r := rand.New(rand.NewPCG(1, 1))
			payload := make([]byte, 100*150+37) // more segments than the kernel takes at once
			for i := range payload {
				payload[i] = byte(r.Uint32())
			}
			spec := superSpec{udp: true, gso: 100, payload: payload, ttl: 64,
				src: net.IPv4(10, 0, 0, 2), dst: net.IPv4(10, 0, 0, 1)}
			short := spec
			short.payload = payload[:1037]
			tiny := spec
			tiny.payload = payload[:50]
			bufs := []*Buffer{short.super(t), tiny.super(t), spec.super(t)}
			if n := p.Send(0, bufs); n != 3 {
				t.Errorf("%d packets taken", n)
			}
			var got []byte
			b := make([]byte, 2000)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			for len(got) < 1037+50+len(payload) {
				k, err := c.Read(b)
				if err != nil {
					t.Fatalf("after %d bytes: %v (%+v)", len(got), err, p.Stats())
				}
				if k > 100 {
					t.Fatalf("datagram of %d bytes", k)
				}
				got = append(got, b[:k]...)
			}
			if want := append(append(bytes.Clone(short.payload), tiny.payload...), payload...); !bytes.Equal(got, want) {
				t.Error("payload differs")
			}
			s := p.Stats()
			if want := uint64(1); p.Offloads().USO && s.Segmented != want || !p.Offloads().USO && s.Segmented != 2 {
				t.Errorf("stats %+v with %+v", s, p.Offloads())
			}
		})
	}
}

// shuttle carries packets from one port to another, one goroutine per queue, until it is stopped.
func shuttle(t testing.TB, from, to Port) (stop func()) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	var pollers []*Poller
	for q := range from.Queues() {
		poller, err := NewPoller()
		if err != nil {
			t.Fatal(err)
		}
		if err := poller.Add(from.FD(q), 1); err != nil {
			t.Fatal(err)
		}
		pollers = append(pollers, poller)
		wg.Go(func() {
			bufs, ready := newBuffers(32), make([]uint32, 1)
			for {
				select {
				case <-done:
					return
				default:
				}
				k, err := from.Receive(q, bufs)
				if err != nil {
					return
				}
				to.Send(q, bufs[:k])
				if k == 0 {
					poller.Wait(time.Second, ready)
				}
			}
		})
	}
	return func() {
		close(done)
		for _, p := range pollers {
			p.Wake()
		}
		wg.Wait()
		for _, p := range pollers {
			p.Close()
		}
	}
}

// both shuttles between two ports.
func both(t testing.TB, a, b Port) (stop func()) {
	there, back := shuttle(t, a, b), shuttle(t, b, a)
	return func() {
		there()
		back()
	}
}

// TestTCPThroughTwoPorts sends a stream through two devices of all combinations of offloads, both ways at once.
func TestTCPThroughTwoPorts(t *testing.T) {
	for _, from := range modes {
		for _, to := range modes {
			t.Run(from.name+"/"+to.name, func(t *testing.T) {
				a, b := newNamespace(t), newNamespace(t)
				pa := openTUN(a, Config{Name: "a", Device: "tun0", Queues: 2, Disable: from.off}, "10.0.0.1/24")
				pb := openTUN(b, Config{Name: "b", Device: "tun0", Queues: 2, Disable: to.off}, "10.0.1.1/24")
				a.do(func() error { return a.route("tun0", "10.0.1.0/24") })
				b.do(func() error { return b.route("tun0", "10.0.0.0/24") })
				defer both(t, pa, pb)()
				exchange(t, a, b, "10.0.1.1:80", 4<<20)
				sa, sb := pa.Stats(), pb.Stats()
				if sa.RxInvalid+sb.RxInvalid != 0 {
					t.Errorf("invalid packets: %+v %+v", sa, sb)
				}
				if pa.Offloads().TSO && sa.RxBytes/sa.RxPackets < 2000 {
					t.Errorf("no super-packets read: %+v", sa)
				}
			})
		}
	}
}

// exchange opens a connection from a to addr in b, sends size bytes both ways at once and compares them.
func exchange(t testing.TB, a, b *namespace, addr string, size int) {
	t.Helper()
	var l net.Listener
	b.do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	defer l.Close()
	sums := make(chan [32]byte, 2)
	errs := make(chan error, 4)
	pump := func(c net.Conn, seed byte) {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{seed}).Read(data)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		go func() {
			_, err := c.Write(data)
			errs <- err
		}()
		in := make([]byte, size)
		_, err := io.ReadFull(c, in)
		errs <- err
		other := make([]byte, size)
		rand.NewChaCha8([32]byte{1 - seed}).Read(other)
		if !bytes.Equal(in, other) {
			errs <- fmt.Errorf("side %d: stream differs, %x", seed, sha256.Sum256(in))
		}
		sums <- sha256.Sum256(in)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			errs <- err
			return
		}
		accepted <- c
		pump(c, 1)
	}()
	var c net.Conn
	a.do(func() (err error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		c, err = d.Dial("tcp", addr)
		return err
	})
	defer c.Close()
	go pump(c, 0)
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	<-sums
	<-sums
	(<-accepted).Close()
}

// TestIPv6ThroughTwoPorts is TestTCPThroughTwoPorts with the other family, from a port that hands up super-packets to
// one that takes them and to one that does not.
func TestIPv6ThroughTwoPorts(t *testing.T) {
	for _, to := range []Switches{{}, {Plain: true}} {
		a, b := newNamespace(t), newNamespace(t)
		pa := openTUN(a, Config{Name: "a", Device: "tun0"}, "10.0.0.1/24")
		pb := openTUN(b, Config{Name: "b", Device: "tun0", Disable: to}, "10.0.1.1/24")
		for n, side := range map[*namespace][2]string{a: {"fd00:1::1/64", "fd00:2::/64"}, b: {"fd00:2::1/64", "fd00:1::/64"}} {
			n.do(func() error {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/tun0/disable_ipv6", []byte("0"), 0); err != nil {
					return err
				}
				if err := n.up("tun0", side[0]); err != nil {
					return err
				}
				return n.route("tun0", side[1])
			})
		}
		stop := both(t, pa, pb)
		exchange(t, a, b, "[fd00:2::1]:80", 2<<20)
		stop()
		sa, sb := pa.Stats(), pb.Stats()
		if sa.RxInvalid+sb.RxInvalid != 0 || sa.RxBytes/sa.RxPackets < 2000 || (sb.Segmented > 0) != to.Plain {
			t.Errorf("%+v %+v", sa, sb)
		}
	}
}

func TestTUNDeviceRemoved(t *testing.T) {
	n := newNamespace(t)
	p := openTUN(n, Config{Name: "p", Device: "tun0", Queues: 2}, "10.0.0.1/24")
	poller, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer poller.Close()
	if err := poller.Add(p.FD(1), 9); err != nil {
		t.Fatal(err)
	}
	n.do(func() error {
		l, err := netlink.LinkByName("tun0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	ready := make([]uint32, 4)
	if k := poller.Wait(5*time.Second, ready); k != 1 || ready[0] != 9 {
		t.Fatalf("removal does not wake the poller: %d %v", k, ready)
	}
	bufs := newBuffers(2)
	for q := range 2 {
		if k, err := p.Receive(q, bufs); k != 0 || !errors.Is(err, ErrClosed) {
			t.Errorf("queue %d: Receive gives %d, %v", q, k, err)
		}
		if k := p.Send(q, bufs); k != 0 {
			t.Errorf("queue %d: Send takes %d", q, k)
		}
	}
	if s := p.Stats(); s.TxRefused != 4 {
		t.Errorf("stats %+v", s)
	}
}

func TestTUNCloseTwiceAndAfterwards(t *testing.T) {
	n := newNamespace(t)
	p := openTUN(n, Config{Name: "p", Device: "tun0"}, "10.0.0.1/24")
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Receive(0, newBuffers(1)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if p.Send(0, newBuffers(1)) != 0 || p.FD(0) != -1 {
		t.Fatal("closed port works")
	}
}

func TestOpenTUNErrors(t *testing.T) {
	n := newNamespace(t)
	openTUN(n, Config{Name: "p", Device: "tun0"}, "10.0.0.1/24")
	for _, c := range []struct {
		name string
		cfg  Config
		want error
	}{
		{"exists", Config{Device: "tun0"}, unix.EBUSY},
		{"exists, several queues", Config{Device: "tun0", Queues: 2}, unix.EBUSY},
		{"exists, plain", Config{Device: "tun0", Disable: Switches{Plain: true}}, unix.EBUSY},
		{"no name", Config{}, nil},
		{"long name", Config{Device: "abcdefghijklmnop"}, nil},
		{"negative queues", Config{Device: "tun1", Queues: -1}, nil},
	} {
		n.do(func() error {
			p, err := OpenTUN(c.cfg)
			if err == nil {
				p.Close()
				return fmt.Errorf("%s: no error", c.name)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
}

func TestTUNDoesNotAllocate(t *testing.T) {
	n := newNamespace(t)
	p := openTUN(n, Config{Name: "p", Device: "tun0"}, "10.0.0.1/24")
	// Packets from the port to an address routed back into it: the kernel forwards each to us.
	n.do(func() error { return enableForwarding() })
	spec := superSpec{gso: 1000, payload: make([]byte, 5000), ttl: 64,
		src: net.IPv4(10, 0, 0, 2), dst: net.IPv4(10, 0, 0, 3)}
	super := []*Buffer{spec.super(t)}
	bufs := newBuffers(4)
	if a := testing.AllocsPerRun(100, func() {
		p.Send(0, super)
		if k, err := p.Receive(0, bufs); k < 1 || err != nil {
			t.Fatal(k, err)
		}
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
}
