// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// wireOf stands for a device: what a merger writes is read from it, one packet with its header at a time.
type wireOf struct {
	testing.TB
	merger *merger
	failed atomic.Uint64
	fd     int
}

func newWire(t testing.TB, super bool) *wireOf {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	w := &wireOf{TB: t, fd: pair[1]}
	w.merger = newMerger(&device{fd: pair[0]}, super, &w.failed)
	return w
}

// send gives copies of the packets to the merger.
func (w *wireOf) send(packets ...[]byte) {
	w.Helper()
	for _, p := range packets {
		p = bytes.Clone(p)
		w.merger.add(p, tupleOf(w, p))
	}
	w.merger.flush()
	if n := w.failed.Load(); n > 0 {
		w.Fatalf("%d packets were not written", n)
	}
}

// receive is what has been written, and cut into segments again. counts are how many each packet became.
func (w *wireOf) receive() (packets [][]byte, counts []int) {
	w.Helper()
	b := make([]byte, vnetLen+maxPacket)
	for {
		n, err := unix.Read(w.fd, b)
		if err != nil {
			return packets, counts
		}
		segments := cutAll(w, b[:n])
		packets = append(packets, segments...)
		counts = append(counts, len(segments))
	}
}

// cutAll is what a packet with its header stands for.
func cutAll(t testing.TB, b []byte) (packets [][]byte) {
	t.Helper()
	off, packet := parseOffload(b), bytes.Clone(b[vnetLen:])
	if off.gsoType == vnetNone {
		if off.flags&vnetNeedsCsum != 0 && !complete(packet, &off) {
			t.Fatal("the checksum cannot be completed")
		}
		return [][]byte{packet}
	}
	var cut cutter
	if !cut.start(packet, tupleOf(t, packet), &off) {
		t.Fatalf("no super-packet: %+v %s", off, pkttest.Describe(packet))
	}
	size := 0
	for cut.more() {
		head := make([]byte, cut.headers)
		payload := cut.next(head)
		packets = append(packets, append(head, payload...))
		size += len(head) + len(payload)
	}
	if n, total := cut.total(); n != len(packets) || total != size {
		t.Errorf("counted %d segments of %d bytes, cut %d of %d", n, total, len(packets), size)
	}
	return packets
}

// stream is segments of one connection, size bytes of payload each but the last.
func stream(base pkttest.TCP, size, total int) (segments [][]byte) {
	random := rand.New(rand.NewPCG(uint64(size), uint64(total)))
	for off := 0; off < total; off += size {
		p := base
		p.Seq += uint32(off)
		if p.Src.Addr().Is4() {
			p.ID += uint16(len(segments))
		}
		p.Payload = make([]byte, min(size, total-off))
		for i := range p.Payload {
			p.Payload[i] = byte(random.Uint32())
		}
		if off+size >= total {
			p.Flags = "PA"
		}
		segments = append(segments, p.Bytes())
	}
	return segments
}

func sameBytes(t *testing.T, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d\n%s", i, pkttest.Diff(want[i], got[i]))
		}
	}
}

// What was merged and cut again is as it was, byte for byte.
func TestMergeAndCut(t *testing.T) {
	timestamps := []layers.TCPOption{pkttest.NOP(), pkttest.NOP(), pkttest.Timestamps(1, 2)}
	four := pkttest.TCP{Src: src4, Dst: dst4, Seq: 1<<32 - 5000, Ack: 7, Flags: "A", Window: 100, ID: 65530, NoDF: true, Options: timestamps, TOS: 4}
	six := pkttest.TCP{Src: src6, Dst: dst6, Seq: 9, Ack: 7, Flags: "A", Window: 100, TOS: 8}
	for name, test := range map[string]struct {
		packets [][]byte
		super   bool
		counts  []int
	}{
		"IPv4":                {stream(four, 1448, 30000), true, []int{21}},
		"IPv4, odd sizes":     {stream(four, 1001, 3001), true, []int{3}},
		"IPv6":                {stream(six, 8440, 65000), true, []int{8}},
		"one":                 {stream(six, 100, 100), true, []int{1}},
		"without offloads":    {stream(four, 1448, 3000), false, []int{1, 1, 1}},
		"other packets":       {[][]byte{pkttest.UDP(src4, dst4, []byte("x")), pkttest.ICMPEcho(src4.Addr(), dst4.Addr(), 1, 1, nil)}, true, []int{1, 1}},
		"two in turn":         {interleave(stream(four, 1000, 3000), stream(six, 1000, 3000)), true, []int{1, 1, 1, 1, 1, 1}},
		"one behind another":  {append(stream(four, 1000, 3000), stream(six, 1000, 3000)...), true, []int{3, 3}},
		"more than one holds": {stream(four, 8448, 8448*9), true, []int{7, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, test.super)
			w.send(test.packets...)
			got, counts := w.receive()
			sameBytes(t, got, test.packets)
			if len(counts) != len(test.counts) {
				t.Fatalf("written as %v, want %v", counts, test.counts)
			}
			for i := range counts {
				if counts[i] != test.counts[i] {
					t.Fatalf("written as %v, want %v", counts, test.counts)
				}
			}
		})
	}
}

func interleave(a, b [][]byte) (all [][]byte) {
	for i := range a {
		all = append(all, a[i], b[i])
	}
	return all
}

