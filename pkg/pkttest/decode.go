// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Packet is a decoded packet. Its slices are those of the bytes it was decoded from. A fragment has no transport layer, and
// an atomic IPv6 fragment is none.
type Packet struct {
	IP      layers.IPv4          // zero when the packet is of IPv6
	IP6     *layers.IPv6         // nil when the packet is of IPv4
	Frag6   *layers.IPv6Fragment // nil unless the packet has a fragment header
	Proto   layers.IPProtocol    // of L4
	L4      []byte               // what follows the IP header and the extension headers
	TCP     *layers.TCP          // nil unless the packet is a TCP segment
	UDP     *layers.UDP          // nil unless the packet is a UDP datagram
	ICMP    *layers.ICMPv4       // nil unless the packet is an ICMP message
	ICMP6   *layers.ICMPv6       // nil unless the packet is an ICMPv6 message, of which gopacket's layer is four bytes
	Geneve  *layers.Geneve       // nil unless the packet is a UDP datagram to port 6081 that holds well-formed Geneve
	Inner   *Packet              // the IP packet in Geneve, nil when there is no well-formed one
	Payload []byte               // of the innermost layer above, Inner aside; behind eight bytes of ICMPv6

	tunnelErr error // why Geneve or Inner is nil in a datagram to Geneve's port
}

// Decode is the packet in b, which must be whole. It fails the test at once when b is not a well-formed IP packet. What a
// tunnel carries need not be well-formed.
func Decode(tb testing.TB, b []byte) Packet {
	tb.Helper()
	p, err := decode(b)
	if err != nil {
		tb.Fatalf("decode packet: %v\n%s", err, hexDump(b))
	}
	return p
}

// decode is the packet in b, or an error when b does not hold exactly one well-formed IP packet.
func decode(b []byte) (Packet, error) {
	var p Packet
	var err error
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		err = p.decodeIPv4(b)
	case len(b) >= 40 && b[0]>>4 == 6:
		err = p.decodeIPv6(b)
	default:
		err = fmt.Errorf("%d bytes are no IPv4 or IPv6 packet", len(b))
	}
	if err != nil {
		return p, err
	}
	p.Payload = p.L4
	if _, _, _, fragment := p.fragment(); fragment {
		return p, nil
	}
	return p, p.decodeTransport()
}

// decodeIPv4 decodes the IPv4 header.
func (p *Packet) decodeIPv4(b []byte) error {
	if n := int(binary.BigEndian.Uint16(b[2:])); n != len(b) {
		return fmt.Errorf("IPv4 total length is %d, packet is %d bytes", n, len(b))
	}
	if err := p.IP.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("decode IPv4: %w", err)
	}
	p.Proto, p.L4 = p.IP.Protocol, p.IP.Payload
	return nil
}

// decodeIPv6 decodes the IPv6 header and steps over the extension headers.
func (p *Packet) decodeIPv6(b []byte) error {
	if n := 40 + int(binary.BigEndian.Uint16(b[4:])); n != len(b) {
		return fmt.Errorf("IPv6 payload length is %d, packet is %d bytes", n-40, len(b))
	}
	p.IP6 = new(layers.IPv6)
	// The decoder takes an empty payload for a jumbogram.
	if err := p.IP6.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil && len(b) > 40 {
		return fmt.Errorf("decode IPv6: %w", err)
	}
	p.Proto, p.L4 = p.IP6.NextHeader, b[40:]
	for {
		switch p.Proto {
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			var ext layers.IPv6ExtensionSkipper
			if err := ext.DecodeFromBytes(p.L4, gopacket.NilDecodeFeedback); err != nil {
				return fmt.Errorf("decode %v: %w", p.Proto, err)
			}
			p.Proto, p.L4 = ext.NextHeader, ext.Payload
		case layers.IPProtocolIPv6Fragment:
			if p.Frag6 != nil {
				return errors.New("there are two fragment headers")
			}
			p.Frag6 = new(layers.IPv6Fragment)
			if err := p.Frag6.DecodeFromBytes(p.L4, gopacket.NilDecodeFeedback); err != nil {
				return fmt.Errorf("decode %v: %w", p.Proto, err)
			}
			p.Proto, p.L4 = p.Frag6.NextHeader, p.Frag6.Payload
			if p.Frag6.FragmentOffset != 0 {
				return nil
			}
		default:
			return nil
		}
	}
}

