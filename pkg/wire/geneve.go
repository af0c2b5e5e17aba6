// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Offsets in a Geneve header (RFC 8926 section 3.4) and in one of its options (section 3.5).
const (
	geneveVersLen = 0 // two bits of version, six bits of option length in words
	geneveFlags   = 1
	geneveProto   = 2
	geneveVNI     = 4 // 24 bits, and eight reserved ones

	optionClass = 0
	optionType  = 2
	optionLen   = 3 // three reserved bits, five bits of data length in words
	optionData  = 4
)

// Bits of the bytes at geneveVersLen, geneveFlags and optionLen.
const (
	geneveLenMask  = 1<<6 - 1
	geneveOAM      = 1 << 7
	geneveCritical = 1 << 6
	optionLenMask  = 1<<5 - 1
)

// GenevePort is the UDP destination port of Geneve.
const GenevePort = 6081

// GeneveLen is the length in bytes of a Geneve header without options.
const GeneveLen = 8

// Geneve is a Geneve header, its options, and whatever follows them. It reads headers of any sender, as an appliance has to;
// ParseGeneveAWS is the strict reading of the one form that AWS sends.
type Geneve []byte

// ParseGeneve is b as a Geneve packet: the header and its options lie within b, and the lengths of the options add up to
// exactly the length of all. It does not judge the version, flags, reserved bits, protocol or options.
func ParseGeneve(b []byte) (Geneve, bool) {
	g := Geneve(b)
	if len(g) < GeneveLen || len(g) < g.HeaderLen() {
		return nil, false
	}
	list := g.IterOptions()
	for {
		if _, _, _, ok := list.Next(); !ok {
			break
		}
	}
	return g, len(list.rest) == 0
}

// Version is the version, 0 in all that follows RFC 8926.
func (g Geneve) Version() int { return int(g[geneveVersLen] >> 6) }

// OptionsLen is the length of all options in bytes.
func (g Geneve) OptionsLen() int { return int(g[geneveVersLen]&geneveLenMask) * 4 }

// HeaderLen is the length of header and options in bytes.
func (g Geneve) HeaderLen() int { return GeneveLen + g.OptionsLen() }

// OAM says whether the O flag is set: a control packet, whose payload is not to be forwarded.
func (g Geneve) OAM() bool { return g[geneveFlags]&geneveOAM != 0 }

// Critical says whether the C flag is set: an option is such that a receiver which does not know it must drop the packet.
func (g Geneve) Critical() bool { return g[geneveFlags]&geneveCritical != 0 }

// Protocol is the EtherType of the payload.
func (g Geneve) Protocol() uint16 { return binary.BigEndian.Uint16(g[geneveProto:]) }

// VNI is the virtual network identifier, 24 bits.
func (g Geneve) VNI() uint32 { return binary.BigEndian.Uint32(g[geneveVNI:]) >> 8 }

// Payload is what follows the options.
func (g Geneve) Payload() []byte { return g[g.HeaderLen():] }

// GeneveOptions steps through the options of a Geneve header. The zero value has none.
type GeneveOptions struct{ rest []byte }

// IterOptions starts at the first option. Of a view that ParseGeneve has not seen it gives options as far as they lie
// within it.
func (g Geneve) IterOptions() GeneveOptions {
	return GeneveOptions{g[GeneveLen:max(min(g.HeaderLen(), len(g)), GeneveLen)]}
}

// Next is the next option: its class, its type with the critical bit 1<<7, and its data, a multiple of four bytes of the
// view's own. It is not ok at the end and at an option that is cut short.
func (o *GeneveOptions) Next() (class uint16, typ uint8, data []byte, ok bool) {
	b := o.rest
	if len(b) < optionData {
		return 0, 0, nil, false
	}
	end := optionData + int(b[optionLen]&optionLenMask)*4
	if end > len(b) {
		return 0, 0, nil, false
	}
	o.rest = b[end:]
	return binary.BigEndian.Uint16(b[optionClass:]), b[optionType], b[optionData:end:end], true
}
