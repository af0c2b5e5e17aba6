// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// vectorA is the header of the bed's connection, computed by an independent program from AWS's format.
const vectorA = "0d0a0d0a000d0a515549540a 21 11 0054 0a000307 0a000909 b26e 0050 03 0004 42a7aff5 " +
	"ea 0017 01 767063652d3031323334353637383961626364656630 04 0024"

// proxyHeader is vectorA with its padding.
func proxyHeader() []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(vectorA, " ", "") + strings.Repeat("00", 36))
	if err != nil {
		panic(err)
	}
	return b
}

// super is a segment from the client as a kernel with segmentation offload hands it over: with a partial checksum, to
// be cut into segments of size bytes of payload.
func super(p pkttest.TCP, size int) *port.Buffer {
	if !p.Src.IsValid() {
		p = atEndpoint(p)
	}
	buf := partial(p)
	buf.GSOType, buf.GSOSize, buf.HdrLen = port.GSOTCPv4, uint16(size), uint16(buf.Len()-len(p.Payload))
	return buf
}

// full is a segment with a complete checksum and no offload fields.
func full(p pkttest.TCP) *port.Buffer {
	if !p.Src.IsValid() {
		p = atEndpoint(p)
	}
	buf := port.NewBuffer()
	buf.Set(p.Bytes())
	return buf
}

// withIPOptions puts n bytes of no-operation options into the IPv4 header.
func withIPOptions(buf *port.Buffer, n int) *port.Buffer {
	old := append([]byte(nil), buf.Bytes()...)
	b := buf.SetLen(len(old) + n)
	copy(b[20+n:], old[20:])
	for i := range n {
		b[20+i] = 1
	}
	b[0] += byte(n / 4)
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	b[10], b[11] = 0, 0
	sum := slowSum(b[:20+n])
	b[10], b[11] = byte(^sum>>8), byte(^sum)
	buf.CsumStart += uint16(n)
	if buf.HdrLen > 0 {
		buf.HdrLen += uint16(n)
	}
	return buf
}

