// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
)

// Verify fails the test, without ending it, unless b is a whole and well-formed IP packet whose lengths and checksums
// are right: the IPv4 header's, and the TCP, UDP, ICMP or ICMPv6 one of a packet that is not a fragment. Over IPv4 a UDP
// checksum of zero is right. A datagram to Geneve's port must hold Geneve, and an IP packet in it must be right too.
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
	return p.verify()
}

// verify judges the lengths and checksums of a packet that could be decoded.
func (p *Packet) verify() error {
	var errs []error
	if p.IP6 == nil {
		errs = append(errs, checksum("IPv4 header", &p.IP))
	}
	switch {
	case p.TCP != nil:
		errs = append(errs, checksum("TCP", p.TCP))
	case p.UDP != nil:
		errs = append(errs, p.verifyUDP(), p.tunnelErr)
	case p.ICMP != nil:
		errs = append(errs, checksum("ICMP", p.ICMP))
	case p.ICMP6 != nil:
		errs = append(errs, checksum("ICMPv6", p.ICMP6))
	}
	if p.Inner != nil {
		if err := p.Inner.verify(); err != nil {
			errs = append(errs, fmt.Errorf("packet in Geneve: %w", err))
		}
	}
	return errors.Join(errs...)
}

// verifyUDP judges a UDP header.
func (p *Packet) verifyUDP() error {
	if n := len(p.L4); int(p.UDP.Length) != n {
		return fmt.Errorf("UDP length is %d, IP payload %d", p.UDP.Length, n)
	}
	if p.IP6 != nil && p.UDP.Checksum == 0 {
		return errors.New("UDP over IPv6 has no checksum")
	}
	return checksum("UDP", p.UDP)
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
