// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// segmentAt is the n-th of segments of 1000 bytes that follow each other.
func segmentAt(n int, change func(*pkttest.TCP)) []byte {
	return segmentOf(n, change, false)
}

func segmentOf(n int, change func(*pkttest.TCP), v6 bool) []byte {
	p := pkttest.TCP{Seq: 1000 + 1000*uint32(n), Ack: 7, Flags: "A", Window: 50, TOS: 0x20, Options: timestamps, Payload: []byte(long(1000))}
	if change != nil {
		change(&p)
	}
	if v6 {
		return between(p, client6Addr, server6Addr).Bytes()
	}
	return fromHere(p).Bytes()
}

// patched is a packet with some bytes replaced. Its checksums are made right again, or not.
func patched(pkt []byte, at int, v byte, sums bool) []byte {
	b := bytes.Clone(pkt)
	b[at] = v
	if sums {
		complete(b)
	}
	return b
}

// numbered is a segment with an identification, without DF.
func numbered(n int, id uint16) []byte {
	return segmentAt(n, func(p *pkttest.TCP) { p.ID, p.NoDF = id, true })
}

func datagramOf(payload string) []byte { return pkttest.UDP(clientAddr, serverAddr, []byte(payload)) }

// mergeCase is what comes back from an appliance in one batch.
type mergeCase struct {
	name string
	in   [][]byte
	want []int // how many of them each packet that leaves holds
}

// second is the case of two segments, of which the second differs from one that would follow the first. They stay two.
func second(name string, change func(*pkttest.TCP)) mergeCase {
	return mergeCase{name, [][]byte{segmentAt(0, nil), segmentAt(1, change)}, []int{1, 1}}
}

// patchedSecond is second with a byte of the packet.
func patchedSecond(name string, at int, v byte) mergeCase {
	return mergeCase{name, [][]byte{segmentAt(0, nil), patched(segmentAt(1, nil), at, v, true)}, []int{1, 1}}
}

