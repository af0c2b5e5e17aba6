// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// Proxy is what a PROXY protocol header said.
type Proxy struct {
	// Source and Destination are addresses with ports; empty for the LOCAL command.
	Source      string `json:"src,omitempty"`
	Destination string `json:"dst,omitempty"`
	// EndpointID is that of the endpoint the connection came through, from the header's AWS field.
	EndpointID string `json:"endpoint_id,omitempty"`
	// Local says that the sender speaks for itself, as health checks do.
	Local bool `json:"local"`
}

// requireProxy makes a header a must on every connection of a listener.
func requireProxy(listener net.Listener) net.Listener {
	return &proxyproto.Listener{
		Listener: listener,
		ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			return proxyproto.REQUIRE, nil
		},
		ValidateHeader: checkCRC,
		// The header arrives with the client's first byte, which may be a long time coming.
		ReadHeaderTimeout: time.Hour,
	}
}

// origin says where a connection comes from: the source its packets have, and what its header says if it must have one.
func origin(c net.Conn) (remote string, proxy *Proxy, err error) {
	p, ok := c.(*proxyproto.Conn)
	if !ok {
		return c.RemoteAddr().String(), nil, nil
	}
	remote = p.Raw().RemoteAddr().String()
	header := p.ProxyHeader()
	if header == nil {
		return remote, nil, errors.New("the connection has no valid PROXY protocol header")
	}
	proxy = &Proxy{Local: header.Command.IsLocal()}
	if proxy.Local {
		return remote, proxy, nil
	}
	if header.SourceAddr != nil && header.DestinationAddr != nil {
		proxy.Source, proxy.Destination = header.SourceAddr.String(), header.DestinationAddr.String()
	}
	fields, err := header.TLVs()
	if err != nil {
		return remote, nil, fmt.Errorf("fields of the PROXY protocol header: %w", err)
	}
	proxy.EndpointID = tlvparse.FindAWSVPCEndpointID(fields)
	return remote, proxy, nil
}

// Lengths of a version 2 header's parts (PROXY protocol section 2.2).
const (
	fixedLength = 16
	fieldLength = 3 // type and length of a field, before its value
)

// addressLength is the length of the address block of a family.
var addressLength = map[proxyproto.AddressFamilyAndProtocol]int{proxyproto.TCPv4: 12, proxyproto.TCPv6: 36}

// checkCRC checks the CRC32C of a TCP header that has one: it is computed over the whole header with the field's own
// four bytes zero (PROXY protocol section 2.2.3).
func checkCRC(h *proxyproto.Header) error {
	length, known := addressLength[h.TransportProtocol]
	if h.Version != 2 || h.Command.IsLocal() || !known {
		return nil // a LOCAL header is skipped unread
	}
	content, err := h.Format() // byte for byte what came, padding included
	if err != nil {
		return err
	}
	for rest := content[fixedLength+length:]; len(rest) >= fieldLength; {
		kind, n := proxyproto.PP2Type(rest[0]), int(binary.BigEndian.Uint16(rest[1:]))
		value := rest[fieldLength:]
		if n > len(value) {
			return errors.New("a field of the header is cut short")
		}
		value, rest = value[:n], value[n:]
		if kind != proxyproto.PP2_TYPE_CRC32C {
			continue
		}
		if n != crc32.Size {
			return errors.New("the CRC32C field has not four bytes")
		}
		want := binary.BigEndian.Uint32(value)
		clear(value)
		if got := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)); got != want {
			return fmt.Errorf("the CRC32C field is %#08x, the header's is %#08x", want, got)
		}
		return nil
	}
	return nil
}
