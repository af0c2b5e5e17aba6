// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"
)

// optFastOpen is the option of RFC 7413, which gopacket has no name for.
const optFastOpen layers.TCPOptionKind = 34

// MSS is the maximum segment size option, n in bytes.
func MSS(n uint16) layers.TCPOption {
	return option(layers.TCPOptionKindMSS, binary.BigEndian.AppendUint16(nil, n))
}

// WScale is the window scale option.
func WScale(shift uint8) layers.TCPOption {
	return option(layers.TCPOptionKindWindowScale, []byte{shift})
}

// SACKPermitted is the option of a SYN that permits selective acknowledgement.
func SACKPermitted() layers.TCPOption { return option(layers.TCPOptionKindSACKPermitted, nil) }

// SACK is the selective acknowledgement option. Edges come in pairs: the first number of a block, and the one after its
// last.
func SACK(edges ...uint32) layers.TCPOption {
	var data []byte
	for _, e := range edges {
		data = binary.BigEndian.AppendUint32(data, e)
	}
	return option(layers.TCPOptionKindSACK, data)
}

// Timestamps is the timestamps option.
func Timestamps(val, ecr uint32) layers.TCPOption {
	data := binary.BigEndian.AppendUint32(nil, val)
	return option(layers.TCPOptionKindTimestamps, binary.BigEndian.AppendUint32(data, ecr))
}

// FastOpen is the Fast Open option. An empty cookie asks for one.
func FastOpen(cookie []byte) layers.TCPOption { return option(optFastOpen, cookie) }

// NOP is the option of one byte that does nothing. An odd number of them puts what follows at an odd offset.
func NOP() layers.TCPOption {
	return layers.TCPOption{OptionType: layers.TCPOptionKindNop, OptionLength: 1}
}

// option is a TCP option with its length filled in.
func option(kind layers.TCPOptionKind, data []byte) layers.TCPOption {
	return layers.TCPOption{OptionType: kind, OptionLength: uint8(2 + len(data)), OptionData: data}
}
