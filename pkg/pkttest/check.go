// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Packet is a decoded packet. Its slices are those of the bytes it was decoded from.
type Packet struct {
	IP      layers.IPv4
	TCP     *layers.TCP    // nil unless the packet is an unfragmented TCP segment
	UDP     *layers.UDP    // nil unless the packet is an unfragmented UDP datagram
	ICMP    *layers.ICMPv4 // nil unless the packet is an unfragmented ICMP message
	Payload []byte         // of the innermost layer above
}

// Decode is the packet in b, which must be whole. It fails the test at once when b is not a well-formed IPv4 packet.
func Decode(tb testing.TB, b []byte) Packet {
	tb.Helper()
	p, err := decode(b)
	if err != nil {
		tb.Fatalf("decode packet: %v\n%s", err, hexDump(b))
	}
	return p
}

// Verify fails the test, without ending it, unless b is a whole and well-formed IPv4 packet whose lengths and checksums
// are right: the header's, and the TCP, UDP or ICMP one of a packet that is not a fragment. A UDP checksum of zero is right.
func Verify(tb testing.TB, b []byte) {
	tb.Helper()
	if err := verify(b); err != nil {
		tb.Errorf("verify packet: %v\n%s\n%s", err, Describe(b), hexDump(b))
	}
}

// verify is the judgement of Verify.
func verify(b []byte) error {
	p, err := decode(b)
	if err != nil {
		return err
	}
	errs := []error{checksum("IPv4 header", &p.IP)}
	switch {
	case p.TCP != nil:
		errs = append(errs, checksum("TCP", p.TCP))
	case p.UDP != nil:
		if n := len(p.IP.Payload); int(p.UDP.Length) != n {
			errs = append(errs, fmt.Errorf("UDP length is %d, IPv4 payload %d", p.UDP.Length, n))
			break
		}
		errs = append(errs, checksum("UDP", p.UDP))
	case p.ICMP != nil:
		errs = append(errs, checksum("ICMP", p.ICMP))
	}
	return errors.Join(errs...)
}

// checksum is an error unless the layer's checksum is right.
func checksum(name string, l gopacket.LayerWithChecksum) error {
	err, result := l.VerifyChecksum()
	if err != nil {
		return fmt.Errorf("%s checksum: %w", name, err)
	}
	if !result.Valid {
		return fmt.Errorf("%s checksum is %04x, should be %04x", name, result.Actual, result.Correct)
	}
	return nil
}

// decode is the packet in b, or an error when b does not hold exactly one well-formed IPv4 packet.
func decode(b []byte) (Packet, error) {
	var p Packet
	if len(b) < 20 || b[0]>>4 != 4 {
		return p, fmt.Errorf("%d bytes are no IPv4 packet", len(b))
	}
	if n := int(binary.BigEndian.Uint16(b[2:])); n != len(b) {
		return p, fmt.Errorf("IPv4 total length is %d, packet is %d bytes", n, len(b))
	}
	if err := p.IP.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return p, fmt.Errorf("decode IPv4: %w", err)
	}
	p.Payload = p.IP.Payload
	if p.IP.Flags&layers.IPv4MoreFragments != 0 || p.IP.FragOffset != 0 {
		return p, nil
	}
	return p, p.decodeTransport()
}

// decodeTransport decodes what the IPv4 header carries, when it is a protocol of this package.
func (p *Packet) decodeTransport() error {
	var err error
	switch p.IP.Protocol {
	case layers.IPProtocolTCP:
		p.TCP = new(layers.TCP)
		if err = p.TCP.DecodeFromBytes(p.IP.Payload, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = p.TCP.Payload
			err = p.TCP.SetNetworkLayerForChecksum(&p.IP)
		}
	case layers.IPProtocolUDP:
		p.UDP = new(layers.UDP)
		if err = p.UDP.DecodeFromBytes(p.IP.Payload, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = p.UDP.Payload
			err = p.UDP.SetNetworkLayerForChecksum(&p.IP)
		}
	case layers.IPProtocolICMPv4:
		p.ICMP = new(layers.ICMPv4)
		if err = p.ICMP.DecodeFromBytes(p.IP.Payload, gopacket.NilDecodeFeedback); err == nil {
			p.Payload = p.ICMP.Payload
		}
	}
	if err != nil {
		return fmt.Errorf("decode %v: %w", p.IP.Protocol, err)
	}
	return nil
}
