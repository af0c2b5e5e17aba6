// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// families are the two address families, as indexes of inspectedClient and inspectedServer.
var families = [2]string{"ipv4", "ipv6"}

// kinds are what flows carry.
var kinds = []string{"tcp", "udp", "icmp", "gre"}

// talk has the client and the server exchange one kind of packets over one family, and compares what arrives. It returns
// how many flows that took.
func (n *inspection) talk(t *testing.T, family int, kind string) (flows int) {
	t.Helper()
	switch kind {
	case "tcp":
		return n.transfer(t, family)
	case "udp":
		n.datagrams(t, family)
	case "icmp":
		n.ping(t, family)
	case "gre":
		n.gre(t, family)
	}
	return 1
}

// serve runs the built-in HTTP server at port 80 of the server, both families.
func (n *inspection) serve() {
	n.Helper()
	listener, err := netns.Listen(n.server, "tcp", "[::]:80")
	n.must(err)
	server := &http.Server{Handler: lab.Handler("server"), ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener) // ends with ErrServerClosed
	}()
	n.Cleanup(func() {
		server.Close()
		<-done
	})
}

// page is the URL of a path on the server.
func page(family int, path string) string {
	return "http://" + netip.AddrPortFrom(inspectedServer[family].Addr(), 80).String() + path
}

// web makes HTTP requests from the client, each on a connection of its own.
func (n *inspection) web() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: (&netns.Dialer{NS: n.client}).DialContext, DisableKeepAlives: true},
		Timeout:   patience,
	}
}

