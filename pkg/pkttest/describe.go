// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket/layers"
)

// Describe is a packet in one line, for test failures:
//
//	10.0.3.7:45678 > 10.0.9.9:80 [SA] seq 1 ack 2 win 65535 opts [mss 8460, nop, ws 7] len 0
//
// Bytes that are not one whole IP packet are called malformed, with the reason. Checksums are not looked at.
func Describe(b []byte) string {
	p, err := decode(b)
	if err != nil {
		return fmt.Sprintf("malformed (%v)", err)
	}
	return p.describe()
}

// describe is the line of Describe.
func (p *Packet) describe() string {
	src, dst := p.addrs()
	switch {
	case p.TCP != nil:
		t := p.TCP
		return fmt.Sprintf("%s [%s] seq %d ack %d win %d opts [%s] len %d", ends(src, t.SrcPort, dst, t.DstPort),
			flags(t), t.Seq, t.Ack, t.Window, options(t.Options), len(p.Payload))
	case p.UDP != nil:
		return ends(src, p.UDP.SrcPort, dst, p.UDP.DstPort) + p.describeDatagram()
	case p.ICMP != nil:
		line := fmt.Sprintf("%v > %v icmp %v", src, dst, p.ICMP.TypeCode)
		if q := p.quoted(); q != "" {
			return line + " about " + q
		}
		return fmt.Sprintf("%s id %d seq %d len %d", line, p.ICMP.Id, p.ICMP.Seq, len(p.Payload))
	case p.ICMP6 != nil:
		line := fmt.Sprintf("%v > %v icmp6 %v", src, dst, p.ICMP6.TypeCode)
		if q := p.quoted(); q != "" {
			return line + " about " + q
		}
		if rest := p.ICMP6.Payload; p.ICMP6.TypeCode.Type()&^1 == layers.ICMPv6TypeEchoRequest && len(rest) >= 4 {
			line += fmt.Sprintf(" id %d seq %d", binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:]))
		}
		return fmt.Sprintf("%s len %d", line, len(p.Payload))
	}
	if id, offset, more, ok := p.fragment(); ok {
		return fmt.Sprintf("%v > %v %v fragment id %d offset %d%s len %d", src, dst, p.Proto, id, offset, plus(more), len(p.Payload))
	}
	return fmt.Sprintf("%v > %v %v len %d", src, dst, p.Proto, len(p.Payload))
}

// ends are the ends of a flow with ports.
func ends[P ~uint16](src netip.Addr, srcPort P, dst netip.Addr, dstPort P) string {
	return fmt.Sprintf("%v > %v", netip.AddrPortFrom(src, uint16(srcPort)), netip.AddrPortFrom(dst, uint16(dstPort)))
}

// describeDatagram is what a UDP datagram holds.
func (p *Packet) describeDatagram() string {
	g := p.Geneve
	if g == nil {
		line := fmt.Sprintf(" udp len %d", len(p.Payload))
		if p.tunnelErr != nil {
			line += fmt.Sprintf(" malformed (%v)", p.tunnelErr)
		}
		return line
	}
	line := " geneve"
	for _, extra := range []struct {
		name string
		set  bool
	}{
		{fmt.Sprintf("version %d", g.Version), g.Version != 0}, {"oam", g.OAMPacket}, {"critical", g.CriticalOption},
		{fmt.Sprintf("vni %d", g.VNI), g.VNI != 0},
	} {
		if extra.set {
			line += " " + extra.name
		}
	}
	line += " opts [" + geneveOptions(g.Options) + "]"
	switch {
	case p.Inner != nil:
		return line + " (" + p.Inner.describe() + ")"
	case p.tunnelErr != nil:
		return fmt.Sprintf("%s malformed (%v)", line, p.tunnelErr)
	default:
		return fmt.Sprintf("%s %v len %d", line, g.Protocol, len(p.Payload))
	}
}

