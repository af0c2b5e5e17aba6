// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import "unsafe"

// Ref names an object of the view (an ENI, a port, a target) by slot and generation. A slot that is given to another
// object gets another generation, so that a flow which outlives its object is recognised. The zero Ref names nothing.
// 65,536 reuses of one slot bring a generation back; slots are reused oldest first, so that no flow lives that long.
type Ref struct {
	Slot, Gen uint16
}

// Key identifies a flow in one direction as the packets of that direction show it. IPv4 addresses are in their
// IPv4-mapped IPv6 form. Ports are in host byte order.
type Key struct {
	Remote     [16]byte // the far end's address: client outbound, target on replies
	RemotePort uint16
	LocalPort  uint16 // the ENI's port: the listener's outbound, the NAT port on replies
	ENI        uint16 // slot of the ENI the packet was addressed to, which implies VPC and address
}

// State is how far a TCP connection has come, as far as timers need to know.
type State uint8

// States of a flow.
const (
	Free        State = iota
	Opening           // SYN seen, handshake not complete
	Established       // handshake complete
	Closing           // both sides have sent FIN
	Reset             // RST seen or sent; a tombstone for stray segments
)

// String is the state's name in output.
func (s State) String() string {
	return [...]string{"free", "opening", "established", "closing", "reset"}[s]
}

// Flags of an Entry.
const (
	FinClient   = 1 << iota // the client has sent FIN
	FinTarget               // the target has sent FIN
	Proxy                   // the target receives a PROXY header
	ProxyEarly              // the header goes alone after the handshake (vpc.FirstACK)
	ProxySent               // the header has been sent at least once
	SynAck                  // the target's SYN-ACK has been seen
	Probe                   // a health check
	WindowScale             // both sides offered window scaling; TargetShift counts
)

// Entry is one flow, both directions. It holds no pointers, so that the collector never scans a shard and a shard may
// live in memory that outlives the process. Its owner's table keeps the key fields; only Table may change those.
type Entry struct {
	Client [16]byte // key outbound: Client, ClientPort, ListenerPort, Endpoint.Slot
	Target [16]byte // key of replies: Target, TargetPort, NATPort, Node.Slot

	// BytesOut and BytesIn count layer 3 bytes toward the target and toward the client.
	BytesOut, BytesIn uint64

	ClientPort, ListenerPort uint16
	TargetPort, NATPort      uint16

	Endpoint   Ref // the ENI the client talks to
	Node       Ref // the ENI the target sees
	TargetRef  Ref
	ClientSide Ref // port the client's packets come from and go to
	TargetSide Ref // port toward the target

	Seen      uint32 // milliseconds of engine time, modulo 2^32, of the last packet or state change
	ISN       uint32 // the client's initial sequence number
	AckTarget uint32 // highest acknowledgement from the target, in the target's sequence space
	AckClient uint32 // highest acknowledgement from the client

	State       State
	Flags       uint8
	TargetShift uint8  // window scale shift of the target; see WindowScale
	Ended       uint8  // why the dataplane ended the flow, 0 while it lives; given by the engine
	TargetMSS   uint16 // the target's MSS option, 536 where it sent none
	IdleTenths  uint16 // idle timeout when established, in tenths of a second
}

// EntrySize is the size of an Entry in bytes. With 24 bytes of index a flow costs 128 bytes, a million 128 MiB.
const EntrySize = 104

var _ [EntrySize]struct{} = [unsafe.Sizeof(Entry{})]struct{}{}
