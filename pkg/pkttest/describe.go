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
// Bytes that are not one whole IPv4 packet are called malformed, with the reason. Checksums are not looked at.
func Describe(b []byte) string {
	p, err := decode(b)
	if err != nil {
		return fmt.Sprintf("malformed (%v)", err)
	}
	src, dst := addr(p.IP.SrcIP), addr(p.IP.DstIP)
	switch {
	case p.TCP != nil:
		t := p.TCP
		return fmt.Sprintf("%v:%d > %v:%d [%s] seq %d ack %d win %d opts [%s] len %d", src, t.SrcPort, dst, t.DstPort,
			flags(t), t.Seq, t.Ack, t.Window, options(t.Options), len(p.Payload))
	case p.UDP != nil:
		return fmt.Sprintf("%v:%d > %v:%d udp len %d", src, p.UDP.SrcPort, dst, p.UDP.DstPort, len(p.Payload))
	case p.ICMP != nil:
		line := fmt.Sprintf("%v > %v icmp %v", src, dst, p.ICMP.TypeCode)
		if q := quoted(&p); q != "" {
			return line + " about " + q
		}
		return fmt.Sprintf("%s id %d seq %d len %d", line, p.ICMP.Id, p.ICMP.Seq, len(p.Payload))
	case p.IP.Flags&layers.IPv4MoreFragments != 0 || p.IP.FragOffset != 0:
		return fmt.Sprintf("%v > %v %v fragment id %d offset %d%s len %d", src, dst, p.IP.Protocol, p.IP.Id,
			int(p.IP.FragOffset)*8, more(&p.IP), len(p.Payload))
	default:
		return fmt.Sprintf("%v > %v %v len %d", src, dst, p.IP.Protocol, len(p.Payload))
	}
}

// quoted describes the packet that an ICMP error quotes, of which eight bytes behind the IP header are certain. It is empty
// for other messages.
func quoted(p *Packet) string {
	switch p.ICMP.TypeCode.Type() {
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem:
	default:
		return ""
	}
	b := p.Payload
	if len(b) < 20 || b[0]>>4 != 4 || int(b[0]&0xf)*4+8 > len(b) {
		return fmt.Sprintf("%d bytes", len(b))
	}
	proto, t := layers.IPProtocol(b[9]), b[int(b[0]&0xf)*4:]
	line := fmt.Sprintf("(%v:%d > %v:%d %v", addr(b[12:16]), binary.BigEndian.Uint16(t), addr(b[16:20]),
		binary.BigEndian.Uint16(t[2:]), proto)
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

// more is a mark when fragments follow.
func more(ip *layers.IPv4) string {
	if ip.Flags&layers.IPv4MoreFragments != 0 {
		return "+"
	}
	return ""
}

// addr is four bytes as an address.
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
