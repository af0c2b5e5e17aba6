// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package null

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

var (
	here      = netip.MustParseAddrPort("10.0.1.11:40000")
	there     = netip.MustParseAddrPort("10.0.2.20:9000")
	tunnel    = Tunnel{Node: [4]byte{10, 0, 3, 5}, Appliance: [4]byte{10, 0, 3, 20}}
	plainVnet = make([]byte, vnetHeader)
)

// frame is a packet as a device hands it up or takes it.
type frame struct {
	vnet   []byte
	packet []byte
}

// vnet is a virtio_net_hdr.
func vnet(gso uint8, hdr, size, csum int) []byte {
	v := make([]byte, vnetHeader)
	putVnet(v, gso, hdr, size, 2, ipLen, csum)
	if gso == 0 {
		clear(v[2:6])
	}
	return v
}

// bulk is a TCP super-packet of n payload bytes in segments of size, its checksum the pseudo-header's.
func bulk(t *testing.T, n, size int, flags string) frame {
	t.Helper()
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(i * i >> 3)
	}
	p := pkttest.TCP{Src: here, Dst: there, Seq: 1 << 31, Ack: 7, Flags: flags, Payload: payload}.Bytes()
	binary.BigEndian.PutUint16(p[ipLen+16:], setTotal(p, ipLen, len(p)))
	return frame{vnet(1, ipLen+20, size, 16), p}
}

// small is a UDP packet with a whole checksum.
func small(text string) frame { return frame{plainVnet, pkttest.UDP(here, there, []byte(text))} }

// rig is a copier between two connections.
type rig struct {
	t              *testing.T
	endpoint, node int
}

func newRig(t *testing.T) *rig {
	endpoint, a := pair(t)
	node, b := pair(t)
	go func() { _ = RunGeneve([]int{a}, []int{b}, tunnel, false) }() // until the test's process ends
	return &rig{t, endpoint, node}
}

func (r *rig) write(fd int, f frame) {
	r.t.Helper()
	if _, err := unix.Write(fd, append(bytes.Clone(f.vnet), f.packet...)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) read(fd int) frame {
	r.t.Helper()
	b := make([]byte, largest)
	n, err := read(fd, b)
	if err != nil {
		r.t.Fatal(err)
	}
	return frame{b[:vnetHeader], b[vnetHeader:n]}
}

// datagrams are the inner packets of an outer one, each in a packet of its own.
func datagrams(t *testing.T, f frame) (list []frame) {
	t.Helper()
	size := len(f.packet) - outerLen
	if f.vnet[1] == gsoUDP {
		size = int(binary.NativeEndian.Uint16(f.vnet[4:]))
	}
	source := netip.AddrPortFrom(netip.AddrFrom4(tunnel.Node), binary.BigEndian.Uint16(f.packet[ipLen:]))
	destination := netip.AddrPortFrom(netip.AddrFrom4(tunnel.Appliance), genevePort)
	for rest := f.packet[outerLen:]; len(rest) > 0; {
		n := min(size, len(rest))
		list = append(list, frame{plainVnet, pkttest.UDP(source, destination, rest[:n])})
		rest = rest[n:]
	}
	return list
}

func TestGeneveThereAndBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		in     []frame
		inners int // datagrams of the outer packets together
	}{
		{"super-packet", []frame{bulk(t, 7*8448, 8448, "PA")}, 7},
		{"super-packet with a tail", []frame{bulk(t, 2*1400+1, 1400, "A")}, 3},
		{"last one of many", []frame{bulk(t, 60000, 1400, "FPA")}, 43},
		{"acknowledgement", []frame{{vnet(0, 0, 0, 16), pkttest.TCP{Src: here, Dst: there, Flags: "A"}.Bytes()}}, 1},
		{"datagram", []frame{small("hello")}, 1},
		{"UDP super-packet", []frame{{vnet(gsoUDP, ipLen+udpLen, 5, 6), unfinished(small("hellohellohell").packet)}}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			for _, f := range tc.in {
				r.write(r.endpoint, f)
				outer := r.read(r.node)
				parts := datagrams(t, outer)
				if len(parts) != tc.inners {
					t.Fatalf("%d datagrams, want %d", len(parts), tc.inners)
				}
				for i, part := range parts {
					p := pkttest.Decode(t, part.packet)
					if p.Inner == nil || len(p.Geneve.Options) != 3 {
						t.Fatalf("datagram %d is not in GENEVE with three options", i)
					}
				}
				r.write(r.node, outer) // an appliance that takes it whole
				if got := r.read(r.endpoint); !bytes.Equal(got.packet, f.packet) || !bytes.Equal(got.vnet, f.vnet) {
					t.Errorf("came back as %x %x\nwant %x %x", got.vnet, head(got.packet), f.vnet, head(f.packet))
				}
			}
		})
	}
}