// What does not continue a run ends it, and comes through as it was.
func TestMergeKeepsApart(t *testing.T) {
	base := pkttest.TCP{Src: src4, Dst: dst4, Seq: 1000, Ack: 7, Flags: "A", Window: 100, Payload: make([]byte, 100)}
	next := base
	next.Seq += 100
	change := func(f func(*pkttest.TCP)) []byte {
		p := next
		f(&p)
		return p.Bytes()
	}
	broken := next.Bytes()
	broken[len(broken)-1] ^= 1
	for name, second := range map[string][]byte{
		"gap":             change(func(p *pkttest.TCP) { p.Seq++ }),
		"again":           base.Bytes(),
		"acknowledgement": change(func(p *pkttest.TCP) { p.Ack++ }),
		"window":          change(func(p *pkttest.TCP) { p.Window++ }),
		"TTL":             change(func(p *pkttest.TCP) { p.TTL = 63 }),
		"TOS":             change(func(p *pkttest.TCP) { p.TOS = 4 }),
		"DF":              change(func(p *pkttest.TCP) { p.NoDF = true }),
		"options":         change(func(p *pkttest.TCP) { p.Options = []layers.TCPOption{pkttest.Timestamps(1, 2)} }),
		"FIN":             change(func(p *pkttest.TCP) { p.Flags = "FA" }),
		"CWR":             change(func(p *pkttest.TCP) { p.Flags = "AC" }),
		"RST":             change(func(p *pkttest.TCP) { p.Flags = "RA" }),
		"longer":          change(func(p *pkttest.TCP) { p.Payload = make([]byte, 101) }),
		"no payload":      change(func(p *pkttest.TCP) { p.Payload = nil }),
		"port":            change(func(p *pkttest.TCP) { p.Dst = netip.MustParseAddrPort("192.0.2.7:24") }),
		"address":         change(func(p *pkttest.TCP) { p.Dst = netip.MustParseAddrPort("192.0.2.8:23") }),
		"wrong checksum":  broken,
	} {
		w := newWire(t, true)
		packets := [][]byte{base.Bytes(), second}
		w.send(packets...)
		got, counts := w.receive()
		if len(counts) != 2 {
			t.Errorf("%s: merged", name)
			continue
		}
		sameBytes(t, got, packets)
	}
	// And a third does not follow what closed the run.
	next.ID = 1
	short, pushed := next, next
	short.Payload = short.Payload[:99]
	pushed.Flags = "PA"
	for name, second := range map[string]pkttest.TCP{"shorter": short, "PSH": pushed} {
		third := next
		third.ID = 2
		third.Seq = second.Seq + uint32(len(second.Payload))
		w := newWire(t, true)
		w.send(base.Bytes(), second.Bytes(), third.Bytes())
		got, counts := w.receive()
		sameBytes(t, got, [][]byte{base.Bytes(), second.Bytes(), third.Bytes()})
		if len(counts) != 2 || counts[0] != 2 {
			t.Errorf("%s: written as %v, want two and one", name, counts)
		}
	}
}

// The flags of a super-packet belong to its first segment, or its last.
func TestCutFlags(t *testing.T) {
	p := pkttest.TCP{Src: src4, Dst: dst4, Flags: "FPAC", Payload: make([]byte, 250)}.Bytes()
	off := offload{flags: vnetNeedsCsum, gsoType: vnetTCPv4, gsoSize: 100}
	var cut cutter
	if !cut.start(p, tupleOf(t, p), &off) {
		t.Fatal("no super-packet")
	}
	want := []uint8{wire.TCPAck | wire.TCPCwr, wire.TCPAck, wire.TCPAck | wire.TCPFin | wire.TCPPsh}
	for i := 0; cut.more(); i++ {
		head := make([]byte, cut.headers)
		packet := append(head, cut.next(head)...)
		pkttest.Verify(t, packet)
		if got := wire.TCP(packet[20:]).Flags(); got != want[i] {
			t.Errorf("segment %d has the flags %08b, want %08b", i, got, want[i])
		}
	}
	for name, off := range map[string]offload{"of IPv6": {gsoType: vnetTCPv6, gsoSize: 100}, "of UDP": {gsoType: 5, gsoSize: 100}, "of no size": {gsoType: vnetTCPv4}} {
		if cut.start(p, tupleOf(t, p), &off) {
			t.Errorf("a super-packet %s was taken", name)
		}
	}
}

func TestComplete(t *testing.T) {
	for _, p := range [][]byte{pkttest.UDP(src4, dst4, []byte("odd")), pkttest.UDP(src6, dst6, nil), pkttest.TCP{Src: src6, Dst: dst6, Flags: "S"}.Bytes()} {
		tuple := tupleOf(t, p)
		off := offload{csumStart: int(tuple.L4), csumOff: 6}
		if tuple.Proto == wire.ProtoTCP {
			off.csumOff = tcpChecksum
		}
		got := pkttest.Partial(bytes.Clone(p))
		if !complete(got, &off) || !bytes.Equal(got, p) {
			t.Error(pkttest.Diff(p, got))
		}
		if off.csumStart = len(p); complete(got, &off) {
			t.Error("a checksum outside of the packet was completed")
		}
	}
}
