// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"hash/crc32"
)

// Lengths in bytes of the PROXY protocol v2 headers below. Both are even, so that a payload keeps the parity of its offset,
// and its part of the TCP checksum, when one is put in front of it.
const (
	ProxyV2IPv4Len = 100
	ProxyV2IPv6Len = 124
)

// Offsets and lengths of the fixed part (HAProxy, The PROXY protocol, section 2.2).
const (
	proxyCommand = 12
	proxyFamily  = 13
	proxyLength  = 14
	proxyFixed   = 16
)

// Values of the fixed part.
const (
	proxyLocal = 0x20 // version 2, a connection of the proxy's own
	proxyProxy = 0x21 // version 2, a connection relayed
	proxyTCP4  = 0x11
	proxyTCP6  = 0x21
)

// Types of TLVs: one byte of type and two of length, then the value.
const (
	tlvCRC32C = 0x03
	tlvNoop   = 0x04
	tlvAWS    = 0xea // PP2_TYPE_AWS
	tlvHeader = 3

	crcLen        = 4
	awsVPCE       = 0x01 // PP2_SUBTYPE_AWS_VPCE_ID, the first byte of an AWS value
	noopLen       = 36   // what a header with an endpoint id is padded with
	endpointIDLen = 22   // "vpce-" and 17 hexadecimal digits
)

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// PutProxyV2 writes to the head of dst the header that a load balancer puts before the first byte of a client's connection
// through an interface endpoint, and returns its length. src and sport are the client's; dstAddr and dport the endpoint
// network interface's address and the listener's port. Addresses are in IPv4-mapped form for IPv4, and the header is
// ProxyV2IPv4Len bytes when both are; else it is ProxyV2IPv6Len and keeps a mapped address as it is. dst must have room.
//
// The TLVs are those AWS sends, in its order: CRC32C over the whole header, endpoint id, padding. An endpoint id is always
// 22 bytes ("vpce-" and 17 hexadecimal digits); with one of another length there is no right header, nothing is written
// and the result is 0.
func PutProxyV2(dst []byte, src, dstAddr [16]byte, sport, dport uint16, endpointID string) int {
	if len(endpointID) != endpointIDLen {
		return 0
	}
	n, total := proxyFixed, ProxyV2IPv6Len
	if isMapped(&src) && isMapped(&dstAddr) {
		total = ProxyV2IPv4Len
		dst = putProxyFixed(dst, proxyProxy, proxyTCP4, total)
		n += copy(dst[n:], src[12:])
		n += copy(dst[n:], dstAddr[12:])
	} else {
		dst = putProxyFixed(dst, proxyProxy, proxyTCP6, total)
		n += copy(dst[n:], src[:])
		n += copy(dst[n:], dstAddr[:])
	}
	binary.BigEndian.PutUint16(dst[n:], sport)
	binary.BigEndian.PutUint16(dst[n+2:], dport)
	n += 4

	crc := n
	n += putTLV(dst[n:], tlvCRC32C, crcLen)
	n += putTLV(dst[n:], tlvAWS, 1+endpointIDLen)
	dst[n-1-endpointIDLen] = awsVPCE
	copy(dst[n-endpointIDLen:], endpointID)
	putTLV(dst[n:], tlvNoop, noopLen)
	putCRC(dst, crc)
	return total
}

// PutProxyV2Local writes to the head of dst the header of a health check, ProxyV2IPv4Len bytes, and returns its length: the
// LOCAL command, whose receiver uses the connection's own addresses. As AWS sends it, it names the family TCP over IPv4 but
// has no address block. dst must have room for it.
func PutProxyV2Local(dst []byte) int {
	dst = putProxyFixed(dst, proxyLocal, proxyTCP4, ProxyV2IPv4Len)
	n := proxyFixed + putTLV(dst[proxyFixed:], tlvCRC32C, crcLen)
	putTLV(dst[n:], tlvNoop, ProxyV2IPv4Len-n-tlvHeader)
	putCRC(dst, proxyFixed)
	return ProxyV2IPv4Len
}

// putProxyFixed writes the fixed part of a header of total bytes and returns the header.
func putProxyFixed(dst []byte, command, family uint8, total int) []byte {
	dst = dst[:total]
	copy(dst, proxySignature)
	dst[proxyCommand], dst[proxyFamily] = command, family
	binary.BigEndian.PutUint16(dst[proxyLength:], uint16(total-proxyFixed))
	return dst
}

// putTLV writes a TLV whose value is length zero bytes and returns how many bytes it takes.
func putTLV(b []byte, kind uint8, length int) int {
	b[0] = kind
	binary.BigEndian.PutUint16(b[1:], uint16(length))
	clear(b[tlvHeader : tlvHeader+length])
	return tlvHeader + length
}

// putCRC fills in the value of the CRC32C TLV at off: the CRC of the whole header with the value zero.
func putCRC(header []byte, off int) {
	binary.BigEndian.PutUint32(header[off+tlvHeader:], crc32.Checksum(header, castagnoli))
}

// isMapped says whether a is an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
func isMapped(a *[16]byte) bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}
