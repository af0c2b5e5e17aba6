// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"unsafe"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// packet is what a worker knows of the packet it carries: where its headers are, whom it is for, and which flow it
// belongs to. It lives in the worker's batch and is overwritten by the next one.
type packet struct {
	buf  *port.Buffer
	flow *flow.Entry // set by find and track
	key  flow.Key    // toward an appliance only its ENI and ports count

	inspected *flow.StickyEntry // set by stick and recognise
	sticky    *flow.StickyKey   // the place in the worker's keys that goes with this one in its batch

	hash uint64
	// seq and ack are the TCP numbers as received. For an ICMP error seq is the quoted one.
	seq, ack uint32
	handle   uint32 // of flow
	payload  uint32 // bytes of TCP payload
	in       uint16 // slot of the port it came from
	l4       uint16 // offset of the transport header; of the ICMP header for ICMP
	quote    uint16 // offset of the IPv4 header an ICMP error quotes, 0 where there is none
	body     uint16 // offset of the TCP payload
	role     Role   // of the ENI it is addressed to, or routed through
	proto    uint8
	tcpFlags uint8
	fragment bool
	later    bool // a fragment other than the first
	joined   bool // a later fragment whose ports are known
	reverse  bool // goes from B to A of its sticky key
	opening  bool // a SYN that may open a flow, in place of flow where that is not nil
	reason   Reason
}

// Two cache lines at most.
var _ [128 - unsafe.Sizeof(packet{})]struct{}

func (p *packet) ip() wire.IPv4 { return wire.IPv4(p.buf.Bytes()) }

func (p *packet) tcp() wire.TCP { return wire.TCP(p.buf.Bytes()[p.l4:]) }

// full says that the TCP checksum is complete, so that every edit must be patched into it. Otherwise it is the sum of
// the pseudo-header alone, and only a change of that matters.
func (p *packet) full() bool { return p.buf.Flags&port.NeedsCsum == 0 }

// inward says that the packet comes from a target, on its way to a client.
func (p *packet) inward() bool { return p.role == RoleNode || p.role == RoleGatewayNode }

// opens says that the packet is a SYN that asks for a new connection.
func (p *packet) opens() bool {
	return p.tcpFlags&(wire.TCPSyn|wire.TCPAck|wire.TCPRst|wire.TCPFin) == wire.TCPSyn
}
