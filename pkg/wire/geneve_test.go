// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

const (
	testNumber = 0x123456789abcdef0 // of testEndpoint
	testCookie = 0x00c0ffee
)

// testTunnel is a packet as a Gateway Load Balancer sends it.
func testTunnel() pkttest.Geneve {
	return pkttest.Geneve{
		Src: netip.MustParseAddrPort("10.1.0.5:50000"), Dst: netip.MustParseAddrPort("10.1.0.9:6081"),
		Options: pkttest.AWSOptions(testNumber, 7, testCookie), Inner: segment().Bytes(),
	}
}

// behindUDP is what a built packet has behind its outer UDP header.
func behindUDP(g pkttest.Geneve) []byte { return g.Bytes()[IPv4MinLen+UDPLen:] }

// genevePrefix is the prefix with the numbers above, written by hand.
func genevePrefix(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll("08 00 0800 000000 00"+
		" 0108 01 02 123456789abcdef0  0108 02 02 0000000000000007  0108 03 01 00c0ffee", " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPutGeneveAWS(t *testing.T) {
	if GeneveAWSLen != 40 || GeneveOverhead != 68 {
		t.Errorf("header of %d bytes, overhead of %d", GeneveAWSLen, GeneveOverhead)
	}
	want := genevePrefix(t)
	for proto, inner := range map[uint16][]byte{EtherTypeIPv4: segment().Bytes(), EtherTypeIPv6: segment6().Bytes()} {
		got := bytes.Repeat([]byte{0xee}, GeneveAWSLen+2)
		PutGeneveAWS(got, proto, testNumber, 7, testCookie)
		binary.BigEndian.PutUint16(want[2:], proto)
		if !bytes.Equal(got, append(bytes.Clone(want), 0xee, 0xee)) {
			t.Errorf("\nwant % x\n got % x", want, got)
		}
		g := testTunnel()
		g.Inner = inner
		if other := behindUDP(g)[:GeneveAWSLen]; !bytes.Equal(got[:GeneveAWSLen], other) {
			t.Errorf("gopacket writes % x\n          we % x", other, got)
		}
	}
}

// TestGeneveWhole puts the outer headers together as the dataplane does, and compares with gopacket.
func TestGeneveWhole(t *testing.T) {
	g := testTunnel()
	want := g.Bytes()
	got := append(make([]byte, GeneveOverhead), g.Inner...)
	IPv4(got).Init(len(got), ProtoUDP, 64, g.Src.Addr().As4(), g.Dst.Addr().As4())
	PutUDP(got[IPv4MinLen:], g.Src.Port(), GenevePort, len(got)-IPv4MinLen)
	PutGeneveAWS(got[IPv4MinLen+UDPLen:], EtherTypeIPv4, testNumber, 7, testCookie)
	if d := pkttest.Diff(want, got); d != "" {
		t.Error(d)
	}
	pkttest.Verify(t, got)
}

// changed is behindUDP of testTunnel with a change.
func changed(change func(*pkttest.Geneve)) []byte {
	g := testTunnel()
	change(&g)
	return behindUDP(g)
}

// edited is behindUDP of testTunnel with another byte.
func edited(off int, v byte) []byte {
	b := behindUDP(testTunnel())
	b[off] = v
	return b
}

func TestParseGeneveAWS(t *testing.T) {
	good := behindUDP(testTunnel())
	for _, c := range []struct {
		name string
		b    []byte
		want GeneveFault
	}{
		{"good", good, GeneveOK},
		{"IPv6", changed(func(g *pkttest.Geneve) { g.Inner = segment6().Bytes() }), GeneveOK},
		{"one byte of the inner packet", good[:41], GeneveOK},
		{"reserved bits", edited(1, 0x3f), GeneveOK},
		{"reserved byte", edited(7, 0xff), GeneveOK},
		{"reserved bits of an option", edited(11, 0xe2), GeneveOK},

		{"empty", nil, GeneveTruncated},
		{"7 bytes", good[:7], GeneveTruncated},
		{"8 bytes", good[:8], GeneveTruncated},
		{"39 bytes", good[:39], GeneveTruncated},
		{"no inner packet", good[:40], GeneveTruncated},
		{"version 1", changed(func(g *pkttest.Geneve) { g.Version = 1 }), GeneveVersion},
		{"version 3", changed(func(g *pkttest.Geneve) { g.Version = 3 }), GeneveVersion},
		{"Ethernet", changed(func(g *pkttest.Geneve) { g.Protocol = 0x6558 }), GeneveProtocol},
		{"IPv4 called IPv6", changed(func(g *pkttest.Geneve) { g.Protocol = EtherTypeIPv6 }), GeneveProtocol},
		{"IPv6 called IPv4", changed(func(g *pkttest.Geneve) {
			g.Inner, g.Protocol = segment6().Bytes(), EtherTypeIPv4
		}), GeneveProtocol},
		{"inner version 0", edited(40, 0x05), GeneveProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, why := ParseGeneveAWS(c.b)
			if why != c.want {
				t.Fatalf("fault is %v, want %v", why, c.want)
			}
			if why != GeneveOK {
				return
			}
			want := GeneveAWS{Endpoint: testNumber, Attachment: 7, Cookie: testCookie, Proto: binary.BigEndian.Uint16(c.b[2:])}
			if g != want {
				t.Errorf("got %+v, want %+v", g, want)
			}
		})
	}
}