func head(p []byte) []byte { return p[:min(len(p), 60)] }

// unfinished makes the checksum of a UDP packet the pseudo-header's.
func unfinished(p []byte) []byte {
	binary.BigEndian.PutUint16(p[ipLen+6:], setTotal(p, ipLen, len(p)))
	return p
}

// However the appliance and the batches cut them, the bytes of a stream come back in order, each with its number.
func TestGeneveSegmentsComeBackInPieces(t *testing.T) {
	r := newRig(t)
	in := bulk(t, 20*1400+9, 1400, "PA")
	r.write(r.endpoint, in)
	for _, part := range datagrams(t, r.read(r.node)) {
		r.write(r.node, part)
	}
	var stream []byte
	for want := len(in.packet) - 40; len(stream) < want; {
		f := r.read(r.endpoint)
		p := pkttest.Decode(t, f.packet)
		if p.TCP.Seq != 1<<31+uint32(len(stream)) {
			t.Fatalf("segment %d after %d bytes", p.TCP.Seq, len(stream))
		}
		if f.vnet[0] != needsCsum || p.IP.Checksum == 0 {
			t.Errorf("virtio_net_hdr %x, IP checksum %x", f.vnet, p.IP.Checksum)
		}
		stream = append(stream, p.Payload...)
		if p.TCP.PSH != (len(stream) == want) {
			t.Errorf("PSH is %v after %d bytes of %d", p.TCP.PSH, len(stream), want)
		}
	}
	if !bytes.Equal(stream, in.packet[40:]) {
		t.Error("the stream has changed")
	}
}

// Packets of one flow leave and return as super-packets where they come together; those of two flows do not mix.
func TestGeneveJoins(t *testing.T) {
	var sent []byte
	out, fd := pair(t)
	w := newWrapper(fd, tunnel)
	batch := newBatch()
	for i := range 5 {
		text := fmt.Sprintf("text %d", i)
		f := small(text)
		sent = append(sent, text...)
		copy(batch.mem[i][start:], f.packet)
		w.packet(batch.mem[i], start+len(f.packet))
	}
	other := pkttest.UDP(netip.MustParseAddrPort("10.0.1.11:40001"), there, []byte("other!"))
	copy(batch.mem[5][start:], other)
	w.packet(batch.mem[5], start+len(other))
	w.flush()
	r := &rig{t: t}
	first, second := r.read(out), r.read(out)
	if n, m := len(datagrams(t, first)), len(datagrams(t, second)); n != 5 || m != 1 {
		t.Fatalf("%d and %d datagrams, want 5 and 1", n, m)
	}
	u := &unwrapper{out: gather{fd: fd}}
	for i, f := range []frame{first, second} {
		copy(batch.mem[i][start-vnetHeader:], append(f.vnet, f.packet...))
		u.packet(batch.mem[i], start+len(f.packet))
	}
	u.flush()
	first, second = r.read(out), r.read(out)
	if p := pkttest.Decode(t, first.packet); !bytes.Equal(p.Payload, sent) || first.vnet[1] != gsoUDP {
		t.Errorf("came back as %q, type %d; want %q as a super-packet", p.Payload, first.vnet[1], sent)
	}
	if !bytes.Equal(second.packet, other) || !bytes.Equal(second.vnet, plainVnet) {
		t.Errorf("the other flow's packet came back as %x", second.packet)
	}
}

// Nothing that a device hands up stops the copier.
func FuzzGeneve(f *testing.F) {
	f.Add([]byte{0x45}, uint8(0), uint16(0))
	f.Add(pkttest.UDP(here, there, []byte("hello")), uint8(gsoUDP), uint16(2))
	f.Add(pkttest.TCP{Src: here, Dst: there, Flags: "PA", Payload: []byte("hello")}.Bytes(), uint8(1), uint16(2))
	f.Add(pkttest.Geneve{Src: here, Dst: netip.AddrPortFrom(there.Addr(), genevePort), Options: pkttest.AWSOptions(1, 2, 3),
		Inner: pkttest.TCP{Src: here, Dst: there, Flags: "A", Payload: []byte("hello")}.Bytes()}.Bytes(), uint8(0), uint16(0))
	w, u := newWrapper(-1, tunnel), &unwrapper{out: gather{fd: -1}}
	mem := newBatch().mem[0]
	f.Fuzz(func(_ *testing.T, p []byte, gso uint8, size uint16) {
		for _, way := range []struct {
			packet func([]byte, int)
			flush  func()
		}{{w.packet, w.flush}, {u.packet, u.flush}} {
			n := start + copy(mem[start:start+65535], p)
			clear(mem[start-vnetHeader : start])
			mem[start-vnetHeader+1] = gso
			binary.NativeEndian.PutUint16(mem[start-vnetHeader+4:], size)
			way.packet(mem, n)
			way.flush()
		}
	})
}
