// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Sizes of packets and options, in bytes.
const (
	// EndpointMTU is the longest IP packet an endpoint carries, either way. Longer ones are dropped in silence, whatever
	// DF says (AWS PrivateLink guide, "Interface endpoint properties and limitations").
	EndpointMTU = 8500
	// MaxMSS is the largest TCP payload of a packet of EndpointMTU bytes: without IPv4 and TCP headers (RFC 6691).
	MaxMSS = EndpointMTU - wire.IPv4MinLen - wire.TCPMinLen
	// DefaultMSS is what a peer that sends no MSS option accepts (RFC 9293, section 3.7.1).
	DefaultMSS = 536
	// headerLen is the length of the PROXY header of an IPv4 connection.
	headerLen = wire.ProxyV2IPv4Len
	// minProxyMSS is the smallest MSS of a target that holds the PROXY header, the longest IPv4 and TCP options, and two
	// bytes: an even number, for the checksum's sake.
	minProxyMSS = headerLen + 40 + 40 + 2
)

// A route pushes at most a PROXY header in front of a packet.
var _ [port.Headroom - wire.ProxyV2IPv6Len - wire.EtherLen]struct{}