func TestParseGeneveAWSLayout(t *testing.T) {
	order := func(i, j, k int) []byte {
		return changed(func(g *pkttest.Geneve) {
			o := g.Options
			g.Options = []*layers.GeneveOption{o[i], o[j], o[k]}
		})
	}
	for name, b := range map[string][]byte{
		"OAM":                 changed(func(g *pkttest.Geneve) { g.OAM = true }),
		"critical":            changed(func(g *pkttest.Geneve) { g.Critical = true }),
		"VNI":                 changed(func(g *pkttest.Geneve) { g.VNI = 1 }),
		"no options":          changed(func(g *pkttest.Geneve) { g.Options = nil }),
		"no options, 8 bytes": changed(func(g *pkttest.Geneve) { g.Options = nil })[:8],
		"no cookie":           changed(func(g *pkttest.Geneve) { g.Options = g.Options[:2] }),
		"one option more": changed(func(g *pkttest.Geneve) {
			g.Options = append(g.Options, pkttest.GeneveOption(GeneveClassAWS, 4, nil))
		}),
		"endpoint twice":                  order(0, 0, 2),
		"order 1 3 2":                     order(0, 2, 1),
		"order 2 1 3":                     order(1, 0, 2),
		"order 3 1 2":                     order(2, 0, 1),
		"another class":                   edited(9, 0x09),
		"another type":                    edited(10, 4),
		"critical type":                   edited(10, 0x81),
		"another length":                  edited(11, 1),
		"another class of the attachment": edited(20, 0),
		"another length of the cookie":    edited(35, 2),
	} {
		if _, why := ParseGeneveAWS(b); why != GeneveLayout {
			t.Errorf("%s: fault is %v", name, why)
		}
	}
}

// TestParseGeneveAWSEveryBit flips each bit of the prefix: what is not a number or reserved is refused.
func TestParseGeneveAWSEveryBit(t *testing.T) {
	good := behindUDP(testTunnel())
	want, _ := ParseGeneveAWS(good)
	for bit := range GeneveAWSLen * 8 {
		at, mask := bit/8, byte(1)<<(bit%8)
		good[at] ^= mask
		got, why := ParseGeneveAWS(good)
		number := at >= 12 && at < 20 || at >= 24 && at < 32 || at >= 36
		reserved := at == 1 && mask < 0x40 || at == 7 || (at == 11 || at == 23 || at == 35) && mask >= 0x20
		if (why == GeneveOK) != (number || reserved) || why == GeneveOK && (got != want) != number {
			t.Errorf("bit %#x of byte %d: %v, %+v", mask, at, why, got)
		}
		good[at] ^= mask
	}
}

func TestGeneveFaultString(t *testing.T) {
	for fault, want := range map[GeneveFault]string{
		GeneveOK: "ok", GeneveTruncated: "truncated", GeneveVersion: "version", GeneveLayout: "layout", GeneveProtocol: "protocol",
	} {
		if fault.String() != want {
			t.Errorf("%d is %q, want %q", fault, fault, want)
		}
	}
}

func TestGeneveView(t *testing.T) {
	built := testTunnel()
	built.Version, built.OAM, built.Critical, built.VNI, built.Protocol = 2, true, true, 0xabcdef, 0x6558
	built.Options = append(built.Options[2:], pkttest.GeneveOption(0xfff0, 0x81, nil), pkttest.GeneveOption(1, 2, make([]byte, 124)))
	g, ok := ParseGeneve(behindUDP(built))
	if !ok {
		t.Fatal("refused")
	}
	if g.Version() != 2 || !g.OAM() || !g.Critical() || g.VNI() != 0xabcdef || g.Protocol() != 0x6558 || g.OptionsLen() != 8+4+128 ||
		g.HeaderLen() != 148 || !bytes.Equal(g.Payload(), built.Inner) {
		t.Errorf("header is % x", g[:GeneveLen])
	}
	if got := collectGeneve(g); !reflect.DeepEqual(got, built.Options) {
		t.Errorf("got %v", got)
	}
	plain, _ := ParseGeneve(genevePrefix(t))
	if plain.OAM() || plain.Critical() || plain.VNI() != 0 || len(plain.Payload()) != 0 {
		t.Errorf("header is % x", plain[:GeneveLen])
	}
}

