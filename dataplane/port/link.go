// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"hash/fnv"
	"sync/atomic"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// link is a worker's side of a layer 2 port: it tells frames for us from others, and finds the link header of packets
// to send. What it reads of the neighbour table is immutable.
type link struct {
	n *neighbours

	// The last packet resolved; a run of packets of one flow asks once.
	table         *linkTable
	src, dst, via [4]byte
	hop           *neighbour
}

// linkTable is what the workers know of a segment: replaced whole, never changed.
type linkTable struct {
	self map[[4]byte]bool
	// former are addresses that were of self not long ago; see neighbours.former.
	former map[[4]byte]bool
	// first is an address of self, the source of last resort.
	first [4]byte
	hops  map[[4]byte]*neighbour
}

// neighbour is a resolved next hop.
type neighbour struct {
	mac [6]byte
	// used is set by workers that send to it, and cleared by the table's owner when it looks.
	used atomic.Bool
}

// macPrefix marks a locally administered unicast address (IEEE 802, section 8.2).
const macPrefix = 0x06

// nameHash is the byte that tells the addresses of ports on one segment apart.
func nameHash(name string) byte {
	h := fnv.New32a()
	h.Write([]byte(name))
	s := h.Sum32()
	return byte(s>>24 ^ s>>16 ^ s>>8 ^ s)
}

// macOf is the link address of the ENI ip on the port of this name hash.
func macOf(hash byte, ip [4]byte) [6]byte {
	return [6]byte{macPrefix, hash, ip[0], ip[1], ip[2], ip[3]}
}

// owns says whether mac is that of an address that is or was ours, and which.
func (t *linkTable) owns(hash byte, mac [6]byte) ([4]byte, bool) {
	if mac[0] != macPrefix || mac[1] != hash {
		return [4]byte{}, false
	}
	ip := [4]byte(mac[2:])
	return ip, t.self[ip] || t.former[ip]
}

// owner is the address of ours that a packet leaves by: its own source, the ENI it is sent by, or any. Where we have none
// any more, it is the source as long as that is remembered. Otherwise it is false.
func (t *linkTable) owner(src, via [4]byte) ([4]byte, bool) {
	switch {
	case t.self[src]:
		return src, true
	case t.self[via]:
		return via, true
	}
	if len(t.self) > 0 {
		return t.first, true
	}
	return src, t.former[src]
}

// classify looks at the frame in b's window. For frameOurs the caller removes the link header.
func (l *link) classify(b *Buffer) frameClass {
	if b.Len() < wire.EtherLen {
		return frameInvalid
	}
	eth := wire.Ethernet(b.Bytes())
	t := l.n.table.Load()
	ip, ours := t.owns(l.n.hash, eth.Dst())
	if eth.EtherType() == wire.EtherTypeARP && (ours || eth.Dst() == broadcastMAC) {
		if arp, ok := wire.ParseARP(eth[wire.EtherLen:]); ok {
			l.n.offerARP(t, arp, ours)
		}
		return frameControl
	}
	if !ours {
		return frameForeign
	}
	if eth.EtherType() != wire.EtherTypeIPv4 && eth.EtherType() != wire.EtherTypeIPv6 {
		return frameInvalid
	}
	b.Via = ip
	return frameOurs
}

// hopState is the result of resolving a packet's next hop.
type hopState uint8

const (
	hopKnown   hopState = iota // the link header is complete
	hopWaiting                 // a copy of the packet waits for the answer
	hopNone                    // there is no next hop, or no room to wait
)

// resolve writes the link header of b, an IPv4 packet, into header. The header is that of the previous call if b goes
// the same way.
func (l *link) resolve(b *Buffer, header *[wire.EtherLen]byte) hopState {
	ip := wire.IPv4(b.Bytes())
	if len(ip) < wire.IPv4MinLen || ip.Version() != 4 {
		return hopNone
	}
	t := l.n.table.Load()
	src, dst := ip.Src(), ip.Dst()
	if t != l.table || src != l.src || dst != l.dst || b.Via != l.via {
		owner, ok := t.owner(src, b.Via)
		hop, ok2 := l.n.nextHop(dst)
		if !ok || !ok2 || t.self[hop] {
			return hopNone
		}
		nb := t.hops[hop]
		if nb == nil && !t.self[owner] {
			return hopNone // nobody is asked by an address that is not ours
		}
		if nb == nil {
			return l.n.offerPacket(b, owner, hop)
		}
		l.table, l.src, l.dst, l.via, l.hop = t, src, dst, b.Via, nb
		putHeader(header, nb.mac, macOf(l.n.hash, owner), wire.EtherTypeIPv4)
	}
	if !l.hop.used.Load() {
		l.hop.used.Store(true)
	}
	return hopKnown
}

func putHeader(h *[wire.EtherLen]byte, dst, src [6]byte, etherType uint16) {
	eth := wire.Ethernet(h[:])
	eth.SetDst(dst)
	eth.SetSrc(src)
	eth.SetEtherType(etherType)
}
