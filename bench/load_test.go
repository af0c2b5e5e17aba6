// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// Connections go round all ports from one address, then from the next.
func TestSource(t *testing.T) {
	s := load(kindConnect, 40, 16)
	seen := map[string]bool{}
	for n := range uint64(160) {
		from, to := s.source(n)
		seen[fmt.Sprint(from, to)] = true
	}
	if len(seen) != 160 {
		t.Errorf("%d pairs of address and port in the first 160 connections", len(seen))
	}
	from, to := s.source(41)
	if from != clients[1].Addr() || to.Port() != servicePort+1 {
		t.Errorf("connection 41 is from %s to %s", from, to)
	}
	if again, _ := s.source(160); again != clients[0].Addr() {
		t.Errorf("connection 160 is from %s", again)
	}
}

func TestSmallPacket(t *testing.T) {
	s := inspectedLoad(kindPackets, 1)
	b := smallPacket(&s)
	p := pkttest.Decode(t, b)
	if len(b) != packetSize || p.UDP == nil || p.IP.SrcIP.String() != clients[0].Addr().String() ||
		netip.AddrPortFrom(target.Addr(), uint16(p.UDP.DstPort)) != s.Service {
		t.Errorf("the packet is %v", p.IP)
	}
	pkttest.Verify(t, b)
}

// Of several reports the newest counts; where there is none, waiting ends.
func TestNewestReport(t *testing.T) {
	fd, to := loopback(t)
	if _, err := newestReport(fd, time.Millisecond); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("without a report: %v", err)
	}
	for _, n := range []uint64{1, 64, 192} {
		if err := unix.Sendto(fd, binary.NativeEndian.AppendUint64(nil, n), 0, to); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := newestReport(fd, time.Second); n != 192 || err != nil {
		t.Errorf("newest report %d, %v; want 192", n, err)
	}
}

// A super-packet counts as what it was made of.
func TestCounter(t *testing.T) {
	fd, to := loopback(t)
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 36} { // 0: no super-packet
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size); err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, make([]byte, 10*36+5), 0, to); err != nil {
			t.Fatal(err)
		}
	}
	packets, bytes := uint64(0), uint64(0)
	for c := newCounter(fd); packets < 12; {
		p, b, err := c.receive()
		if err != nil {
			t.Fatal(err)
		}
		packets, bytes = packets+p, bytes+b
	}
	if want := uint64(2*(10*36+5) + 12*28); packets != 12 || bytes != want {
		t.Errorf("counted %d packets of %d bytes together, want 12 of %d", packets, bytes, want)
	}
}

// loopback is a UDP socket and its own address.
func loopback(t *testing.T) (fd int, to *unix.SockaddrInet4) {
	t.Helper()
	fd, err := udpSocket(0)
	if err != nil {
		t.Skipf("needs root for large socket buffers: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: name.(*unix.SockaddrInet4).Port}
}

func TestClassify(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{refused, "connection refused"},
		{fmt.Errorf("bind: %w", syscall.EADDRNOTAVAIL), "cannot assign requested address"},
		{os.ErrDeadlineExceeded, "timeout"},
		{syscall.ETIMEDOUT, "timeout"},
		{errors.New("wrong response"), "wrong response"},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("classify(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
}

func TestTally(t *testing.T) {
	tl := newTally()
	tl.fail(syscall.ECONNRESET)
	tl.success() // too late
	tl.fail(syscall.ECONNRESET)
	if err := <-tl.started; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("started with %v", err)
	}
	var m mark
	tl.sample(&m)
	if n := m.Errors["connection reset by peer"]; n != 2 {
		t.Errorf("errors %v", m.Errors)
	}
	if err := faults("client", m); err == nil || !strings.Contains(err.Error(), "2 times: connection reset") {
		t.Errorf("faults: %v", err)
	}
	if err := faults("client", mark{}); err != nil {
		t.Errorf("faults of none: %v", err)
	}
}

// header builds a PROXY protocol header with a right CRC.
func header(t *testing.T, from, to string) []byte {
	t.Helper()
	h := &proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
		SourceAddr:      net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)),
		DestinationAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to)),
	}
	tlvs := []proxyproto.TLV{
		{Type: 0xea, Value: []byte("\x01vpce-00000000000000be9")},
		{Type: proxyproto.PP2_TYPE_CRC32C, Value: make([]byte, 4)},
	}
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	sum := crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(raw[len(raw)-4:], sum)
	return raw
}

func TestReadHeader(t *testing.T) {
	good := header(t, "10.0.1.12:4711", "10.0.1.100:9003")
	bent := bytes.Clone(good)
	bent[len(bent)-1] ^= 1
	noCRC := bytes.Clone(good)
	noCRC[len(noCRC)-7] = byte(proxyproto.PP2_TYPE_NOOP)
	for _, tc := range []struct {
		name string
		raw  []byte
		want string // part of the error; empty: none
	}{
		{"good", good, ""},
		{"foreign client", header(t, "10.0.1.99:4711", "10.0.1.100:9003"), "no client"},
		{"other port", header(t, "10.0.1.12:4711", "10.0.1.100:9004"), "instead of 10.0.1.100:9003"},
		{"wrong CRC", bent, ""}, // the parser's own words
		{"no CRC", noCRC, "no CRC"},
		{"none", bytes.Repeat([]byte{0}, 300), "PROXY header"},
		{"cut short", good[:20], "read PROXY header"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, server := net.Pipe()
			defer server.Close()
			go func() {
				client.Write(tc.raw)
				client.Close()
			}()
			s := load(kindBulk, 40, 1)
			server.SetDeadline(time.Now().Add(dialLimit))
			err := readHeader(server, &s, 9003)
			switch {
			case tc.name == "good" && err != nil:
				t.Fatal(err)
			case tc.name != "good" && err == nil:
				t.Fatal("accepted")
			case tc.want != "" && !strings.Contains(err.Error(), tc.want):
				t.Fatalf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"system":   {Systems: []string{"nonesuch"}, Rounds: 1, Duration: 1, Workers: 1},
		"scenario": {Scenarios: []string{"nonesuch"}, Rounds: 1, Duration: 1, Workers: 1},
		"rounds":   {Duration: 1, Workers: 1},
		"workers":  {Rounds: 1, Duration: 1},
	} {
		if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestHelperRefusesUnknownRoles(t *testing.T) {
	if err := Helper("nonesuch", "{}", strings.NewReader(""), new(bytes.Buffer)); err == nil {
		t.Error("no error")
	}
	if err := Helper(roleClient, "{", strings.NewReader(""), new(bytes.Buffer)); err == nil {
		t.Error("no error for a broken specification")
	}
}