// geneveOptions are Geneve options, short.
func geneveOptions(list []*layers.GeneveOption) string {
	var s []string
	for _, o := range list {
		switch {
		case o.Class == classAWS && o.Type == 1 && len(o.Data) == 8:
			s = append(s, fmt.Sprintf("endpoint %x", o.Data))
		case o.Class == classAWS && o.Type == 2 && len(o.Data) == 8:
			s = append(s, fmt.Sprintf("attachment %d", binary.BigEndian.Uint64(o.Data)))
		case o.Class == classAWS && o.Type == 3 && len(o.Data) == 4:
			s = append(s, fmt.Sprintf("cookie %x", o.Data))
		default:
			s = append(s, strings.TrimRight(fmt.Sprintf("%#04x/%d %x", o.Class, o.Type, o.Data), " "))
		}
	}
	return strings.Join(s, ", ")
}

// quoted describes the packet that an ICMP or ICMPv6 error quotes, of which eight bytes behind the IP header are certain. It
// is empty for other messages. Extension headers are not stepped over.
func (p *Packet) quoted() string {
	isError := p.ICMP6 != nil && p.ICMP6.TypeCode.Type() < layers.ICMPv6TypeEchoRequest
	if p.ICMP != nil {
		switch p.ICMP.TypeCode.Type() {
		case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem:
			isError = true
		}
	}
	if !isError {
		return ""
	}
	b := p.Payload
	var proto layers.IPProtocol
	var src, dst, t []byte
	switch {
	case len(b) >= 28 && b[0]>>4 == 4 && int(b[0]&0xf)*4+8 <= len(b):
		proto, src, dst, t = layers.IPProtocol(b[9]), b[12:16], b[16:20], b[int(b[0]&0xf)*4:]
	case len(b) >= 48 && b[0]>>4 == 6:
		proto, src, dst, t = layers.IPProtocol(b[6]), b[8:24], b[24:40], b[40:]
	default:
		return fmt.Sprintf("%d bytes", len(b))
	}
	line := fmt.Sprintf("(%s %v", ends(addr(src), binary.BigEndian.Uint16(t), addr(dst), binary.BigEndian.Uint16(t[2:])), proto)
	if proto == layers.IPProtocolTCP {
		line += fmt.Sprintf(" seq %d", binary.BigEndian.Uint32(t[4:]))
	}
	return line + ")"
}

// flags are the letters of the flags that are set, "." for none.
func flags(t *layers.TCP) string {
	var s strings.Builder
	for i, set := range tcpFlags(t) {
		if *set {
			s.WriteByte(flagLetters[i])
		}
	}
	if s.Len() == 0 {
		return "."
	}
	return s.String()
}

// options are TCP options, short.
func options(list []layers.TCPOption) string {
	var s []string
	for _, o := range list {
		s = append(s, describeOption(o))
	}
	return strings.Join(s, ", ")
}

// describeOption is one TCP option, short.
func describeOption(o layers.TCPOption) string {
	d := o.OptionData
	switch {
	case o.OptionType == layers.TCPOptionKindEndList:
		return "end"
	case o.OptionType == layers.TCPOptionKindNop:
		return "nop"
	case o.OptionType == layers.TCPOptionKindMSS && len(d) == 2:
		return fmt.Sprintf("mss %d", binary.BigEndian.Uint16(d))
	case o.OptionType == layers.TCPOptionKindWindowScale && len(d) == 1:
		return fmt.Sprintf("ws %d", d[0])
	case o.OptionType == layers.TCPOptionKindSACKPermitted && len(d) == 0:
		return "sackok"
	case o.OptionType == layers.TCPOptionKindSACK && len(d)%8 == 0:
		s := "sack"
		for ; len(d) > 0; d = d[8:] {
			s += fmt.Sprintf(" %d-%d", binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:]))
		}
		return s
	case o.OptionType == layers.TCPOptionKindTimestamps && len(d) == 8:
		return fmt.Sprintf("ts %d/%d", binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:]))
	default:
		return strings.TrimRight(fmt.Sprintf("opt %d %x", o.OptionType, d), " ")
	}
}

// plus is a mark when fragments follow.
func plus(more bool) string {
	if more {
		return "+"
	}
	return ""
}

// addr is four or sixteen bytes as an address.
func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// hexDump is b as lines of sixteen bytes, the first KiB at most.
func hexDump(b []byte) string {
	const limit = 1024
	s := hex.Dump(b[:min(len(b), limit)])
	if len(b) > limit {
		s += fmt.Sprintf("... %d bytes more\n", len(b)-limit)
	}
	return s
}
