// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// defaultTTL is what a built packet carries where the test names no TTL or hop limit.
const defaultTTL = 64

// flagLetters are the letters of TCP flags, from the lowest bit up: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
const flagLetters = "FSRPAUEC"

// TCP describes a TCP segment. The zero value of a field is what the packet carries, save TTL.
type TCP struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    string // letters of FSRPAUEC in any order: "S", "SA", "A", "PA", "FA", "R", "RA"
	Window   uint16 // not scaled
	Options  []layers.TCPOption
	Payload  []byte
	TTL      uint8  // 0 means 64; IPv6 calls it hop limit
	ID       uint16 // IPv4 alone
	NoDF     bool   // leaves the DF flag clear; IPv4 alone
	TOS      uint8  // IPv6 calls it traffic class
	Urgent   uint16
}

// Bytes is the packet. Options are padded with zeros to a multiple of four bytes.
func (p TCP) Bytes() []byte {
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(p.Src.Port()), DstPort: layers.TCPPort(p.Dst.Port()),
		Seq: p.Seq, Ack: p.Ack, Window: p.Window, Urgent: p.Urgent, Options: p.Options,
	}
	for _, f := range p.Flags {
		i := strings.IndexRune(flagLetters, f)
		if i < 0 {
			panic(fmt.Sprintf("pkttest: TCP flag %q is none of %s", f, flagLetters))
		}
		*tcpFlags(tcp)[i] = true
	}
	ip := p.network()
	must(tcp.SetNetworkLayerForChecksum(ip))
	return serialize(ip, tcp, gopacket.Payload(p.Payload))
}

// network is the IP header of the segment.
func (p TCP) network() network {
	ttl := p.TTL
	if ttl == 0 {
		ttl = defaultTTL
	}
	ip := newNetwork(p.Src.Addr(), p.Dst.Addr(), layers.IPProtocolTCP)
	switch h := ip.(type) {
	case *layers.IPv4:
		h.TTL, h.Id, h.TOS = ttl, p.ID, p.TOS
		if p.NoDF {
			h.Flags = 0
		}
	case *layers.IPv6:
		if p.ID != 0 || p.NoDF {
			panic("pkttest: IPv6 has no ID and no DF flag")
		}
		h.HopLimit, h.TrafficClass = ttl, p.TOS
	}
	return ip
}

// tcpFlags are the flags of t in the order of flagLetters.
func tcpFlags(t *layers.TCP) [8]*bool {
	return [8]*bool{&t.FIN, &t.SYN, &t.RST, &t.PSH, &t.ACK, &t.URG, &t.ECE, &t.CWR}
}

// UDP is a datagram, over IPv4 with DF set.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	ip := newNetwork(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	must(udp.SetNetworkLayerForChecksum(ip))
	return serialize(ip, udp, gopacket.Payload(payload))
}

// ICMPEcho is an echo request, of ICMPv6 when the addresses are of IPv6.
func ICMPEcho(src, dst netip.Addr, id, seq uint16, payload []byte) []byte {
	if isIPv6(src) {
		typ := layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)
		return icmpv6(typ, src, dst, &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq}, gopacket.Payload(payload))
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}
	return serialize(newNetwork(src, dst, layers.IPProtocolICMPv4), icmp, gopacket.Payload(payload))
}

// ICMPError is an ICMP message whose payload is quoted, the head of the packet it is about. The four bytes that depend on the
// type are zero. When the addresses are of IPv6 it is an ICMPv6 message, whose types and codes are others.
func ICMPError(typ, code uint8, src, dst netip.Addr, quoted []byte) []byte {
	if isIPv6(src) {
		return icmpv6(layers.CreateICMPv6TypeCode(typ, code), src, dst, gopacket.Payload(make([]byte, 4)), gopacket.Payload(quoted))
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code)}
	return serialize(newNetwork(src, dst, layers.IPProtocolICMPv4), icmp, gopacket.Payload(quoted))
}

// icmpv6 is an ICMPv6 message whose body, from the four bytes on that depend on the type, is in the layers.
func icmpv6(typ layers.ICMPv6TypeCode, src, dst netip.Addr, body ...gopacket.SerializableLayer) []byte {
	icmp := &layers.ICMPv6{TypeCode: typ}
	ip := newNetwork(src, dst, layers.IPProtocolICMPv6)
	must(icmp.SetNetworkLayerForChecksum(ip))
	return serialize(append([]gopacket.SerializableLayer{ip, icmp}, body...)...)
}

// GRE is a packet in GRE, without the optional fields of its header.
func GRE(src, dst netip.Addr, inner []byte) []byte {
	gre := &layers.GRE{Protocol: etherType(inner)}
	return serialize(newNetwork(src, dst, layers.IPProtocolGRE), gre, gopacket.Payload(inner))
}

// Other is a packet of any protocol, or of a known one whose bytes are not what they should be.
func Other(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	return serialize(newNetwork(src, dst, layers.IPProtocol(proto)), gopacket.Payload(payload))
}

// Partial is a copy of a TCP or UDP packet whose transport checksum is in the form that a device with checksum offload
// hands over: the folded sum of the pseudo-header, not complemented.
func Partial(b []byte) []byte {
	p, err := decode(b)
	must(err)
	out := append([]byte(nil), b...)
	field := len(b) - len(p.L4)
	switch {
	case p.TCP != nil:
		field += 16
	case p.UDP != nil:
		field += 6
	default:
		panic("pkttest: Partial needs TCP or UDP, got " + Describe(b))
	}
	src, dst := p.addrs()
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = append(pseudo, 0, uint8(p.Proto))
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(p.L4)))
	binary.BigEndian.PutUint16(out[field:], ^gopacket.FoldChecksum(gopacket.ComputeChecksum(pseudo, 0)))
	return out
}

// network is an IP header of either family.
type network interface {
	gopacket.NetworkLayer
	gopacket.SerializableLayer
}

// newNetwork is an IP header with the defaults of this package.
func newNetwork(src, dst netip.Addr, proto layers.IPProtocol) network {
	if isIPv6(src) != isIPv6(dst) {
		panic(fmt.Sprintf("pkttest: %v and %v are not of one family", src, dst))
	}
	if isIPv6(src) {
		return &layers.IPv6{
			Version: 6, HopLimit: defaultTTL, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
	}
	return &layers.IPv4{
		Version: 4, TTL: defaultTTL, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: src.Unmap().AsSlice(), DstIP: dst.Unmap().AsSlice(),
	}
}

// isIPv6 says whether packets with the address are of IPv6.
func isIPv6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

// etherType is the protocol that a tunnel says pkt is, zero for an empty one.
func etherType(pkt []byte) layers.EthernetType {
	switch {
	case len(pkt) == 0:
		return 0
	case pkt[0]>>4 == 6:
		return layers.EthernetTypeIPv6
	default:
		return layers.EthernetTypeIPv4
	}
}

// serialize is the packet made of the layers, with lengths and checksums filled in.
func serialize(l ...gopacket.SerializableLayer) []byte {
	return serializeWith(gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...)
}

func serializeWith(opts gopacket.SerializeOptions, l ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buf, opts, l...))
	return buf.Bytes()
}

// must panics on an error, which here is a mistake in the test.
func must(err error) {
	if err != nil {
		panic("pkttest: build packet: " + err.Error())
	}
}
