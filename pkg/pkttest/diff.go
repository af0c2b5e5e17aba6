// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"bytes"
	"fmt"
	"strings"
)

// Diff says how got differs from want, for test failures: both packets in a line each, the header fields that differ, and
// the rows of bytes that differ. It is empty when the packets are equal byte for byte.
func Diff(want, got []byte) string {
	if bytes.Equal(want, got) {
		return ""
	}
	var s strings.Builder
	fmt.Fprintf(&s, "want %s\n got %s\n", Describe(want), Describe(got))
	diffFields(&s, want, got)
	diffBytes(&s, want, got)
	return s.String()
}

// field is a header field and its value, as text.
type field struct{ name, value string }

// diffFields writes the fields whose values differ or that one of the packets lacks.
func diffFields(s *strings.Builder, want, got []byte) {
	w, errWant := decode(want)
	g, errGot := decode(got)
	if errWant != nil || errGot != nil {
		return
	}
	gotFields := fields(&g)
	for _, f := range fields(&w) {
		v, rest, ok := take(gotFields, f.name)
		gotFields = rest
		switch {
		case !ok:
			fmt.Fprintf(s, "  %s: want %s, got none\n", f.name, f.value)
		case v != f.value:
			fmt.Fprintf(s, "  %s: want %s, got %s\n", f.name, f.value, v)
		}
	}
	for _, f := range gotFields {
		fmt.Fprintf(s, "  %s: want none, got %s\n", f.name, f.value)
	}
}

// take is the value of the named field and the fields without it.
func take(list []field, name string) (value string, rest []field, ok bool) {
	for i, f := range list {
		if f.name == name {
			return f.value, append(list[:i:i], list[i+1:]...), true
		}
	}
	return "", list, false
}

// fields are the header fields of a packet in the order of its bytes.
func fields(p *Packet) []field {
	var out []field
	add := func(name string, format string, v ...any) { out = append(out, field{name, fmt.Sprintf(format, v...)}) }
	ip := &p.IP
	add("ip.ihl", "%d", ip.IHL)
	add("ip.tos", "%#02x", ip.TOS)
	add("ip.length", "%d", ip.Length)
	add("ip.id", "%#04x", ip.Id)
	add("ip.flags", "%v", ip.Flags)
	add("ip.fragment offset", "%d", int(ip.FragOffset)*8)
	add("ip.ttl", "%d", ip.TTL)
	add("ip.protocol", "%v", ip.Protocol)
	add("ip.checksum", "%#04x", ip.Checksum)
	add("ip.src", "%v", ip.SrcIP)
	add("ip.dst", "%v", ip.DstIP)
	add("ip.options", "%x", ip.Contents[20:])
	if t := p.TCP; t != nil {
		add("tcp.src", "%d", uint16(t.SrcPort))
		add("tcp.dst", "%d", uint16(t.DstPort))
		add("tcp.seq", "%d", t.Seq)
		add("tcp.ack", "%d", t.Ack)
		add("tcp.header length", "%d", int(t.DataOffset)*4)
		add("tcp.flags", "%s", flags(t))
		add("tcp.window", "%d", t.Window)
		add("tcp.checksum", "%#04x", t.Checksum)
		add("tcp.urgent", "%d", t.Urgent)
		add("tcp.options", "[%s] %x", options(t.Options), t.Contents[20:])
	}
	if u := p.UDP; u != nil {
		add("udp.src", "%d", uint16(u.SrcPort))
		add("udp.dst", "%d", uint16(u.DstPort))
		add("udp.length", "%d", u.Length)
		add("udp.checksum", "%#04x", u.Checksum)
	}
	if m := p.ICMP; m != nil {
		add("icmp.type", "%v", m.TypeCode)
		add("icmp.checksum", "%#04x", m.Checksum)
		add("icmp.rest", "%04x%04x", m.Id, m.Seq)
	}
	add("payload length", "%d", len(p.Payload))
	return out
}

// diffBytes writes the rows of sixteen bytes that differ, the first eight of them.
func diffBytes(s *strings.Builder, want, got []byte) {
	const row, limit = 16, 8
	shown := 0
	for off := 0; off < max(len(want), len(got)); off += row {
		w, g := window(want, off, row), window(got, off, row)
		if bytes.Equal(w, g) {
			continue
		}
		if shown++; shown > limit {
			s.WriteString("  ...\n")
			return
		}
		fmt.Fprintf(s, "  %04x want % x\n       got % x\n", off, w, g)
	}
}

// window is b[off:off+n] as far as b goes.
func window(b []byte, off, n int) []byte {
	off = min(off, len(b))
	return b[off:min(off+n, len(b))]
}
