// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

const (
	vpce1, vpce2 = 0x123456789abcdef0, 0x223456789abcdef0
	cookie       = 0xc0ffee
)

func withPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// inspector is an appliance without sockets and devices.
func inspector(o Options) *Appliance {
	a := &Appliance{opts: o, start: time.Now(), flows: newFlowTable(100), endpoints: map[uint64]*endpoint{}}
	if o.Print != nil {
		a.print = newPrinter(o.Print, o.PrintRate)
	}
	if a.sharedDevice() {
		a.tunnels = []*tunnel{{}}
	}
	return a
}

// datagram is what is behind the outer UDP header.
func datagram(g pkttest.Geneve) []byte {
	g.Src, g.Dst = netip.MustParseAddrPort("10.9.0.1:50000"), netip.MustParseAddrPort("10.9.0.10:6081")
	if g.Options == nil {
		g.Options = pkttest.AWSOptions(vpce1, 0, cookie)
	}
	return g.Bytes()[28:]
}

var outer = message{route: route{local: [4]byte{10, 9, 0, 10}, peer: [4]byte{10, 9, 0, 1}, port: 50000}}

func (a *Appliance) see(b []byte) (inspected, bool) {
	in := inspected{datagram: b}
	ok := a.inspect(&outer, &in)
	return in, ok
}

func TestInspect(t *testing.T) {
	syn := pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes()
	aws := pkttest.AWSOptions(vpce1, 0, cookie)
	other := pkttest.GeneveOption(0xffff, 0x7f, make([]byte, 124))
	critical := pkttest.GeneveOption(0xffff, 0x80, nil)
	long := pkttest.GeneveOption(0x0108, 3, make([]byte, 8))
	reversed := slices.Clone(aws)
	slices.Reverse(reversed)
	truncated := datagram(pkttest.Geneve{Inner: syn})
	tests := []struct {
		name  string
		bytes []byte
		cause Cause
		ok    bool
	}{
		{"as AWS sends it", datagram(pkttest.Geneve{Inner: syn}), 0, true},
		{"IPv6", datagram(pkttest.Geneve{Inner: pkttest.UDP(src6, dst6, []byte("x"))}), 0, true},
		{"GRE", datagram(pkttest.Geneve{Inner: pkttest.GRE(src4.Addr(), dst4.Addr(), syn)}), 0, true},
		{"options the other way round", datagram(pkttest.Geneve{Inner: syn, Options: reversed}), 0, true},
		{"options among others", datagram(pkttest.Geneve{Inner: syn, Options: slices.Concat([]*layers.GeneveOption{other}, aws)}), 0, true},
		{"VNI", datagram(pkttest.Geneve{Inner: syn, VNI: 123}), 0, true},
		{"padding behind the inner packet", append(datagram(pkttest.Geneve{Inner: syn}), 0, 0), 0, true},
		{"a rule", datagram(pkttest.Geneve{Inner: pkttest.UDP(src4, withPort(dst4.Addr(), 53), nil)}), ByRule, false},
		{"nothing", nil, Malformed, false},
		{"half a header", truncated[:20], Malformed, false},
		{"version 1", datagram(pkttest.Geneve{Inner: syn, Version: 1}), BadVersion, false},
		{"control", datagram(pkttest.Geneve{Inner: syn, OAM: true}), Control, false},
		{"critical option", datagram(pkttest.Geneve{Inner: syn, Critical: true, Options: append(slices.Clone(aws), critical)}), CriticalOption, false},
		{"no options", datagram(pkttest.Geneve{Inner: syn, Options: []*layers.GeneveOption{}}), MissingOption, false},
		{"no cookie", datagram(pkttest.Geneve{Inner: syn, Options: aws[:2]}), MissingOption, false},
		{"cookie of eight bytes", datagram(pkttest.Geneve{Inner: syn, Options: []*layers.GeneveOption{aws[0], aws[1], long}}), MissingOption, false},
		{"inner packet cut short", truncated[:len(truncated)-1], BadInner, false},
		{"no inner packet", truncated[:40], BadInner, false},
		{"IPv4 announced as IPv6", datagram(pkttest.Geneve{Inner: syn, Protocol: 0x86dd}), BadInner, false},
		{"Ethernet inside", datagram(pkttest.Geneve{Inner: syn, Protocol: 0x6558}), BadInner, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := inspector(Options{Drop: []Rule{mustRule(t, "udp dst port 53")}})
			in, ok := a.see(test.bytes)
			if ok != test.ok {
				t.Fatalf("passes: %v, want %v; dropped %v", ok, test.ok, a.Stats().Dropped)
			}
			if !ok {
				if a.dropped[test.cause] != 1 {
					t.Errorf("dropped %v, want one %s", a.Stats().Dropped, test.cause)
				}
				return
			}
			if in.geneve.Endpoint != vpce1 || in.geneve.Cookie != cookie || len(in.header)+len(in.packet) > len(test.bytes) {
				t.Errorf("found %+v", in)
			}
			if w := in.flow.ways[in.way]; !bytes.Equal(w.header, test.bytes[:len(w.header)]) || w.route != outer.route {
				t.Errorf("remembered the header %x and the way %+v", w.header, w.route)
			}
		})
	}
}

