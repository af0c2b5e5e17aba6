// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// capture keeps the IP packets that a namespace sends and receives by its TUN device from now on. What the kernel has
// not cut into segments yet is one packet.
type capture struct {
	mu      sync.Mutex
	packets []captured
}

// captured is one packet, as a copy.
type captured struct {
	wire.IPv4
	out bool // sent by the namespace, not received
}

// tcp is the packet's TCP segment, empty when it is none.
func (c captured) tcp() wire.TCP {
	if c.Protocol() != wire.ProtoTCP || len(c.IPv4) < c.HeaderLen()+wire.TCPMinLen {
		return make(wire.TCP, wire.TCPMinLen)
	}
	return wire.TCP(c.IPv4[c.HeaderLen():])
}

// payload is the length of the packet's TCP payload.
func (c captured) payload() int { return len(c.tcp()) - c.tcp().HeaderLen() }

// watch captures at the TUN device of ns until the test ends.
func watch(t testing.TB, ns *netns.NS) *capture {
	t.Helper()
	link, err := netns.LinkByName(ns, "eni0")
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	err = netns.Do(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}),
	)
	file := os.NewFile(uintptr(fd), "capture")
	if err != nil {
		file.Close()
		t.Fatal(err)
	}
	c, done := &capture{}, make(chan struct{})
	go func() {
		defer close(done)
		c.read(file)
	}()
	t.Cleanup(func() {
		file.Close()
		<-done
	})
	return c
}

// read reads until the file is closed.
func (c *capture) read(file *os.File) {
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1<<17)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), buf, 0)
			return failed != unix.EAGAIN
		})
		if err != nil || failed != nil {
			return
		}
		ip, ok := wire.ParseIPv4(append([]byte(nil), buf[:n]...))
		if !ok {
			continue
		}
		sender, _ := from.(*unix.SockaddrLinklayer)
		c.mu.Lock()
		c.packets = append(c.packets, captured{ip, sender != nil && sender.Pkttype == unix.PACKET_OUTGOING})
		c.mu.Unlock()
	}
}

// find returns the captured packets that match.
func (c *capture) find(match func(captured) bool) []captured {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []captured
	for _, p := range c.packets {
		if match(p) {
			found = append(found, p)
		}
	}
	return found
}

// await waits until a packet that matches has been captured, and returns the first.
func (c *capture) await(t testing.TB, what string, match func(captured) bool) captured {
	t.Helper()
	var found []captured
	eventually(t, 10*time.Second, func() error {
		if found = c.find(match); len(found) == 0 {
			return fmt.Errorf("no %s was captured", what)
		}
		return nil
	})
	if len(found) == 0 {
		t.FailNow()
	}
	return found[0]
}

// inject sends an IP packet from inside ns, past its TCP.
func inject(t testing.TB, ns *netns.NS, packet []byte) {
	t.Helper()
	err := netns.Do(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: wire.IPv4(packet).Dst()})
	})
	if err != nil {
		t.Fatalf("send a raw packet of %d bytes: %v", len(packet), err)
	}
}

// segment describes a TCP segment to inject.
type segment struct {
	from, to netip.AddrPort
	seq, ack uint32
	flags    uint8
	payload  int
}

// packet builds the segment's packet, with DF set and its checksums complete.
func (s segment) packet() []byte {
	const headers = wire.IPv4MinLen + wire.TCPMinLen
	b := make([]byte, headers+s.payload)
	for i := range s.payload {
		b[headers+i] = byte(i)
	}
	src, dst := s.from.Addr().As4(), s.to.Addr().As4()
	wire.IPv4(b).Init(len(b), wire.ProtoTCP, 64, src, dst)
	tcp := wire.TCP(b[wire.IPv4MinLen:])
	tcp.SetHeaderLen(wire.TCPMinLen)
	tcp.SetSrcPort(s.from.Port())
	tcp.SetDstPort(s.to.Port())
	tcp.SetSeq(s.seq)
	tcp.SetAck(s.ack)
	tcp.SetFlags(s.flags)
	tcp.SetWindow(1000)
	tcp.SetChecksum(wire.Checksum(tcp, wire.PseudoSum4(src, dst, wire.ProtoTCP, uint16(len(tcp)))))
	return b
}