// collectGeneve is what the iterator reports, in gopacket's terms as pkttest builds them.
func collectGeneve(g Geneve) []*layers.GeneveOption {
	var out []*layers.GeneveOption
	for list := g.IterOptions(); ; {
		class, typ, data, ok := list.Next()
		if !ok {
			return out
		}
		o := &layers.GeneveOption{Class: class, Type: typ, Length: uint8(4 + len(data))}
		o.Data = append(o.Data, data...)
		out = append(out, o)
	}
}

func TestParseGeneve(t *testing.T) {
	good := genevePrefix(t)
	edit := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	for _, c := range []struct {
		name    string
		b       []byte
		ok      bool
		options int // how many the iterator gives of an unchecked view
	}{
		{"good", good, true, 3},
		{"no options", edit(0, 0), true, 0},
		{"empty options", []byte{2, 0, 8, 0, 0, 0, 0, 0, 1, 8, 9, 0, 1, 8, 9, 0}, true, 2},
		{"a word behind the options", append(edit(0, 9), 1, 2, 3, 0xe0), true, 4},
		{"options beyond the bytes", edit(0, 9), false, 3},
		{"options cut", good[:39], false, 2},
		{"header cut", good[:7], false, 0},
		{"last option too long", edit(35, 2), false, 2},
		{"options end in an option", edit(0, 7), false, 2},
		{"first option too long", edit(11, 31), false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := ParseGeneve(c.b); ok != c.ok {
				t.Errorf("ok is %v", ok)
			}
			if len(c.b) < GeneveLen {
				return
			}
			if got := collectGeneve(c.b); len(got) != c.options {
				t.Errorf("%d options, want %d", len(got), c.options)
			}
		})
	}
}