// slowSum is the Internet checksum before its complement, one word at a time.
func slowSum(b []byte) uint16 {
	sum := 0
	for i, v := range b {
		sum += int(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum%0x10000 + sum/0x10000
	}
	return uint16(sum)
}

// superCase is a first segment of a connection with a PROXY header.
type superCase struct {
	name      string
	mss       uint16 // the target's
	payload   int
	size      int // of the input's segments, 0 where it is a plain packet with a complete checksum
	opts      []layers.TCPOption
	flags     string // besides ACK
	urgent    uint16
	early     uint32 // the segment begins so many bytes before the client's first
	ipOptions int
	// largest is the most payload that a segment toward the target may carry.
	largest int
}

var superCases = []superCase{
	{name: "fits beside the header", mss: 8460, payload: 8360, largest: 8460},
	{name: "one byte too long", mss: 8460, payload: 8361, largest: 8460},
	{name: "as long as the target takes", mss: 8460, payload: 8460, largest: 8460},
	{name: "client knows no MSS", mss: 536, payload: 536, largest: 536},
	{name: "smallest MSS", mss: minProxyMSS, payload: 536, largest: minProxyMSS},
	{name: "smallest MSS, all options", mss: minProxyMSS, payload: 536, opts: fortyBytes, ipOptions: 40, largest: 102},
	{name: "odd payload", mss: 1460, payload: 1461, largest: 1460},
	{name: "timestamps count", mss: 1460, payload: 1448, opts: timestamps, largest: 1448},
	{name: "IP options count", mss: 1460, payload: 1460, ipOptions: 8, largest: 1452},
	{name: "last flags", mss: 536, payload: 1000, flags: "PF", largest: 536},
	{name: "super-packet", mss: 8460, payload: 60000, size: 8348, opts: timestamps, largest: 8348},
	{name: "super-packet, odd size and payload", mss: 1460, payload: 20001, size: 1361, largest: 1361},
	{name: "super-packet of two segments", mss: 1460, payload: 1361, size: 1360, largest: 1360},
	{name: "super-packet, PSH and FIN last", mss: 1460, payload: 5000, size: 1360, flags: "PF", largest: 1360},
	{name: "super-packet with larger segments than the target takes", mss: 1000, payload: 20000, size: 1360, largest: 1000},
	{name: "super-packet with segments shorter than the header", mss: 1460, payload: 500, size: 60, largest: 100},
	{name: "just short enough for one", mss: 8460, payload: 65535 - 40 - 100, size: 8360, largest: 8360},
	{name: "one byte too long for one", mss: 8460, payload: 65535 - 40 - 99, size: 8360, largest: 8360},
	{name: "as long as can be", mss: 8460, payload: 65535 - 52, size: 8348, opts: timestamps, flags: "P", largest: 8348},
	{name: "as long as can be, odd size", mss: 8460, payload: 65535 - 40, size: 1447, flags: "PF", largest: 1447},
	{name: "as long as can be, tiny segments", mss: 536, payload: 65535 - 40, size: 61, largest: 102},
	{name: "as long as can be, larger segments than the target takes", mss: 700, payload: 65535 - 40, size: 1360, largest: 700},
	{name: "begins one byte early", mss: 1460, payload: 800, early: 1, largest: 1460},
	{name: "begins two bytes early", mss: 1460, payload: 801, early: 2, largest: 1460},
	{name: "super-packet that begins early", mss: 1460, payload: 9000, size: 1360, early: 3, largest: 1360},
	{name: "super-packet that begins early and is one no more", mss: 1460, payload: 1361, size: 1360, early: 4, largest: 1460},
	{name: "as long as can be and begins early", mss: 8460, payload: 65535 - 40, size: 8360, early: 1, largest: 8360},
	{name: "urgent", mss: 1460, payload: 100, flags: "U", urgent: 7, largest: 1460},
	{name: "urgent and early", mss: 1460, payload: 100, flags: "U", urgent: 7, early: 5, largest: 1460},
	{name: "urgent data before the first byte", mss: 1460, payload: 100, flags: "U", urgent: 3, early: 5, largest: 1460},
	{name: "congestion window reduced", mss: 1460, payload: 9000, size: 1360, flags: "C", largest: 1360},
	{name: "as long as can be, congestion window reduced", mss: 8460, payload: 65535 - 40, size: 8360, flags: "C", largest: 8360},
}

var (
	timestamps = []layers.TCPOption{pkttest.NOP(), pkttest.NOP(), pkttest.Timestamps(1, 2)}
	fortyBytes = append(timestamps[:3:3], pkttest.NOP(), pkttest.NOP(), pkttest.SACK(1, 2, 3, 4, 5, 6))
)

// input is the case's packet, with a partial checksum if it is a super-packet or partialSum is set.
func (c *superCase) input(isn uint32, partialSum bool) *port.Buffer {
	p := pkttest.TCP{Seq: isn + 1 - c.early, Ack: targetISN + 1, Flags: "A" + c.flags, Window: 77, Urgent: c.urgent, Options: c.opts, Payload: []byte(long(c.payload))}
	var buf *port.Buffer
	switch {
	case c.size > 0:
		buf = super(p, c.size)
		if strings.Contains(c.flags, "C") {
			buf.GSOType |= port.GSOECN
		}
	case partialSum:
		buf = partial(atEndpoint(p))
	default:
		buf = full(p)
	}
	if c.ipOptions > 0 {
		withIPOptions(buf, c.ipOptions)
	}
	return buf
}

func TestFirstSegmentWithHeader(t *testing.T) {
	for i := range superCases {
		c := &superCases[i]
		t.Run(c.name, func(t *testing.T) {
			for _, isn := range []uint32{clientISN, 0xffffffff, 0xfffffff0, 0xffff8000} {
				for _, partialSum := range []bool{false, true} {
					st := newState()
					withProxy(st)
					b := newBed(t, st, Config{})
					b.connect(clientAddr, isn, c.mss)
					b.consumer.InjectBuffers(0, c.input(isn, partialSum))
					b.step(0)
					c.check(b, isn)
				}
			}
		})
	}
}

// check looks at what the target receives, cut as the device would cut it.
func (c *superCase) check(b *bed, isn uint32) {
	b.Helper()
	checkOffload(b)
	segments := b.provider.Take(0)
	if drops := b.drops(); len(segments) == 0 || len(drops) > 0 {
		b.Fatalf("%d segments, drops %v", len(segments), drops)
	}
	var stream []byte
	for i, seg := range segments {
		pkttest.Verify(b, seg)
		p := pkttest.Decode(b, seg)
		last := i == len(segments)-1
		if want := isn + 1 + uint32(len(stream)); p.TCP.Seq != want {
			b.Fatalf("segment %d has number %d, want %d", i, p.TCP.Seq, want)
		}
		if n := len(p.Payload); n > c.largest || n == 0 || len(seg) > EndpointMTU {
			b.Errorf("segment %d has %d bytes of payload, at most %d wanted", i, n, c.largest)
		}
		if p.TCP.PSH != (last && strings.Contains(c.flags, "P")) || p.TCP.FIN != (last && strings.Contains(c.flags, "F")) ||
			p.TCP.CWR != (i == 0 && strings.Contains(c.flags, "C")) || p.TCP.Ack != targetISN+1 || p.TCP.Window != 77 {
			b.Errorf("segment %d of %d: %s", i, len(segments), pkttest.Describe(seg))
		}
		if i == 0 {
			c.checkFirst(b, seg)
		}
		stream = append(stream, p.Payload...)
	}
	if want := append(proxyHeader(), long(c.payload)[c.early:]...); !bytes.Equal(stream, want) {
		b.Errorf("the target reads %d bytes that differ from the header and %d bytes", len(stream), len(want)-100)
	}
}

// checkFirst checks that the header is whole in the first segment, and where urgent data ends.
func (c *superCase) checkFirst(b *bed, seg []byte) {
	b.Helper()
	p := pkttest.Decode(b, seg)
	if !bytes.HasPrefix(p.Payload, proxyHeader()) {
		b.Errorf("the first segment has %d bytes and not the whole header: % x", len(p.Payload), p.Payload[:min(100, len(p.Payload))])
	}
	if !strings.Contains(c.flags, "U") {
		return
	}
	want, has := int(c.urgent)-int(c.early)+100, c.urgent > uint16(c.early)
	if !has {
		want = 0
	}
	if p.TCP.URG != has || int(p.TCP.Urgent) != want {
		b.Errorf("urgent %v, pointer %d; want %v, %d", p.TCP.URG, p.TCP.Urgent, has, want)
	}
}

// checkOffload sends what waits at the provider's side once more, after checking that it keeps the rules of a port.
func checkOffload(b *bed) {
	b.Helper()
	bufs := b.provider.TakeBuffers(0)
	for _, buf := range bufs {
		pkt := buf.Bytes()
		if len(pkt) > port.MaxPacket || int(pkt[2])<<8|int(pkt[3]) != len(pkt) {
			b.Errorf("packet of %d bytes says it has %d", len(pkt), int(pkt[2])<<8|int(pkt[3]))
		}
		l4 := uint16(pkt[0]&0xf) * 4
		hdr := l4 + uint16(pkt[l4+12]>>4)*4
		partial := buf.Flags&port.NeedsCsum != 0
		if partial && (buf.CsumStart != l4 || buf.CsumOffset != 16) {
			b.Errorf("checksum at %d+%d, want %d+16", buf.CsumStart, buf.CsumOffset, l4)
		}
		if buf.GSOType != port.GSONone && (!partial || buf.HdrLen != hdr || len(pkt)-int(hdr) <= int(buf.GSOSize)) {
			b.Errorf("super-packet of %d bytes, headers %d: %+v", len(pkt), hdr, buf.Offload)
		}
	}
	b.provider.Send(0, bufs)
}

// TestSuperPacketsPassWhole sends super-packets both ways of a connection past its beginning: they stay whole, with
// their numbers shifted.
func TestSuperPacketsPassWhole(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		st := newState()
		shift := uint32(0)
		if proxy {
			withProxy(st)
			shift = 100
		}
		b := newBed(t, st, Config{})
		node := b.connect(clientAddr, clientISN, 8960)
		b.fromClient(atEndpoint(data(firstSeq, targetISN+1, "GET")).Bytes())

		b.consumer.InjectBuffers(0, super(data(firstSeq+3, targetISN+1, long(60001)), 8347))
		b.step(0)
		out := b.provider.TakeBuffers(0)
		if len(out) != 1 || out[0].GSOSize != 8347 || out[0].Len() != 60001+52 {
			t.Fatalf("%d packets", len(out))
		}
		b.provider.Send(0, out)
		joined := joinSegments(t, b.provider.Take(0), firstSeq+3+shift)
		if joined != long(60001) {
			t.Error("data differs toward the target")
		}

		reply := data(targetISN+1, firstSeq+3+shift, long(50000))
		reply.Src, reply.Dst = targetAddr, node
		b.provider.InjectBuffers(0, super(reply, 8448))
		b.step(0)
		in := b.consumer.Take(0)
		if joinSegments(t, in, targetISN+1) != long(50000) {
			t.Error("data differs toward the client")
		}
		if p := pkttest.Decode(t, in[0]); p.TCP.Ack != firstSeq+3 || len(in) != 6 {
			t.Errorf("%d segments, ack %d", len(in), p.TCP.Ack)
		}
	}
}

