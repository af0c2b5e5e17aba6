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

// fieldList is fields in the order of a packet's bytes.
type fieldList []field

func (l *fieldList) add(name, format string, v ...any) {
	*l = append(*l, field{name, fmt.Sprintf(format, v...)})
}

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

// fields are the header fields of a packet, those of a packet in it behind them.
func fields(p *Packet) fieldList {
	var out fieldList
	if p.IP6 != nil {
		out.addIPv6(p)
	} else {
		out.addIPv4(p)
	}
	out.addTransport(p)
	if g := p.Geneve; g != nil {
		out.add("geneve.version", "%d", g.Version)
		out.add("geneve.options length", "%d", g.OptionsLength)
		out.add("geneve.oam", "%v", g.OAMPacket)
		out.add("geneve.critical", "%v", g.CriticalOption)
		out.add("geneve.protocol", "%v", g.Protocol)
		out.add("geneve.vni", "%d", g.VNI)
		out.add("geneve.options", "[%s]", geneveOptions(g.Options))
	}
	out.add("payload length", "%d", len(p.Payload))
	if p.Inner != nil {
		for _, f := range fields(p.Inner) {
			out.add("inner "+f.name, "%s", f.value)
		}
	}
	return out
}

// addIPv4 adds the fields of the IPv4 header.
func (l *fieldList) addIPv4(p *Packet) {
	ip := &p.IP
	l.add("ip.ihl", "%d", ip.IHL)
	l.add("ip.tos", "%#02x", ip.TOS)
	l.add("ip.length", "%d", ip.Length)
	l.add("ip.id", "%#04x", ip.Id)
	l.add("ip.flags", "%v", ip.Flags)
	l.add("ip.fragment offset", "%d", int(ip.FragOffset)*8)
	l.add("ip.ttl", "%d", ip.TTL)
	l.add("ip.protocol", "%v", ip.Protocol)
	l.add("ip.checksum", "%#04x", ip.Checksum)
	l.add("ip.src", "%v", ip.SrcIP)
	l.add("ip.dst", "%v", ip.DstIP)
	l.add("ip.options", "%x", ip.Contents[20:])
}

// addIPv6 adds the fields of the IPv6 header and of the fragment header. Other extension headers show in the bytes.
func (l *fieldList) addIPv6(p *Packet) {
	ip := p.IP6
	l.add("ip6.traffic class", "%#02x", ip.TrafficClass)
	l.add("ip6.flow label", "%#05x", ip.FlowLabel)
	l.add("ip6.payload length", "%d", ip.Length)
	l.add("ip6.next header", "%v", ip.NextHeader)
	l.add("ip6.hop limit", "%d", ip.HopLimit)
	l.add("ip6.src", "%v", ip.SrcIP)
	l.add("ip6.dst", "%v", ip.DstIP)
	l.add("ip6.extensions length", "%d", int(ip.Length)-len(p.L4))
	if f := p.Frag6; f != nil {
		l.add("ip6.fragment id", "%#08x", f.Identification)
		l.add("ip6.fragment offset", "%d", int(f.FragmentOffset)*8)
		l.add("ip6.more fragments", "%v", f.MoreFragments)
	}
	l.add("ip6.protocol", "%v", p.Proto)
}

// addTransport adds the fields of the transport header.
func (l *fieldList) addTransport(p *Packet) {
	switch {
	case p.TCP != nil:
		t := p.TCP
		l.add("tcp.src", "%d", uint16(t.SrcPort))
		l.add("tcp.dst", "%d", uint16(t.DstPort))
		l.add("tcp.seq", "%d", t.Seq)
		l.add("tcp.ack", "%d", t.Ack)
		l.add("tcp.header length", "%d", int(t.DataOffset)*4)
		l.add("tcp.flags", "%s", flags(t))
		l.add("tcp.window", "%d", t.Window)
		l.add("tcp.checksum", "%#04x", t.Checksum)
		l.add("tcp.urgent", "%d", t.Urgent)
		l.add("tcp.options", "[%s] %x", options(t.Options), t.Contents[20:])
	case p.UDP != nil:
		u := p.UDP
		l.add("udp.src", "%d", uint16(u.SrcPort))
		l.add("udp.dst", "%d", uint16(u.DstPort))
		l.add("udp.length", "%d", u.Length)
		l.add("udp.checksum", "%#04x", u.Checksum)
	case p.ICMP != nil:
		m := p.ICMP
		l.add("icmp.type", "%v", m.TypeCode)
		l.add("icmp.checksum", "%#04x", m.Checksum)
		l.add("icmp.rest", "%04x%04x", m.Id, m.Seq)
	case p.ICMP6 != nil:
		m := p.ICMP6
		l.add("icmp6.type", "%v", m.TypeCode)
		l.add("icmp6.checksum", "%#04x", m.Checksum)
		l.add("icmp6.rest", "%x", window(m.Payload, 0, 4))
	}
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