func TestGeneveAWSAnyOrder(t *testing.T) {
	want := GeneveAWS{Endpoint: testNumber, Attachment: 7, Cookie: testCookie, Proto: EtherTypeIPv4}
	o := testTunnel().Options
	other := pkttest.GeneveOption(0x0103, 1, make([]byte, 8))
	strange := pkttest.GeneveOption(GeneveClassAWS, 4, make([]byte, 4))
	short := pkttest.GeneveOption(GeneveClassAWS, 1, make([]byte, 4))
	long := pkttest.GeneveOption(GeneveClassAWS, 3, make([]byte, 8))
	for _, c := range []struct {
		name    string
		options []*layers.GeneveOption
		ok      bool
	}{
		{"in order", o, true},
		{"backward", []*layers.GeneveOption{o[2], o[1], o[0]}, true},
		{"among others", []*layers.GeneveOption{other, o[1], strange, o[2], o[0], other}, true},
		{"a short one besides", []*layers.GeneveOption{o[0], o[1], o[2], short}, true},
		{"none", nil, false},
		{"no endpoint", o[1:], false},
		{"no attachment", []*layers.GeneveOption{o[0], o[2]}, false},
		{"no cookie", o[:2], false},
		{"short endpoint", []*layers.GeneveOption{short, o[1], o[2]}, false},
		{"long cookie", []*layers.GeneveOption{o[0], o[1], long}, false},
		{"twice", []*layers.GeneveOption{pkttest.AWSOptions(1, 2, 3)[0], o[0], o[1], o[2]}, true},
	} {
		built := testTunnel()
		built.Options = c.options
		g, ok := ParseGeneve(behindUDP(built))
		if !ok {
			t.Fatalf("%s: refused", c.name)
		}
		if got, ok := g.AWS(); ok != c.ok || ok && got != want {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}

func TestEndpointNumber(t *testing.T) {
	for _, c := range []struct {
		id   string
		want uint64
		ok   bool
	}{
		{testEndpoint, testNumber, true},
		{"vpce-f23456789abcdef01", 0x23456789abcdef01, true},
		{"vpce-00000000000000000", 0, true},
		{"vpce-fffffffffffffffff", 0xffffffffffffffff, true},
		{"vpce-0123456789ABCDEF0", 0, false},
		{"vpce-0123456789abcdeg0", 0, false},
		{"vpce-0123456789abcde`0", 0, false},
		{"vpce-0123456789abcde/0", 0, false},
		{"vpce-0123456789abcde:0", 0, false},
		{"vpce-0123456789abcdef", 0, false},
		{"vpce-0123456789abcdef01", 0, false},
		{"vpce-svc-123456789abcd", 0, false},
		{"eni-0123456789abcdef0", 0, false},
		{"", 0, false},
	} {
		if got, ok := EndpointNumber(c.id); ok != c.ok || ok && got != c.want {
			t.Errorf("%q is %#x, %v; want %#x", c.id, got, ok, c.want)
		}
	}
}

func FuzzGeneve(f *testing.F) {
	strange := testTunnel()
	strange.Version, strange.OAM, strange.VNI, strange.Protocol = 1, true, 123, 0x6558
	strange.Options = []*layers.GeneveOption{strange.Options[2], pkttest.GeneveOption(1, 0x80, nil), strange.Options[0]}
	long := testTunnel()
	long.Options = []*layers.GeneveOption{pkttest.GeneveOption(1, 1, make([]byte, 124)), pkttest.GeneveOption(1, 1, make([]byte, 120))}
	f.Add(behindUDP(testTunnel()))
	f.Add(behindUDP(strange))
	f.Add(behindUDP(long))
	f.Add(behindUDP(testTunnel())[:40])
	f.Add([]byte{1, 0, 8, 0, 0, 0, 0, 0, 1, 8, 1, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, ok := ParseGeneve(b)
		var want layers.Geneve
		err := want.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		sum := 0
		for _, o := range want.Options {
			sum += 4 + len(o.Data)
		}
		// gopacket lets the last option run on behind the options, and counts offsets in eight bits.
		if wide := sum > 255-8; !wide && ok != (err == nil && sum == int(want.OptionsLength)) {
			t.Fatalf("parse is %v, gopacket has %+v, %v", ok, want, err)
		} else if ok && !wide {
			compareGeneve(t, g, &want)
		}
		a, why := ParseGeneveAWS(b)
		if why != GeneveOK {
			if ok && isAWS(&want, b) {
				t.Fatalf("fault %v in %+v", why, want)
			}
			return
		}
		if !ok || !isAWS(&want, b) {
			t.Fatalf("accepted, gopacket has %+v, %v", want, err)
		}
		if tolerant, ok := g.AWS(); !ok || tolerant != a {
			t.Fatalf("strict %+v, tolerant %+v, %v", a, tolerant, ok)
		}
		checkAWS(t, b, a)
	})
}

func compareGeneve(t *testing.T, g Geneve, want *layers.Geneve) {
	t.Helper()
	if g.Version() != int(want.Version) || g.OptionsLen() != int(want.OptionsLength) || g.OAM() != want.OAMPacket ||
		g.Critical() != want.CriticalOption || g.Protocol() != uint16(want.Protocol) || g.VNI() != want.VNI ||
		!bytes.Equal(g.Payload(), want.Payload) {
		t.Fatalf("header % x differs from %+v", g[:GeneveLen], want)
	}
	got := collectGeneve(g)
	if len(got) != len(want.Options) {
		t.Fatalf("%d options, gopacket has %d", len(got), len(want.Options))
	}
	for i, o := range want.Options {
		if got[i].Class != o.Class || got[i].Type != o.Type || got[i].Length != o.Length || !bytes.Equal(got[i].Data, o.Data) {
			t.Fatalf("option %d is %+v, want %+v", i, got[i], o)
		}
	}
}

// isAWS is the judgement of ParseGeneveAWS, of gopacket's reading.
func isAWS(g *layers.Geneve, b []byte) bool {
	if g.Version != 0 || g.OAMPacket || g.CriticalOption || g.VNI != 0 || g.OptionsLength != 32 || len(g.Options) != 3 ||
		len(g.Payload) == 0 {
		return false
	}
	for i, o := range g.Options {
		if o.Class != GeneveClassAWS || int(o.Type) != i+1 || len(o.Data) != []int{8, 8, 4}[i] {
			return false
		}
	}
	return g.Protocol == layers.EthernetTypeIPv4 && b[40]>>4 == 4 || g.Protocol == layers.EthernetTypeIPv6 && b[40]>>4 == 6
}

// checkAWS writes the header again. Only reserved bits may differ.
func checkAWS(t *testing.T, b []byte, a GeneveAWS) {
	t.Helper()
	again := make([]byte, GeneveAWSLen)
	PutGeneveAWS(again, a.Proto, a.Endpoint, a.Attachment, a.Cookie)
	was := bytes.Clone(b[:GeneveAWSLen])
	was[1], was[7] = 0, 0
	for _, at := range []int{11, 23, 35} {
		was[at] &= 0x1f
	}
	if !bytes.Equal(again, was) {
		t.Fatalf("written again: % x, was % x", again, was)
	}
}

func BenchmarkGeneveAWS(b *testing.B) {
	pkt := behindUDP(testTunnel())
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			PutGeneveAWS(pkt, EtherTypeIPv4, testNumber, 0, testCookie)
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, why := ParseGeneveAWS(pkt); why != GeneveOK {
				b.Fatal(why)
			}
		}
	})
}
