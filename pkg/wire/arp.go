// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in an ARP packet for Ethernet and IPv4 (RFC 826, packet format).
const (
	arpHardware    = 0
	arpProtocol    = 2
	arpHardwareLen = 4
	arpProtocolLen = 5
	arpOp          = 6
	arpSenderMAC   = 8
	arpSenderIP    = 14
	arpTargetMAC   = 18
	arpTargetIP    = 24
)

// ARPLen is the length in bytes of an ARP packet for Ethernet and IPv4.
const ARPLen = 28

// Operations of an ARP packet.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// arpEthernet is the hardware type of Ethernet.
const arpEthernet = 1

// ARP is an ARP packet for Ethernet and IPv4, without the Ethernet header.
type ARP []byte

// ParseARP is b as an ARP packet, cut to its length: it is long enough and its hardware and protocol are Ethernet and IPv4.
// The operation is not checked.
func ParseARP(b []byte) (ARP, bool) {
	if len(b) < ARPLen ||
		binary.BigEndian.Uint16(b[arpHardware:]) != arpEthernet ||
		binary.BigEndian.Uint16(b[arpProtocol:]) != EtherTypeIPv4 ||
		b[arpHardwareLen] != 6 || b[arpProtocolLen] != 4 {
		return nil, false
	}
	return ARP(b[:ARPLen]), true
}

// PutARP writes an ARP packet to the first ARPLen bytes of b. A gratuitous announcement is a request whose sender and
// target address are the same (RFC 5227 section 2.3).
func PutARP(b []byte, op uint16, smac [6]byte, sip [4]byte, tmac [6]byte, tip [4]byte) {
	binary.BigEndian.PutUint16(b[arpHardware:], arpEthernet)
	binary.BigEndian.PutUint16(b[arpProtocol:], EtherTypeIPv4)
	b[arpHardwareLen], b[arpProtocolLen] = 6, 4
	binary.BigEndian.PutUint16(b[arpOp:], op)
	*(*[6]byte)(b[arpSenderMAC:]) = smac
	*(*[4]byte)(b[arpSenderIP:]) = sip
	*(*[6]byte)(b[arpTargetMAC:]) = tmac
	*(*[4]byte)(b[arpTargetIP:]) = tip
}

// Op is the operation: ARPRequest, ARPReply or another.
func (a ARP) Op() uint16 { return binary.BigEndian.Uint16(a[arpOp:]) }

// SenderMAC is the MAC address of the sender.
func (a ARP) SenderMAC() [6]byte { return [6]byte(a[arpSenderMAC:]) }

// SenderIP is the IPv4 address of the sender, 0.0.0.0 in a probe.
func (a ARP) SenderIP() [4]byte { return [4]byte(a[arpSenderIP:]) }

// TargetMAC is the MAC address of the target, meaningless in a request.
func (a ARP) TargetMAC() [6]byte { return [6]byte(a[arpTargetMAC:]) }

// TargetIP is the IPv4 address of the target, the one asked for in a request.
func (a ARP) TargetIP() [4]byte { return [4]byte(a[arpTargetIP:]) }