// transfer sends some bytes each way over TCP and compares them. It returns how many connections that took.
func (n *inspection) transfer(t *testing.T, family int) (connections int) {
	t.Helper()
	size := load[int64](1<<20, 4<<20, 256<<20)
	for _, length := range []int64{1, 100_000, size} {
		sum := sha256.New()
		body := io.TeeReader(lab.Pattern(length), sum)
		response, err := n.web().Post(page(family, "/hash"), "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		var got lab.Digest
		err = json.NewDecoder(response.Body).Decode(&got)
		response.Body.Close()
		if want := hex.EncodeToString(sum.Sum(nil)); err != nil || got.Length != length || got.SHA256 != want {
			t.Errorf("the server received %d bytes with SHA-256 %s, sent were %d with %s (%v)", got.Length, got.SHA256, length, want, err)
		}
		if response, err = n.web().Get(page(family, fmt.Sprintf("/bytes?n=%d", length))); err != nil {
			t.Fatal(err)
		}
		back := sha256.New()
		received, err := io.Copy(back, response.Body)
		response.Body.Close()
		if received != length || !bytes.Equal(back.Sum(nil), sum.Sum(nil)) {
			t.Errorf("the client received %d bytes that are not the %d sent (%v)", received, length, err)
		}
		connections += 2
	}
	return connections
}

// payloads are what datagrams carry: short, odd, and as long as leaves room for headers of 100 bytes.
var payloads = []int{1, 2, 101, 1400, inspectedMTU - 100}

// datagrams sends UDP datagrams to a server that sends them back.
func (n *inspection) datagrams(t *testing.T, family int) {
	t.Helper()
	network := [2]string{"udp4", "udp6"}[family]
	server := n.packets(t, n.server, network, netip.AddrPortFrom(inspectedServer[family].Addr(), 7000).String())
	client := n.packets(t, n.client, network, netip.AddrPortFrom(inspectedClient[family].Addr(), 0).String())
	mirror(server)
	for i, size := range payloads {
		message := filled(size, byte(i))
		ask(t, client, server.LocalAddr(), message, message)
	}
}

// gre sends packets inside GRE (RFC 2784) to a server that sends them back, by raw sockets: there is no tunnel.
func (n *inspection) gre(t *testing.T, family int) {
	t.Helper()
	network := [2]string{"ip4:47", "ip6:47"}[family]
	from, to := inspectedClient[family].Addr(), inspectedServer[family].Addr()
	server, client := n.packets(t, n.server, network, to.String()), n.packets(t, n.client, network, from.String())
	mirror(server)
	header := []byte{0, 0, 0x08, 0x00}
	if family == 1 {
		binary.BigEndian.PutUint16(header[2:], wire.EtherTypeIPv6)
	}
	for i, size := range payloads {
		inside := pkttest.UDP(netip.AddrPortFrom(from, 1), netip.AddrPortFrom(to, 9), filled(max(size, 200)-100, byte(i)))
		message := append(bytes.Clone(header), inside...)
		ask(t, client, server.LocalAddr(), message, message)
	}
}

// ping sends echo requests, which the server's kernel answers.
func (n *inspection) ping(t *testing.T, family int) {
	t.Helper()
	network := [2]string{"ip4:1", "ip6:58"}[family]
	from, to := inspectedClient[family].Addr(), inspectedServer[family].Addr()
	client := n.packets(t, n.client, network, from.String())
	for i, size := range payloads {
		message := pkttest.ICMPEcho(from, to, 4711, uint16(i), filled(size, byte(i)))
		message = message[len(message)-size-8:] // without the IP header, which the kernel makes
		reply := bytes.Clone(message)
		reply[0] = [2]byte{0, 129}[family] // echo reply in place of request: RFC 792, RFC 4443 section 4.2
		binary.BigEndian.PutUint16(reply[2:], adjusted(binary.BigEndian.Uint16(message[2:]), message[0], reply[0]))
		ask(t, client, &net.IPAddr{IP: to.AsSlice()}, message, reply)
	}
}

// adjusted is the checksum of a message when the first of its bytes changes (RFC 1624).
func adjusted(sum uint16, from, to byte) uint16 {
	s := uint32(^sum) + uint32(^(uint16(from) << 8)) + uint32(to)<<8
	s = s&0xffff + s>>16
	s = s&0xffff + s>>16
	return ^uint16(s)
}

// packets opens a datagram or raw socket that the test closes.
func (n *inspection) packets(t *testing.T, ns *netns.NS, network, address string) net.PacketConn {
	t.Helper()
	conn, err := netns.ListenPacket(ns, network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// mirror sends back all that comes until the socket is closed.
func mirror(conn net.PacketConn) {
	go func() {
		b := make([]byte, 1<<16)
		for {
			length, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			conn.WriteTo(b[:length], from)
		}
	}()
}

// filled is size bytes of its own.
func filled(size int, seed byte) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ seed
	}
	return b
}

// ask sends a message, again after a while as nobody promises that it arrives, until its answer has come. Other answers
// to it that come first are those of a raw socket that hears everybody's.
func ask(t *testing.T, conn net.PacketConn, to net.Addr, message, answer []byte) {
	t.Helper()
	b := make([]byte, 1<<16)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := conn.WriteTo(message, to); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			length, _, err := conn.ReadFrom(b)
			if err != nil {
				break
			}
			if bytes.Equal(b[:length], answer) {
				return
			}
		}
	}
	t.Fatalf("%d bytes over %s to %s have no answer after %v", len(message), conn.LocalAddr().Network(), to, patience)
}

// held is a connection that stays: the server echoes what it sends.
type held struct {
	net.Conn
	family int
}

// hold opens such a connection.
func (n *inspection) hold(t *testing.T, family int) held {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := netns.Dial(ctx, n.client, "tcp", netip.AddrPortFrom(inspectedServer[family].Addr(), 7001).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	return held{conn, family}
}

// echoes listens for connections to hold.
func (n *inspection) echoes(t *testing.T) {
	t.Helper()
	listener, err := netns.Listen(n.server, "tcp", "[::]:7001")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
}

// hear reads an echo of text.
func (c held) hear(t *testing.T, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("%s: the echo of %q is %q (%v)", families[c.family], text, b, err)
	}
}

// say sends text.
func (c held) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}
