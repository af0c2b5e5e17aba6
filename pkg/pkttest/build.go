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

// defaultTTL is what a built packet carries where the test names no TTL.
const defaultTTL = 64

// flagLetters are the letters of TCP flags, from the lowest bit up: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
const flagLetters = "FSRPAUEC"

// TCP describes a TCP segment over IPv4. The zero value of a field is what the packet carries, save TTL.
type TCP struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    string // letters of FSRPAUEC in any order: "S", "SA", "A", "PA", "FA", "R", "RA"
	Window   uint16 // not scaled
	Options  []layers.TCPOption
	Payload  []byte
	TTL      uint8 // 0 means 64
	ID       uint16
	NoDF     bool // leaves the DF flag clear
	TOS      uint8
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
	ip := ipv4(p.Src.Addr(), p.Dst.Addr(), layers.IPProtocolTCP)
	ip.TTL, ip.Id, ip.TOS = p.TTL, p.ID, p.TOS
	if p.TTL == 0 {
		ip.TTL = defaultTTL
	}
	if p.NoDF {
		ip.Flags = 0
	}
	must(tcp.SetNetworkLayerForChecksum(ip))
	return serialize(ip, tcp, gopacket.Payload(p.Payload))
}

// tcpFlags are the flags of t in the order of flagLetters.
func tcpFlags(t *layers.TCP) [8]*bool {
	return [8]*bool{&t.FIN, &t.SYN, &t.RST, &t.PSH, &t.ACK, &t.URG, &t.ECE, &t.CWR}
}

// UDP is a datagram over IPv4 with DF set.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	ip := ipv4(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	must(udp.SetNetworkLayerForChecksum(ip))
	return serialize(ip, udp, gopacket.Payload(payload))
}

// ICMPEcho is an echo request over IPv4.
func ICMPEcho(src, dst netip.Addr, id, seq uint16, payload []byte) []byte {
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}
	return serialize(ipv4(src, dst, layers.IPProtocolICMPv4), icmp, gopacket.Payload(payload))
}

// ICMPError is an ICMP message over IPv4 whose payload is quoted, the head of the packet it is about. The four bytes that depend
// on the type are zero.
func ICMPError(typ, code uint8, src, dst netip.Addr, quoted []byte) []byte {
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code)}
	return serialize(ipv4(src, dst, layers.IPProtocolICMPv4), icmp, gopacket.Payload(quoted))
}

// Fragment cuts an IPv4 packet without IP options into fragments of at most size bytes of payload, a multiple of 8, in
// order. DF is cleared; all else is as in the packet.
func Fragment(pkt []byte, size int) [][]byte {
	if size <= 0 || size%8 != 0 {
		panic(fmt.Sprintf("pkttest: fragment size %d is not a positive multiple of 8", size))
	}
	var whole layers.IPv4
	must(whole.DecodeFromBytes(pkt, gopacket.NilDecodeFeedback))
	var out [][]byte
	for off := 0; off < len(whole.Payload); off += size {
		ip, end := whole, min(off+size, len(whole.Payload))
		ip.Flags, ip.FragOffset = 0, uint16(off/8)
		if end < len(whole.Payload) {
			ip.Flags = layers.IPv4MoreFragments
		}
		out = append(out, serialize(&ip, gopacket.Payload(whole.Payload[off:end])))
	}
	return out
}

// Partial is a copy of a TCP or UDP packet over IPv4 whose transport checksum is in the form that a device with checksum
// offload hands over: the folded sum of the pseudo-header, not complemented.
func Partial(b []byte) []byte {
	p, err := decode(b)
	must(err)
	out := append([]byte(nil), b...)
	field := len(p.IP.Contents)
	switch {
	case p.TCP != nil:
		field += 16
	case p.UDP != nil:
		field += 6
	default:
		panic("pkttest: Partial needs TCP or UDP, got " + Describe(b))
	}
	pseudo := append([]byte(nil), b[12:20]...)
	pseudo = append(pseudo, 0, b[9])
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(p.IP.Payload)))
	binary.BigEndian.PutUint16(out[field:], ^gopacket.FoldChecksum(gopacket.ComputeChecksum(pseudo, 0)))
	return out
}

// ipv4 is an IPv4 header with the defaults of this package.
func ipv4(src, dst netip.Addr, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TTL: defaultTTL, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: src.Unmap().AsSlice(), DstIP: dst.Unmap().AsSlice(),
	}
}

// serialize is the packet made of the layers, with lengths and checksums filled in.
func serialize(l ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...))
	return buf.Bytes()
}

// must panics on an error, which here is a mistake in the test.
func must(err error) {
	if err != nil {
		panic("pkttest: build packet: " + err.Error())
	}
}