// joinSegments is the payload of segments that follow each other from a number on.
func joinSegments(t *testing.T, segments [][]byte, from uint32) string {
	t.Helper()
	var s []byte
	for _, seg := range segments {
		pkttest.Verify(t, seg)
		p := pkttest.Decode(t, seg)
		if p.TCP.Seq != from+uint32(len(s)) {
			t.Fatalf("%s, want number %d", pkttest.Describe(seg), from+uint32(len(s)))
		}
		s = append(s, p.Payload...)
	}
	return string(s)
}

func TestSuperPacketIsJudgedBySegment(t *testing.T) {
	b := newBed(t, newState(), Config{})
	b.connect(clientAddr, clientISN, 8960)
	for _, c := range []struct {
		size  int
		drops uint64
	}{{8460, 0}, {8461, 1}} {
		p := pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(40000))}
		b.consumer.InjectBuffers(0, super(p, c.size))
		b.step(0)
		if b.dropped(TooBig) != c.drops {
			t.Errorf("segments of %d bytes: %d drops, want %d", c.size+40, b.dropped(TooBig), c.drops)
		}
	}
}

// TestSYNWithDataAsSuperPacket sends a Fast Open SYN so long that a kernel hands it over unsegmented.
func TestSYNWithDataAsSuperPacket(t *testing.T) {
	st := newState()
	withProxy(st)
	b := newBed(t, st, Config{})
	p := syn
	p.Payload = []byte(long(20001))
	b.consumer.InjectBuffers(0, super(p, 1400))
	b.step(0)
	checkOffload(b)
	if got := pkttest.Decode(t, b.one(b.provider.Take(0))); len(got.Payload) != 0 || !got.TCP.SYN || got.TCP.Seq != clientISN {
		t.Errorf("%+v", got.TCP)
	}
}