var mergeCases = []mergeCase{
	{"three that follow each other", [][]byte{segmentAt(0, nil), segmentAt(1, nil), segmentAt(2, nil)}, []int{3}},
	{"IPv6", [][]byte{segmentOf(0, nil, true), segmentOf(1, nil, true)}, []int{2}},
	second("acknowledgement", func(p *pkttest.TCP) { p.Ack++ }),
	second("window", func(p *pkttest.TCP) { p.Window++ }),
	second("option", func(p *pkttest.TCP) {
		p.Options = []layers.TCPOption{pkttest.NOP(), pkttest.NOP(), pkttest.Timestamps(1, 3)}
	}),
	second("no options", func(p *pkttest.TCP) { p.Options = nil }),
	second("TTL", func(p *pkttest.TCP) { p.TTL = 63 }),
	second("TOS", func(p *pkttest.TCP) { p.TOS = 0x21 }),
	second("DF", func(p *pkttest.TCP) { p.NoDF = true }),
	second("gap", func(p *pkttest.TCP) { p.Seq++ }),
	second("overlap", func(p *pkttest.TCP) { p.Seq-- }),
	second("repetition", func(p *pkttest.TCP) { p.Seq -= 1000 }),
	second("longer", func(p *pkttest.TCP) { p.Payload = []byte(long(1001)) }),
	second("no data", func(p *pkttest.TCP) { p.Payload = nil }),
	second("SYN", func(p *pkttest.TCP) { p.Flags = "SA" }),
	second("RST", func(p *pkttest.TCP) { p.Flags = "RA" }),
	second("URG", func(p *pkttest.TCP) { p.Flags = "UA" }),
	second("ECE", func(p *pkttest.TCP) { p.Flags = "EA" }),
	second("CWR", func(p *pkttest.TCP) { p.Flags = "CA" }),
	second("no ACK", func(p *pkttest.TCP) { p.Flags = "P" }),
	second("urgent pointer", func(p *pkttest.TCP) { p.Urgent = 1 }),
	patchedSecond("accurate ECN flag", 32, 0x81),
	patchedSecond("reserved bit", 32, 0x82),
	patchedSecond("evil bit", 6, 0xc0),
	{"hop limit", [][]byte{segmentOf(0, nil, true), patched(segmentOf(1, nil, true), 7, 63, false)}, []int{1, 1}},
	{"traffic class", [][]byte{segmentOf(0, nil, true), patched(segmentOf(1, nil, true), 1, 0x10, false)}, []int{1, 1}},
	{"flow label", [][]byte{segmentOf(0, nil, true), patched(segmentOf(1, nil, true), 3, 9, false)}, []int{1, 1}},
	{"identification counts up", [][]byte{numbered(0, 0xffff), numbered(1, 0), numbered(2, 1)}, []int{3}},
	{"identification stays", [][]byte{numbered(0, 5), numbered(1, 5)}, []int{1, 1}},
	{"identification leaps", [][]byte{numbered(0, 5), numbered(1, 6), numbered(2, 8)}, []int{2, 1}},
	{"shorter one closes", [][]byte{segmentAt(0, nil), segmentAt(1, func(p *pkttest.TCP) { p.Payload = []byte(long(999)) }),
		segmentAt(2, func(p *pkttest.TCP) { p.Seq-- })}, []int{2, 1}},
	{"PSH closes", [][]byte{segmentAt(0, nil), segmentAt(1, func(p *pkttest.TCP) { p.Flags = "PA" }), segmentAt(2, nil)}, []int{2, 1}},
	{"PSH at first", [][]byte{segmentAt(0, func(p *pkttest.TCP) { p.Flags = "PA" }), segmentAt(1, nil), segmentAt(2, nil)}, []int{1, 2}},
	{"FIN closes", [][]byte{segmentAt(0, nil), segmentAt(1, func(p *pkttest.TCP) { p.Flags = "FA" }), segmentAt(2, nil)}, []int{2, 1}},
	{"pure acknowledgement between", [][]byte{segmentAt(0, nil), segmentAt(1, func(p *pkttest.TCP) { p.Payload = nil }), segmentAt(1, nil), segmentAt(2, nil)},
		[]int{1, 1, 2}},
	{"SYN between", [][]byte{segmentAt(0, nil), segmentAt(9, func(p *pkttest.TCP) { p.Flags, p.Payload = "S", nil }), segmentAt(1, nil)}, []int{1, 1, 1}},
	{"wrong checksum", [][]byte{segmentAt(0, nil), patched(segmentAt(1, nil), 99, 'x', false), segmentAt(1, nil), segmentAt(2, nil)}, []int{1, 1, 2}},
	{"wrong checksum at first", [][]byte{patched(segmentAt(0, nil), 99, 'x', false), segmentAt(1, nil), segmentAt(2, nil)}, []int{1, 2}},
	{"wrong header checksum", [][]byte{segmentAt(0, nil), patched(segmentAt(1, nil), 10, 0, false), segmentAt(2, nil)}, []int{1, 1, 1}},
	{"wrong header checksum at first", [][]byte{patched(segmentAt(0, nil), 10, 0, false), segmentAt(1, nil)}, []int{1, 1}},
	{"both directions", [][]byte{segmentAt(0, nil), fromThere(ack(7, 2000)).Bytes(), segmentAt(1, nil)}, []int{2, 1}},
	{"options in the IP header", [][]byte{withIPOptions(plain(segmentAt(0, nil)), 4).Bytes(), withIPOptions(plain(segmentAt(1, nil)), 4).Bytes()}, []int{1, 1}},

	{"datagrams", [][]byte{datagramOf("first"), datagramOf("other"), datagramOf("third")}, []int{3}},
	{"shorter datagram closes", [][]byte{datagramOf("first"), datagramOf("two"), datagramOf("xyz")}, []int{2, 1}},
	{"longer datagram", [][]byte{datagramOf("first"), datagramOf("second")}, []int{1, 1}},
	{"empty datagram", [][]byte{datagramOf("first"), datagramOf(""), datagramOf("third")}, []int{1, 1, 1}},
	{"datagram without checksum", [][]byte{datagramOf("first"), patched(patched(datagramOf("other"), 26, 0, false), 27, 0, false), datagramOf("third")}, []int{1, 1, 1}},
	{"datagram with wrong checksum", [][]byte{datagramOf("first"), patched(datagramOf("other"), 28, 'x', false), datagramOf("third")}, []int{1, 1, 1}},
	{"datagram with another TTL", [][]byte{datagramOf("first"), otherTTL(datagramOf("other")), datagramOf("third")}, []int{1, 1, 1}},
	{"datagram with a wrong length", [][]byte{datagramOf("first"), patched(datagramOf("other"), 25, 12, false), datagramOf("third")}, []int{1, 1, 1}},
}

