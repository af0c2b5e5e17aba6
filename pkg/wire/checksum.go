// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to initial as the Internet checksum does (RFC 1071): big-endian 16-bit words, an odd last byte padded with a
// zero byte, carries added back. The result is not complemented and is less than 1<<17, so that many of them may be added
// to each other as plain integers. Bytes that lie at an odd offset of the data they belong to need SwapParity.
func Sum(b []byte, initial uint32) uint32 {
	// The sum of byte-swapped words is the byte-swapped sum (RFC 1071 section 2 B), so words are loaded little-endian,
	// which is free on the machines we run on, and the result is swapped once.
	acc, rest := sumVectors(b)
	acc = sumWords(acc, rest)

	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	total := uint64(bits.ReverseBytes16(uint16(acc))) + uint64(initial)
	return uint32(total>>16 + total&0xffff)
}

// sumWords adds the little-endian words of b to acc with the carries added back. The result means the same modulo 2^16-1
// whatever the length of the words.
func sumWords(acc uint64, b []byte) uint64 {
	// A chain of additions that starts without a carry never ends in all ones with a carry, so adding the last carry
	// cannot overflow.
	var c uint64
	for len(b) >= 64 {
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[0:8]), 0)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:16]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:24]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:32]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[32:40]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[40:48]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[48:56]), c)
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[56:64]), c)
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, binary.LittleEndian.Uint64(b[0:8]), 0)
		acc += c
		b = b[8:]
	}
	acc, c = bits.Add64(acc, tail(b), 0)
	return acc + c
}

// tail is a little-endian word of the up to seven bytes of b, padded with zeros.
func tail(b []byte) uint64 {
	var v uint64
	var shift uint
	if len(b) >= 4 {
		v, shift, b = uint64(binary.LittleEndian.Uint32(b[0:4])), 32, b[4:]
	}
	if len(b) >= 2 {
		v |= uint64(binary.LittleEndian.Uint16(b[0:2])) << (shift & 63)
		shift, b = shift+16, b[2:]
	}
	if len(b) == 1 {
		v |= uint64(b[0]) << (shift & 63)
	}
	return v
}

// Fold reduces a sum to 16 bits by adding the carries back. It does not complement.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// Checksum is the complement of the folded sum of b and initial: the value of a checksum field over b with the field zero, or
// zero when b contains a correct checksum.
func Checksum(b []byte, initial uint32) uint16 { return ^Fold(Sum(b, initial)) }

// Update16 is the checksum after one 16-bit word that it covers has changed from old to new (RFC 1624 equation 3,
// HC' = ~(~HC + ~m + m')). It equals the checksum computed anew, except where every covered word has become zero: no
// packet's pseudo-header or IPv4 header is. A word at an odd offset is passed with its bytes swapped, old and new.
func Update16(csum, old, new uint16) uint16 {
	return ^Fold(uint32(^csum) + uint32(^old) + uint32(new))
}

// Update32 is Update16 for two adjacent words, such as an IPv4 address or a sequence number.
func Update32(csum uint16, old, new uint32) uint16 { return ^Seed32(^csum, old, new) }

// Seed16 is Update16 for a folded sum that is not complemented, such as a partial checksum: sum + ~m + m'.
func Seed16(sum, old, new uint16) uint16 {
	return Fold(uint32(sum) + uint32(^old) + uint32(new))
}

// Seed32 is Seed16 for two adjacent words.
func Seed32(sum uint16, old, new uint32) uint16 {
	old = ^old
	return Fold(uint32(sum) + old>>16 + old&0xffff + new>>16 + new&0xffff)
}

// PseudoSum4 is the sum of the IPv4 pseudo-header of TCP and UDP (RFC 9293 section 3.1): addresses, protocol and length
// of the transport header and payload in bytes. Folded it is the partial checksum of the packet.
func PseudoSum4(src, dst [4]byte, proto uint8, length uint16) uint32 {
	s, d := binary.BigEndian.Uint32(src[:]), binary.BigEndian.Uint32(dst[:])
	return s>>16 + s&0xffff + d>>16 + d&0xffff + uint32(proto) + uint32(length)
}

// PseudoSum6 is the sum of the IPv6 pseudo-header (RFC 8200 section 8.1): addresses, protocol and length in bytes of the
// transport header and payload, extension headers not counted. It is less than 1<<17. dst is the final destination, which
// a routing header with segments left holds in place of the IPv6 header. Folded it is the partial checksum of the packet.
func PseudoSum6(src, dst [16]byte, proto uint8, length uint32) uint32 {
	sum := uint64(proto) + uint64(length)
	for i := 0; i < 16; i += 4 {
		sum += uint64(binary.BigEndian.Uint32(src[i:])) + uint64(binary.BigEndian.Uint32(dst[i:]))
	}
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	return uint32(sum>>16 + sum&0xffff)
}

// SwapParity is the folded sum of bytes that lie at an odd offset, when sum was taken as if at an even one, and the other
// way round (RFC 1071 section 2 B).
func SwapParity(sum uint16) uint16 { return bits.ReverseBytes16(sum) }