// decodeTransport decodes the transport header, when it is a protocol of this package.
func (p *Packet) decodeTransport() error {
	var err error
	switch {
	case p.Proto == layers.IPProtocolTCP:
		p.TCP = new(layers.TCP)
		if err = p.TCP.DecodeFromBytes(p.L4, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = p.TCP.Payload
			err = p.TCP.SetNetworkLayerForChecksum(p.network())
		}
	case p.Proto == layers.IPProtocolUDP:
		p.UDP = new(layers.UDP)
		if err = p.UDP.DecodeFromBytes(p.L4, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = p.UDP.Payload
			err = p.UDP.SetNetworkLayerForChecksum(p.network())
			p.decodeTunnel()
		}
	case p.Proto == layers.IPProtocolICMPv4 && p.IP6 == nil:
		p.ICMP = new(layers.ICMPv4)
		if err = p.ICMP.DecodeFromBytes(p.L4, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = p.ICMP.Payload
		}
	case p.Proto == layers.IPProtocolICMPv6 && p.IP6 != nil:
		p.ICMP6 = new(layers.ICMPv6)
		if err = p.ICMP6.DecodeFromBytes(p.L4, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = window(p.ICMP6.Payload, 4, len(p.ICMP6.Payload))
			err = p.ICMP6.SetNetworkLayerForChecksum(p.network())
		}
	}
	if err != nil {
		return fmt.Errorf("decode %v: %w", p.Proto, err)
	}
	return nil
}

// decodeTunnel decodes Geneve and what it carries.
func (p *Packet) decodeTunnel() {
	if p.UDP.DstPort != genevePort {
		return
	}
	g := new(layers.Geneve)
	if err := g.DecodeFromBytes(p.UDP.Payload, gopacket.NilDecodeFeedback); err != nil {
		p.tunnelErr = fmt.Errorf("decode Geneve: %w", err)
		return
	}
	// The decoder lets the last option run on into the payload, and counts offsets in eight bits.
	sum := 0
	for _, o := range g.Options {
		sum += 4 + len(o.Data)
	}
	if sum != int(g.OptionsLength) || 8+sum > 255 {
		p.tunnelErr = fmt.Errorf("decode Geneve: options of %d bytes in %d", sum, g.OptionsLength)
		return
	}
	p.Geneve, p.Payload = g, g.Payload
	if g.Protocol != layers.EthernetTypeIPv4 && g.Protocol != layers.EthernetTypeIPv6 {
		return
	}
	inner, err := decode(g.Payload)
	if err == nil && etherType(g.Payload) != g.Protocol {
		err = fmt.Errorf("Geneve says it is %v", g.Protocol)
	}
	if err != nil {
		p.tunnelErr = fmt.Errorf("decode packet in Geneve: %w", err)
		return
	}
	p.Inner = &inner
}

// network is the packet's IP header.
func (p *Packet) network() gopacket.NetworkLayer {
	if p.IP6 != nil {
		return p.IP6
	}
	return &p.IP
}

// addrs are the packet's addresses.
func (p *Packet) addrs() (src, dst netip.Addr) {
	if p.IP6 != nil {
		return addr(p.IP6.SrcIP), addr(p.IP6.DstIP)
	}
	return addr(p.IP.SrcIP), addr(p.IP.DstIP)
}

// fragment is which part of a datagram the packet is, if it is a part: its offset in bytes, and whether others follow.
func (p *Packet) fragment() (id uint32, offset int, more, ok bool) {
	switch {
	case p.IP6 == nil:
		id, offset, more = uint32(p.IP.Id), int(p.IP.FragOffset)*8, p.IP.Flags&layers.IPv4MoreFragments != 0
	case p.Frag6 != nil:
		id, offset, more = p.Frag6.Identification, int(p.Frag6.FragmentOffset)*8, p.Frag6.MoreFragments
	}
	return id, offset, more, more || offset != 0
}