func TestCounters(t *testing.T) {
	a := inspector(Options{Drop: []Rule{mustRule(t, "dst port 53")}})
	there := pkttest.TCP{Src: src4, Dst: dst4, Flags: "PA", Payload: make([]byte, 60)}.Bytes() // 100 bytes
	back := pkttest.TCP{Src: dst4, Dst: src4, Flags: "A"}.Bytes()
	a.see(datagram(pkttest.Geneve{Inner: there}))
	a.see(datagram(pkttest.Geneve{Inner: there}))
	a.see(datagram(pkttest.Geneve{Inner: back}))
	a.see(datagram(pkttest.Geneve{Inner: there, Options: pkttest.AWSOptions(vpce2, 5, 9)}))
	a.see(datagram(pkttest.Geneve{Inner: pkttest.UDP(src4, withPort(dst4.Addr(), 53), nil)}))
	s := a.Stats()
	if want := (Traffic{5, 3*140 + 80 + 68}); s.Received != want || s.Dropped["by-rule"] != 1 || len(s.Dropped) != 1 || s.Flows != 3 {
		t.Errorf("%+v, want %+v received", s, want)
	}
	want := []EndpointStats{
		{"vpce-*123456789abcdef0", Traffic{4, 268}, Traffic{}, 1},
		{"vpce-*223456789abcdef0", Traffic{1, 100}, Traffic{}, 0},
	}
	if !slices.Equal(s.Endpoints, want) {
		t.Errorf("endpoints %+v, want %+v", s.Endpoints, want)
	}
	flows := a.Flows(10)
	if len(flows) != 3 || len(a.Flows(1)) != 1 {
		t.Fatalf("%d flows", len(flows))
	}
	f := flows[2] // heard of first
	if f.Protocol != "tcp" || f.Source != src4 || f.Destination != dst4 || f.Forth.In != (Traffic{2, 200}) ||
		f.Back.In != (Traffic{1, 40}) || f.Forth.Cookie != "00c0ffee" || f.Forth.SourcePort != 50000 {
		t.Errorf("flow %+v", f)
	}
	if f := flows[0]; f.Forth.Dropped != 1 || f.Back != (WayStats{}) {
		t.Errorf("dropped flow %+v", f)
	}
	var text strings.Builder
	if err := WriteStats(&text, s, flows); err != nil || !strings.Contains(text.String(), "dropped 1: by-rule") ||
		!strings.Contains(text.String(), "vpce-*223456789abcdef0") || !strings.Contains(text.String(), "192.0.2.7:23") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// On a device that endpoints share, a tuple belongs to the endpoint that it came through first, in each direction.
func TestSharedDeviceRefusesConflicts(t *testing.T) {
	there := pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes()
	back := pkttest.TCP{Src: dst4, Dst: src4, Flags: "SA"}.Bytes()
	a := inspector(Options{Mode: TUN, Device: "inspect"})
	second := pkttest.AWSOptions(vpce2, 0, cookie)
	if _, ok := a.see(datagram(pkttest.Geneve{Inner: there})); !ok {
		t.Fatal("the first packet was refused")
	}
	if _, ok := a.see(datagram(pkttest.Geneve{Inner: there, Options: second})); ok || a.dropped[Conflict] != 1 {
		t.Error("another endpoint's packet of the same tuple passed")
	}
	if _, ok := a.see(datagram(pkttest.Geneve{Inner: back, Options: second})); !ok {
		t.Error("the other direction cannot come through another endpoint")
	}
	a.now += flowIdle + 1
	if _, ok := a.see(datagram(pkttest.Geneve{Inner: there, Options: second})); !ok {
		t.Error("an idle flow keeps its tuple from others")
	}
}

// What the kernel sends goes back under the header of its direction, else the other's; an error under that of what it quotes.
func TestWayBack(t *testing.T) {
	there := pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes()
	back := pkttest.TCP{Src: dst4, Dst: src4, Flags: "SA"}.Bytes()
	router := netip.MustParseAddr("10.9.0.10")
	errorAboutThere := pkttest.ICMPError(11, 0, router, src4.Addr(), there)
	stranger := pkttest.UDP(src4, dst4, nil)
	a := inspector(Options{Mode: TUN, Device: "inspect"})
	cookieOf := func(packet []byte) uint32 {
		if w := a.wayBack(0, packet, tupleOf(t, packet)); w != nil {
			return w.geneve.Cookie
		}
		return 0
	}
	a.see(datagram(pkttest.Geneve{Inner: there, Options: pkttest.AWSOptions(vpce1, 0, 1)}))
	for name, packet := range map[string][]byte{"own": there, "answer": back, "error": errorAboutThere} {
		if got := cookieOf(packet); got != 1 {
			t.Errorf("%s goes back under cookie %d, want 1", name, got)
		}
	}
	a.see(datagram(pkttest.Geneve{Inner: back, Options: pkttest.AWSOptions(vpce1, 0, 2)}))
	for name, want := range map[string]struct {
		packet []byte
		cookie uint32
	}{"own": {there, 1}, "answer": {back, 2}, "error": {errorAboutThere, 1}, "stranger": {stranger, 0},
		"error about a stranger": {pkttest.ICMPError(3, 3, router, src4.Addr(), stranger), 0}} {
		if got := cookieOf(want.packet); got != want.cookie {
			t.Errorf("%s goes back under cookie %d, want %d", name, got, want.cookie)
		}
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	a := inspector(Options{Print: &out, PrintRate: 4, Drop: []Rule{mustRule(t, "udp")}})
	options := append(pkttest.AWSOptions(vpce1, 7, cookie), pkttest.GeneveOption(0x0102, 9, []byte{1, 2, 3, 4}))
	a.see(datagram(pkttest.Geneve{Inner: pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes(), Options: options, VNI: 3}))
	a.see(datagram(pkttest.Geneve{Inner: pkttest.UDP(src6, dst6, []byte("x"))}))
	a.see(datagram(pkttest.Geneve{Inner: pkttest.ICMPEcho(src4.Addr(), dst4.Addr(), 1, 1, nil), Version: 2}))
	for range 3 {
		a.see([]byte{1})
	}
	a.now += time.Second
	a.see(datagram(pkttest.Geneve{Inner: pkttest.ICMPEcho(src4.Addr(), dst4.Addr(), 1, 1, nil)}))
	want := `endpoint vpce-*123456789abcdef0 attachment 0000000000000007 cookie 00c0ffee option 0102/09 01020304 vni 3 tcp 10.0.1.5:40000 > 192.0.2.7:23 40 bytes
endpoint vpce-*123456789abcdef0 attachment 0000000000000000 cookie 00c0ffee udp [2001:db8::5]:40000 > [2001:db8:1::7]:443 49 bytes, dropped by rule "udp"
endpoint vpce-*123456789abcdef0 attachment 0000000000000000 cookie 00c0ffee 28 bytes of protocol 0x0800, dropped: bad-version
1 bytes, not GENEVE, dropped: malformed
(2 packets not shown)
endpoint vpce-*123456789abcdef0 attachment 0000000000000000 cookie 00c0ffee icmp 10.0.1.5 > 192.0.2.7 28 bytes
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

func TestInspectDoesNotAllocate(t *testing.T) {
	a := inspector(Options{Drop: []Rule{mustRule(t, "dst 192.0.2.0/24 dst port 80")}})
	first := datagram(pkttest.Geneve{Inner: pkttest.TCP{Src: src4, Dst: dst4, Flags: "A"}.Bytes()})
	second := datagram(pkttest.Geneve{Inner: pkttest.UDP(src6, dst6, nil)})
	if n := testing.AllocsPerRun(100, func() {
		for _, b := range [][]byte{first, second} {
			in := inspected{datagram: b}
			if !a.inspect(&outer, &in) {
				t.Fatal("dropped")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(datagram(pkttest.Geneve{Inner: pkttest.TCP{Src: src4, Dst: dst4, Flags: "S"}.Bytes()}))
	f.Add(datagram(pkttest.Geneve{Inner: pkttest.UDP(src6, dst6, []byte("x")), VNI: 1}))
	f.Add(datagram(pkttest.Geneve{Inner: pkttest.ICMPError(3, 3, dst4.Addr(), src4.Addr(), pkttest.UDP(src4, dst4, nil))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := inspector(Options{Mode: TUN, Device: "inspect", Print: new(strings.Builder)})
		in, ok := a.see(b)
		if !ok {
			return
		}
		if !bytes.Equal(slices.Concat(in.header, in.packet), b[:len(in.header)+len(in.packet)]) {
			t.Error("header and packet are not the datagram")
		}
		if a.wayBack(0, in.packet, &in.tuple) == nil {
			t.Error("the packet itself finds no way back")
		}
	})
}
