// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"strings"
)

// GeneveClassAWS is the option class of Amazon (IANA Geneve option classes).
const GeneveClassAWS = 0x0108

// Types of the options of GeneveClassAWS.
const (
	GeneveEndpoint   = 1 // 64 bits: number of the GWLB endpoint, see EndpointNumber
	GeneveAttachment = 2 // 64 bits: attachment id, seen as 0
	GeneveCookie     = 3 // 32 bits: flow cookie
)

// Lengths in bytes of what a Gateway Load Balancer puts before an inner packet.
const (
	GeneveAWSLen   = GeneveLen + (4 + 8) + (4 + 8) + (4 + 4) // Geneve header and the three options
	GeneveOverhead = IPv4MinLen + UDPLen + GeneveAWSLen      // all of it
)

// Offsets of the data of the three options, which AWS sends in the order of their types.
const (
	awsEndpoint   = GeneveLen + optionData
	awsAttachment = awsEndpoint + 8 + optionData
	awsCookie     = awsAttachment + 8 + optionData
)

// The first words of the three options: class, type, and the data's length in words.
const (
	awsEndpointHead   = GeneveClassAWS<<16 | GeneveEndpoint<<8 | 2
	awsAttachmentHead = GeneveClassAWS<<16 | GeneveAttachment<<8 | 2
	awsCookieHead     = GeneveClassAWS<<16 | GeneveCookie<<8 | 1
)

// awsHeadMask leaves out the reserved bits of an option's first word.
const awsHeadMask = 0xffffff00 | optionLenMask

// GeneveAWS is what AWS's form of the Geneve header says, in host byte order.
type GeneveAWS struct {
	Endpoint   uint64 // see EndpointNumber
	Attachment uint64
	Cookie     uint32
	Proto      uint16 // EtherTypeIPv4 or EtherTypeIPv6
}

// PutGeneveAWS writes AWS's form of the Geneve header to the first GeneveAWSLen bytes of dst: version 0, no flags, VNI 0, and
// the three options in the order of their types, on which some appliances rely. proto is EtherTypeIPv4 or EtherTypeIPv6; the
// packet follows as it is, without an Ethernet header.
func PutGeneveAWS(dst []byte, proto uint16, endpoint, attachment uint64, cookie uint32) {
	b := dst[:GeneveAWSLen]
	b[geneveVersLen] = (GeneveAWSLen - GeneveLen) / 4
	b[geneveFlags] = 0
	binary.BigEndian.PutUint16(b[geneveProto:], proto)
	binary.BigEndian.PutUint32(b[geneveVNI:], 0)
	binary.BigEndian.PutUint32(b[awsEndpoint-optionData:], awsEndpointHead)
	binary.BigEndian.PutUint64(b[awsEndpoint:], endpoint)
	binary.BigEndian.PutUint32(b[awsAttachment-optionData:], awsAttachmentHead)
	binary.BigEndian.PutUint64(b[awsAttachment:], attachment)
	binary.BigEndian.PutUint32(b[awsCookie-optionData:], awsCookieHead)
	binary.BigEndian.PutUint32(b[awsCookie:], cookie)
}

// GeneveFault says why ParseGeneveAWS refused a packet.
type GeneveFault uint8

// Faults of a Geneve packet.
const (
	GeneveOK        GeneveFault = iota
	GeneveTruncated             // shorter than its headers and the first byte of the inner packet
	GeneveVersion               // the version is not 0
	GeneveLayout                // a flag or the VNI is set, or the options are not the three, in order
	GeneveProtocol              // the protocol is not IPv4 or IPv6, or not what the inner packet is
)

// String is the fault in a word or two.
func (f GeneveFault) String() string {
	return [...]string{"ok", "truncated", "version", "layout", "protocol"}[f]
}

// ParseGeneveAWS reads what PutGeneveAWS writes, from an appliance that has to return it byte for byte, with the inner packet
// behind it. Reserved bits are ignored, as RFC 8926 asks of receivers. The inner packet starts at GeneveAWSLen; its version is
// judged, no more. g means something when why is GeneveOK.
func ParseGeneveAWS(b []byte) (g GeneveAWS, why GeneveFault) {
	if len(b) < GeneveLen {
		return g, GeneveTruncated
	}
	h := Geneve(b)
	if h.Version() != 0 {
		return g, GeneveVersion
	}
	if h.HeaderLen() != GeneveAWSLen || h[geneveFlags]&(geneveOAM|geneveCritical) != 0 || h.VNI() != 0 {
		return g, GeneveLayout
	}
	if len(b) <= GeneveAWSLen {
		return g, GeneveTruncated
	}
	if binary.BigEndian.Uint32(b[awsEndpoint-optionData:])&awsHeadMask != awsEndpointHead ||
		binary.BigEndian.Uint32(b[awsAttachment-optionData:])&awsHeadMask != awsAttachmentHead ||
		binary.BigEndian.Uint32(b[awsCookie-optionData:])&awsHeadMask != awsCookieHead {
		return g, GeneveLayout
	}
	g = GeneveAWS{
		Endpoint:   binary.BigEndian.Uint64(b[awsEndpoint:]),
		Attachment: binary.BigEndian.Uint64(b[awsAttachment:]),
		Cookie:     binary.BigEndian.Uint32(b[awsCookie:]),
		Proto:      h.Protocol(),
	}
	switch version := b[GeneveAWSLen] >> 4; {
	case g.Proto == EtherTypeIPv4 && version == 4, g.Proto == EtherTypeIPv6 && version == 6:
		return g, GeneveOK
	}
	return g, GeneveProtocol
}

// AWS is what the three options of GeneveClassAWS say, in whatever order and among whatever others they stand. It is not ok
// when one of them is missing; an option of another length is none of them. Of an option that is there twice the last counts.
func (g Geneve) AWS() (a GeneveAWS, ok bool) {
	const all = 1<<GeneveEndpoint | 1<<GeneveAttachment | 1<<GeneveCookie
	a.Proto = g.Protocol()
	seen := 0
	for list := g.IterOptions(); ; {
		class, typ, data, more := list.Next()
		if !more {
			return a, seen == all
		}
		if class != GeneveClassAWS {
			continue
		}
		switch {
		case typ == GeneveEndpoint && len(data) == 8:
			a.Endpoint = binary.BigEndian.Uint64(data)
		case typ == GeneveAttachment && len(data) == 8:
			a.Attachment = binary.BigEndian.Uint64(data)
		case typ == GeneveCookie && len(data) == 4:
			a.Cookie = binary.BigEndian.Uint32(data)
		default:
			continue
		}
		seen |= 1 << typ
	}
}

// EndpointNumber is the number by which the option GeneveEndpoint names the endpoint with the given id: the 17 hexadecimal
// digits behind "vpce-" without the first, which does not fit into 64 bits. Ids that differ in that digit alone share a
// number. It is not ok when id is no such id, digits in lower case.
func EndpointNumber(id string) (n uint64, ok bool) {
	const digits = 17
	hex, ok := strings.CutPrefix(id, "vpce-")
	if !ok || len(hex) != digits {
		return 0, false
	}
	for i := range digits {
		switch c := hex[i]; {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
