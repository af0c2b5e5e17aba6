// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// serve runs an echo server for TCP or UDP on the target.
func (b *bed) serve(network string, at netip.AddrPort) {
	b.Helper()
	if network == "udp" {
		conn, err := netns.ListenPacket(b.target, "udp", at.String())
		must(b, err)
		b.Cleanup(func() { conn.Close() })
		go func() {
			buf := make([]byte, 1<<16)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo(buf[:n], from) // the client notices
			}
		}()
		return
	}
	l, err := netns.Listen(b.target, "tcp", at.String())
	must(b, err)
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // the client notices
			}()
		}
	}()
}

// dial connects from the source within the given time.
func (b *bed) dial(network string, to netip.AddrPort, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := netns.Dial(ctx, b.source, network, to.String())
	if err == nil {
		b.Cleanup(func() { conn.Close() })
		must(b, conn.SetDeadline(time.Now().Add(within)))
	}
	return conn, err
}

// echo sends each message and wants it back.
func (b *bed) echo(network string, to netip.AddrPort, messages ...[]byte) net.Conn {
	b.Helper()
	conn, err := b.dial(network, to, patience)
	must(b, err)
	for _, m := range messages {
		_, err := conn.Write(m)
		must(b, err)
		got := make([]byte, len(m))
		_, err = io.ReadFull(conn, got)
		must(b, err)
		if !bytes.Equal(got, m) {
			b.Fatalf("%d bytes came back changed", len(m))
		}
	}
	return conn
}

// silent says whether nothing arrives for a while.
func silent(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(silence))
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// bulk sends size bytes of TCP from the source to the target and returns the rate in Gbit/s. What arrives must be what was sent.
func (b *bed) bulk(at netip.AddrPort, size int) float64 {
	b.Helper()
	l, err := netns.Listen(b.target, "tcp", at.String())
	must(b, err)
	defer l.Close()
	type result struct {
		sum uint32
		n   int64
		err error
	}
	arrived := make(chan result, 1)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			arrived <- result{err: err}
			return
		}
		defer conn.Close()
		h := crc32.New(castagnoli)
		n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{conn}, make([]byte, 1<<18))
		arrived <- result{h.Sum32(), n, err}
	}()
	conn, err := b.dial("tcp", at, time.Minute)
	must(b, err)
	chunk := make([]byte, 1<<18)
	for i := range chunk {
		chunk[i] = byte(rand.Uint32())
	}
	h := crc32.New(castagnoli)
	start := time.Now()
	for left := size; left > 0; {
		binary.BigEndian.PutUint64(chunk, uint64(left))
		n := min(left, len(chunk))
		left -= n
		h.Write(chunk[:n])
		_, err := conn.Write(chunk[:n])
		must(b, err)
	}
	must(b, conn.Close())
	r := <-arrived
	took := time.Since(start)
	must(b, r.err)
	if r.n != int64(size) || r.sum != h.Sum32() {
		b.Fatalf("%d bytes with checksum %08x arrived, %d with %08x were sent", r.n, r.sum, size, h.Sum32())
	}
	return float64(size) * 8 / took.Seconds() / 1e9
}

// listenIP opens a raw socket on a host.
func (b *bed) listenIP(ns *netns.NS, network, address string) net.PacketConn {
	b.Helper()
	conn, err := netns.ListenPacket(ns, network, address)
	must(b, err)
	b.Cleanup(func() { conn.Close() })
	must(b, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// ping sends an ICMP echo request from the source and waits for the answer.
func (b *bed) ping(to netip.Addr, seq uint16) {
	b.Helper()
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	conn := b.listenIP(b.source, network, "")
	message := []byte{request, 0, 0, 0, 0x12, 0x34, byte(seq >> 8), byte(seq), 'p', 'i', 'n', 'g'}
	binary.BigEndian.PutUint16(message[2:], checksum(message)) // of IPv6 the kernel computes it
	_, err := conn.WriteTo(message, &net.IPAddr{IP: to.AsSlice()})
	must(b, err)
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			b.Fatalf("no answer to a ping of %s: %v", to, err)
		}
		if n >= len(message) && buf[0] == reply && bytes.Equal(buf[4:n], message[4:]) {
			return
		}
	}
}

// checksum is the Internet checksum of an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
