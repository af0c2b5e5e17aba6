// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// TestFastOpen connects with data in the SYN, which only reaches a target without PROXY protocol header: that has to come
// first.
func TestFastOpen(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxy %v", proxy), func(t *testing.T) {
			b := newBed(t, options{services: []service{{goPort, vpc.ProxyProtocol{Enabled: proxy}}}})
			// On for clients, for servers, and for listeners that do not ask for it.
			setting := netns.Sysctl{Name: "net/ipv4/tcp_fastopen", Value: "1027"}
			if err := errors.Join(netns.SetSysctls(b.consumer, setting), netns.SetSysctls(b.provider, setting)); err != nil {
				t.Fatal(err)
			}
			l := b.listen(goPort)
			before := b.counters()
			for range 5 { // the first only fetches the cookie
				b.fastOpen(l, proxy)
			}
			_, passive := b.counters().since(before, "TcpExtTCPFastOpenPassive")
			if want := map[bool]uint64{false: 4, true: 0}[proxy]; passive != want {
				t.Errorf("the target took data in %d SYNs, want %d", passive, want)
			}
			b.quiet()
			b.unmoved(before, corrupt...)
		})
	}
}

// fastOpen connects with data in the SYN, if the client has a cookie, and has it echoed.
func (b *bed) fastOpen(l net.Listener, proxy bool) {
	b.Helper()
	c := b.dialRaw(unix.IPPROTO_TCP, func(fd int, to unix.Sockaddr) error {
		return unix.Sendto(fd, []byte(firstBytes), unix.MSG_FASTOPEN, to)
	})
	defer c.Close()
	b.echoed(l, c, proxy)
}

const firstBytes = "first bytes"

// echoed has the server send back what the client has said first, behind the PROXY protocol header if it gets one.
func (b *bed) echoed(l net.Listener, c net.Conn, proxy bool) {
	b.Helper()
	var server net.Conn = b.accept(l)
	defer server.Close()
	if proxy {
		header := make([]byte, 100)
		if _, err := io.ReadFull(server, header); err != nil || string(header[:len(proxySignature)]) != string(proxySignature) {
			b.Fatalf("the target received %q and %v instead of the header", header, err)
		}
	}
	if _, err := io.CopyN(server, server, int64(len(firstBytes))); err != nil {
		b.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, len(firstBytes))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != firstBytes {
		b.Errorf("the echo of %q is %q, %v", firstBytes, got, err)
	}
}

// dialRaw makes a blocking socket inside the consumer, and a connection of it once it is connected.
func (b *bed) dialRaw(protocol int, connect func(fd int, to unix.Sockaddr) error) net.Conn {
	b.Helper()
	var fd int
	err := netns.Do(b.consumer, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
		return err
	})
	if err != nil {
		b.Skipf("this kernel has not the protocol %d: %v", protocol, err)
	}
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close()
	if err := connect(fd, &unix.SockaddrInet4{Addr: eniAddr.As4(), Port: goPort}); err != nil {
		b.Fatal(err)
	}
	c, err := net.FileConn(file)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// TestMultipath connects with MPTCP, which is plain TCP behind a PROXY protocol header.
func TestMultipath(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxy %v", proxy), func(t *testing.T) {
			b := newBed(t, options{services: []service{{goPort, vpc.ProxyProtocol{Enabled: proxy}}}})
			l := b.listenMultipath(goPort)
			before := b.counters()
			c := b.dialRaw(unix.IPPROTO_MPTCP, unix.Connect)
			if _, err := io.WriteString(c, firstBytes); err != nil {
				t.Fatal(err)
			}
			b.echoed(l, c, proxy)
			c.Close()
			_, passive := b.counters().since(before, "MPTcpExtMPCapableSYNRX")
			if want := map[bool]uint64{false: 1, true: 0}[proxy]; passive != want {
				t.Errorf("the target took %d connections of MPTCP, want %d", passive, want)
			}
		})
	}
}

func (b *bed) listenMultipath(port uint16) net.Listener {
	b.Helper()
	var l net.Listener
	err := netns.Do(b.provider, func() (err error) {
		config := net.ListenConfig{}
		config.SetMultipathTCP(true)
		l, err = config.Listen(context.Background(), "tcp4", fmt.Sprint("0.0.0.0:", port))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// TestSamePortAgain connects from the same port again and again, each time as soon as the connection before is gone.
func TestSamePortAgain(t *testing.T) {
	b := newBed(t, options{services: []service{plainService}})
	b.each(plainPort, echoesOnce)
	before := b.counters()
	d := netns.Dialer{NS: b.consumer, Local: netip.AddrPortFrom(b.client, 40_000)}
	for i := range load(50, 300, 5000) {
		var c net.Conn
		eventually(t, patience, func() (err error) { // until the last ACK has come, the port is taken
			c, err = d.DialContext(t.Context(), "tcp4", endpoint(plainPort))
			return err
		})
		if c == nil {
			t.FailNow()
		}
		if err := echo(c, c, fmt.Sprint("connection ", i)); err != nil {
			t.Error(err)
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			t.Errorf("%d bytes and %v behind the echo", n, err)
		}
		c.Close()
	}
	b.quiet()
	b.unmoved(before, corrupt...)
	b.unmoved(before, "TcpOutRsts", "TcpEstabResets")
	if f := b.daemon.Stats().Flows; f.OwnResets+f.ClientResets+f.TargetResets != 0 {
		t.Errorf("there were resets: %+v", f)
	}
}
