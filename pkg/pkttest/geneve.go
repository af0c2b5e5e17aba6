// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"encoding/binary"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// classAWS is the class of Amazon's Geneve options, genevePort the UDP port.
const (
	classAWS   = 0x0108
	genevePort = 6081
)

// Geneve describes a packet in Geneve over IPv4, as a Gateway Load Balancer and its appliances send them. The zero value of
// a field is what the packet carries, save Protocol and TTL.
type Geneve struct {
	Src, Dst netip.AddrPort
	Inner    []byte                 // from its IP header on
	Options  []*layers.GeneveOption // in the packet's order; AWSOptions are the usual ones
	Protocol uint16                 // EtherType; 0 means what Inner is
	Version  uint8
	VNI      uint32
	OAM      bool
	Critical bool
	Checksum bool // computes the outer UDP checksum, which otherwise is zero
	TTL      uint8
	TOS      uint8
	ID       uint16
	NoDF     bool
}

// AWSOptions are the three options that AWS sends, in its order.
func AWSOptions(endpoint, attachment uint64, cookie uint32) []*layers.GeneveOption {
	return []*layers.GeneveOption{
		GeneveOption(classAWS, 1, binary.BigEndian.AppendUint64(nil, endpoint)),
		GeneveOption(classAWS, 2, binary.BigEndian.AppendUint64(nil, attachment)),
		GeneveOption(classAWS, 3, binary.BigEndian.AppendUint32(nil, cookie)),
	}
}

// GeneveOption is a Geneve option. Its data is a multiple of four bytes.
func GeneveOption(class uint16, typ uint8, data []byte) *layers.GeneveOption {
	if len(data)%4 != 0 {
		panic("pkttest: the data of a Geneve option is a multiple of four bytes")
	}
	return &layers.GeneveOption{Class: class, Type: typ, Data: data}
}

// Bytes is the packet.
func (g Geneve) Bytes() []byte {
	proto := layers.EthernetType(g.Protocol)
	if proto == 0 {
		proto = etherType(g.Inner)
	}
	tunnel := serialize(&layers.Geneve{
		Version: g.Version, OAMPacket: g.OAM, CriticalOption: g.Critical, Protocol: proto, VNI: g.VNI, Options: g.Options,
	}, gopacket.Payload(g.Inner))

	outer := TCP{Src: g.Src, Dst: g.Dst, TTL: g.TTL, TOS: g.TOS, ID: g.ID, NoDF: g.NoDF}.network()
	outer.(*layers.IPv4).Protocol = layers.IPProtocolUDP
	udp := &layers.UDP{SrcPort: layers.UDPPort(g.Src.Port()), DstPort: layers.UDPPort(g.Dst.Port())}
	must(udp.SetNetworkLayerForChecksum(outer))
	datagram := serializeWith(gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: g.Checksum}, udp,
		gopacket.Payload(tunnel))
	return serialize(outer, gopacket.Payload(datagram))
}