func otherTTL(b []byte) []byte {
	b = patched(b, 8, 9, false)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^slowSum(b[:20]))
	return b
}

// TestMerging returns packets one by one, and in super-packets as far as they have one length.
func TestMerging(t *testing.T) {
	for _, c := range mergeCases {
		t.Run(c.name, func(t *testing.T) {
			for _, whole := range []bool{false, true} {
				b := newBed(t, gatewayState(), Config{})
				b.open()
				_, udp := b.toAppliances(plain(datagram))
				_, tcp := b.toAppliances(plain(segmentAt(0, nil)))
				_, tcp6 := b.toAppliances(plain(segmentOf(0, nil, true)))
				var in []*port.Buffer
				for _, inner := range c.in {
					header := udp
					switch {
					case inner[0]>>4 == 6:
						header = tcp6
					case inner[9] == 6:
						header = tcp
					}
					in = append(in, plain(returned(hairpin(header[0]), swapInner(inner))))
				}
				if whole {
					in = joined(in)
				}
				leaves, packets := b.fromAppliances(in...)
				var got []int
				for _, buf := range leaves {
					got = append(got, buf.Segments())
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("%v packets merged, want %v; drops %v", got, c.want, b.drops())
				}
				byDirection(packets)
				want := slices.Clone(c.in)
				byDirection(want)
				wantPackets(t, withoutIDs(packets), withoutIDs(want))
			}
		})
	}
}

// byDirection sorts packets by their direction, in each of which they keep their order.
func byDirection(list [][]byte) {
	slices.SortStableFunc(list, func(a, b []byte) int { return bytes.Compare(a[12:16], b[12:16]) })
}

// joined makes super-packets of datagrams that could be cut from one.
func joined(list []*port.Buffer) (out []*port.Buffer) {
	var size int
	open := false
	for _, buf := range list {
		payload := buf.Bytes()[geneveStart:]
		if !open || len(payload) > size || !bytes.Equal(out[len(out)-1].Bytes()[12:24], buf.Bytes()[12:24]) {
			out, size, open = append(out, plain(buf.Bytes())), len(payload), true
			continue
		}
		last := out[len(out)-1]
		n := last.Len()
		copy(last.SetLen(n + len(payload))[n:], payload)
		b := last.Bytes()
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^slowSum(b[:20]))
		last.Offload = port.Offload{Flags: port.NeedsCsum, GSOType: port.GSOUDP, HdrLen: geneveStart, GSOSize: uint16(size), CsumStart: 20, CsumOffset: 6}
		open = len(payload) == size
	}
	return out
}

// TestMergesAreBounded merges as many segments as a packet holds, and datagrams as a run may have.
func TestMergesAreBounded(t *testing.T) {
	b := newBed(t, gatewayState(), Config{})
	b.open()
	var in []*port.Buffer
	want := 0
	for i := range 50 {
		_, out := b.toAppliances(plain(segmentAt(i, func(p *pkttest.TCP) {
			p.Seq, p.Payload = uint32(1000+1448*i), []byte(long(1448))
		})))
		in = append(in, plain(out[0]))
		want += 1448
	}
	leaves, packets := b.fromAppliances(in...)
	if len(leaves) != 2 || leaves[0].Segments() != (port.MaxPacket-52)/1448 || len(packets) != 50 {
		t.Errorf("%d packets of %d segments", len(leaves), len(packets))
	}
	if n := len(joinSegments(t, packets, 1000)); n != want {
		t.Errorf("%d bytes, want %d", n, want)
	}
	in = nil
	for i := range 64 + 5 {
		_, out := b.toAppliances(plain(datagramOf(fmt.Sprintf("%03d", i))))
		in = append(in, plain(out[0]))
	}
	for i, buf := range in {
		copy(buf.Bytes(), hairpin(buf.Bytes()[:20]))
		b.provider.InjectBuffers(0, buf)
		if i == 63 {
			b.step(0)
		}
	}
	b.step(0)
	if got := b.consumer.TakeBuffers(0); len(got) != 2 || got[0].Segments() != 64 || got[1].Segments() != 5 {
		t.Errorf("%d packets", len(got))
	}
}
