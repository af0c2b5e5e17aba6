// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

const testEndpoint = "vpce-0123456789abcdef0"

// mapped is an address in the 16-byte form that the dataplane keeps.
func mapped(s string) [16]byte { return netip.MustParseAddr(s).As16() }

// proxyVectors are headers written by an independent script, without their zero padding.
var proxyVectors = []struct {
	name     string
	put      func(dst []byte) int
	want     string
	wantSize int
}{
	{
		"IPv4",
		func(dst []byte) int {
			return PutProxyV2(dst, mapped("10.0.3.7"), mapped("10.0.9.9"), 45678, 80, testEndpoint)
		},
		`0d0a0d0a000d0a515549540a 21 11 0054 0a000307 0a000909 b26e 0050 03 0004 42a7aff5
		ea 0017 01 767063652d3031323334353637383961626364656630 04 0024`,
		ProxyV2IPv4Len,
	},
	{
		"IPv6",
		func(dst []byte) int {
			return PutProxyV2(dst, mapped("2001:db8::7"), mapped("2001:db8::9"), 45678, 80, testEndpoint)
		},
		`0d0a0d0a000d0a515549540a 21 21 006c 20010db8000000000000000000000007 20010db8000000000000000000000009 b26e 0050
		03 0004 7d881465 ea 0017 01 767063652d3031323334353637383961626364656630 04 0024`,
		ProxyV2IPv6Len,
	},
	{
		"LOCAL", PutProxyV2Local,
		`0d0a0d0a000d0a515549540a 20 11 0054 03 0004 bce5951f 04 004a`,
		ProxyV2IPv4Len,
	},
}

func TestProxyV2Vectors(t *testing.T) {
	for _, c := range proxyVectors {
		t.Run(c.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.Join(strings.Fields(c.want), ""))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, make([]byte, c.wantSize-len(want))...)
			got := bytes.Repeat([]byte{0xee}, 130)
			n := c.put(got)
			if n != c.wantSize || !bytes.Equal(got[:n], want) {
				t.Errorf("%d bytes\nwant % x\n got % x", n, want, got[:n])
			}
			if rest := got[n:]; !bytes.Equal(rest, bytes.Repeat([]byte{0xee}, len(rest))) {
				t.Errorf("bytes behind the header were written: % x", rest)
			}
		})
	}
}

func TestProxyV2EndpointLength(t *testing.T) {
	for _, id := range []string{"", testEndpoint[:21], testEndpoint + "0", "vpce-svc-" + testEndpoint} {
		dst := make([]byte, 130)
		if n := PutProxyV2(dst, mapped("10.0.3.7"), mapped("10.0.9.9"), 1, 2, id); n != 0 || !bytes.Equal(dst, make([]byte, 130)) {
			t.Errorf("%q: %d bytes written: % x", id, n, dst)
		}
	}
}

// TestProxyV2LocalParsed reads a health check's header as a receiver does: a connection of the proxy's own, whose data
// starts right behind.
func TestProxyV2LocalParsed(t *testing.T) {
	dst := make([]byte, ProxyV2IPv4Len)
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(dst[:PutProxyV2Local(dst)]), strings.NewReader("data")))
	h, err := proxyproto.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(r)
	if !h.Command.IsLocal() || string(rest) != "data" {
		t.Errorf("command %v, then %q", h.Command, rest)
	}
}

// FuzzProxyV2 reads headers with go-proxyproto.
func FuzzProxyV2(f *testing.F) {
	v4, v6 := mapped("10.0.3.7"), mapped("2001:db8::7")
	f.Add(v4[:], v4[:], uint16(45678), uint16(80), testEndpoint)
	f.Add(v6[:], v6[:], uint16(0), uint16(65535), "vpce-fffffffffffffffff")
	f.Add(v4[:], v6[:], uint16(1), uint16(2), testEndpoint)
	f.Add(v6[:], v4[:], uint16(1), uint16(2), "short")
	f.Fuzz(func(t *testing.T, src, dst []byte, sport, dport uint16, id string) {
		if len(src) != 16 || len(dst) != 16 {
			return
		}
		b := bytes.Repeat([]byte{0xee}, 130)
		n := PutProxyV2(b, [16]byte(src), [16]byte(dst), sport, dport, id)
		if len(id) != 22 {
			if n != 0 {
				t.Fatalf("endpoint id %q gave %d bytes", id, n)
			}
			return
		}
		checkCRC(t, b[:n])
		a, c := netip.AddrFrom16([16]byte(src)), netip.AddrFrom16([16]byte(dst))
		want := ProxyV2IPv6Len
		if a.Is4In6() && c.Is4In6() {
			want = ProxyV2IPv4Len
		}
		if n != want {
			t.Fatalf("%v to %v: %d bytes, want %d", a, c, n, want)
		}
		checkParsed(t, b[:n], netip.AddrPortFrom(a, sport), netip.AddrPortFrom(c, dport), id)
	})
}

// checkParsed reads the header with go-proxyproto and compares.
func checkParsed(t *testing.T, header []byte, src, dst netip.AddrPort, id string) {
	t.Helper()
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		t.Fatalf("go-proxyproto: %v\n% x", err, header)
	}
	from, ok1 := h.SourceAddr.(*net.TCPAddr)
	to, ok2 := h.DestinationAddr.(*net.TCPAddr)
	if !ok1 || !ok2 || !from.IP.Equal(src.Addr().AsSlice()) || !to.IP.Equal(dst.Addr().AsSlice()) ||
		from.Port != int(src.Port()) || to.Port != int(dst.Port()) {
		t.Fatalf("parsed as %v to %v, want %v to %v", h.SourceAddr, h.DestinationAddr, src, dst)
	}
	tlvs, err := h.TLVs()
	if err != nil {
		t.Fatalf("go-proxyproto: TLVs: %v", err)
	}
	if len(tlvs) != 3 || tlvs[0].Type != proxyproto.PP2_TYPE_CRC32C || tlvs[2].Type != proxyproto.PP2_TYPE_NOOP ||
		!tlvparse.IsAWSVPCEndpointID(tlvs[1]) || string(tlvs[1].Value[1:]) != id {
		t.Fatalf("TLVs are %v", tlvs)
	}
	// The parser accepts no others than these characters, which every endpoint id consists of.
	if strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && tlvparse.FindAWSVPCEndpointID(tlvs) != id {
		t.Fatalf("endpoint id is %q, want %q", tlvparse.FindAWSVPCEndpointID(tlvs), id)
	}
}

// checkCRC computes the CRC32C bit by bit over the header with the value zero.
func checkCRC(t *testing.T, header []byte) {
	t.Helper()
	off := ProxyV2IPv4Len - 84 + 12 // the first TLV follows the addresses
	if header[13] == 0x21 {
		off += 24
	}
	b := bytes.Clone(header)
	clear(b[off+3 : off+7])
	crc := ^uint32(0)
	for _, v := range b {
		crc ^= uint32(v)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x82f63b78
			} else {
				crc >>= 1
			}
		}
	}
	if got := binary.BigEndian.Uint32(header[off+3:]); header[off] != 3 || got != ^crc {
		t.Fatalf("CRC is %08x, want %08x, in % x", got, ^crc, header)
	}
}
