// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// readHeader takes the PROXY protocol v2 header off the front of conn and checks all it says: whose connection it is,
// where it was going, and the CRC32C over itself, which both systems that send headers are asked for. The parser is
// not ours, and shares no bug with the code that is measured.
func readHeader(conn net.Conn, s *loadSpec, port uint16) error {
	const fixed = 16 // signature, version and command, family, length of the rest
	conn.SetReadDeadline(time.Now().Add(dialLimit))
	defer conn.SetReadDeadline(time.Time{})
	raw := make([]byte, fixed)
	if _, err := io.ReadFull(conn, raw); err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	raw = append(raw, make([]byte, binary.BigEndian.Uint16(raw[14:]))...)
	if _, err := io.ReadFull(conn, raw[fixed:]); err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	return checkHeader(raw, s, port)
}

// checkHeader checks a whole header.
func checkHeader(raw []byte, s *loadSpec, port uint16) error {
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return fmt.Errorf("PROXY header %x: %w", raw, err)
	}
	source, destination, ok := header.TCPAddrs()
	if !ok || header.Version != 2 || header.Command != proxyproto.PROXY {
		return fmt.Errorf("PROXY header %x is not one of version 2 for a TCP connection", raw)
	}
	if from := source.AddrPort().Addr().Unmap(); !slices.Contains(s.Sources, from) {
		return fmt.Errorf("PROXY header names the source %s, which is no client", from)
	}
	want := netip.AddrPortFrom(s.Service.Addr(), port)
	if to := destination.AddrPort(); netip.AddrPortFrom(to.Addr().Unmap(), to.Port()) != want {
		return fmt.Errorf("PROXY header names the destination %s instead of %s", to, want)
	}
	return checkCRC(raw)
}

// checkCRC checks the TLV of type 3, CRC32C over the header with the value itself as zero.
func checkCRC(raw []byte) error {
	const firstTLV = 16 + 12 // after two IPv4 addresses and ports
	for rest := firstTLV; rest+3 <= len(raw); {
		length := int(binary.BigEndian.Uint16(raw[rest+1:]))
		value := rest + 3
		if raw[rest] != byte(proxyproto.PP2_TYPE_CRC32C) {
			rest = value + length
			continue
		}
		if length != 4 || value+4 > len(raw) {
			return fmt.Errorf("PROXY header has a CRC of %d bytes", length)
		}
		said := binary.BigEndian.Uint32(raw[value:])
		zeroed := bytes.Clone(raw)
		clear(zeroed[value : value+4])
		if sum := crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)); sum != said {
			return fmt.Errorf("PROXY header has CRC %08x instead of %08x", said, sum)
		}
		return nil
	}
	return fmt.Errorf("PROXY header %x has no CRC", raw)
}
