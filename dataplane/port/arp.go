// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// What the neighbour table does with what it is told, and when its time comes. All of it is called with neighbours.mu
// held, and knows the time from its caller only.

// handle takes in what a worker handed over, and frees the item or keeps it with the next hop.
func (n *neighbours) handle(now time.Duration, it *item) {
	if it.arp {
		n.handleARP(now, wire.ARP(it.data))
		n.freeARP <- it
		return
	}
	e := n.hops[it.hop]
	switch {
	case e != nil && e.known != nil: // answered while the packet was on its way here
		e.known.used.Store(true)
		n.transmit(it, e.known.mac)
	case e != nil && len(e.waiting) >= maxWaitingPerHop, e == nil && len(n.hops) >= maxNeighbours:
		n.drop(it)
	default:
		if e == nil {
			e = &entry{due: now}
			n.hops[it.hop] = e
		}
		e.owner = it.owner
		e.waiting = append(e.waiting, it)
	}
}

// handleARP learns from a frame, and answers it.
func (n *neighbours) handleARP(now time.Duration, arp wire.ARP) {
	ip, mac := arp.SenderIP(), arp.SenderMAC()
	asked := arp.Op() == wire.ARPRequest && n.owns(arp.TargetIP())
	if mac[0]&1 == 1 || mac == ([6]byte{}) || n.owns(ip) {
		return // no station's address, or somebody who claims ours
	}
	// A probe (RFC 5227 section 1.1) has no sender address: there is nothing to learn, but an answer to give.
	if n.subnet.Contains(netip.AddrFrom4(ip)) {
		n.learn(now, ip, mac, asked, arp.TargetIP())
	}
	if asked {
		n.sendARP(wire.ARPReply, arp.TargetIP(), ip, mac)
	}
}

// learn notes that ip is at mac. Only a station that asked us, or that we asked for, gets an entry.
func (n *neighbours) learn(now time.Duration, ip [4]byte, mac [6]byte, asked bool, owner [4]byte) {
	e := n.hops[ip]
	if e == nil {
		if !asked || len(n.hops) >= maxNeighbours {
			return
		}
		e = &entry{owner: owner}
		n.hops[ip] = e
	}
	if e.known == nil || e.known.mac != mac {
		used := e.known != nil && e.known.used.Load() || len(e.waiting) > 0
		e.known = &neighbour{mac: mac}
		e.known.used.Store(used)
		n.dirty = true
	}
	e.tries, e.due = 0, now+arpReachable
	for _, it := range e.waiting {
		n.transmit(it, mac)
	}
	e.waiting = nil
}

// expire does what is due and computes when to look again.
func (n *neighbours) expire(now time.Duration) {
	n.nextCheck = now + time.Hour
	for i := range n.self {
		if a := &n.self[i]; a.left > 0 {
			if a.due <= now {
				n.sendARP(wire.ARPRequest, a.ip, a.ip, broadcastMAC)
				a.left, a.due = a.left-1, now+announceEvery
			}
			if a.left > 0 {
				n.nextCheck = min(n.nextCheck, a.due)
			}
		}
	}
	for ip, e := range n.hops {
		if e.due <= now && !n.ask(now, ip, e) {
			n.dirty = n.dirty || e.known != nil
			delete(n.hops, ip)
			continue
		}
		n.nextCheck = min(n.nextCheck, e.due)
	}
}

// ask asks for a next hop again. It is false when the hop is to be forgotten: it does not answer, or nobody has sent to
// it since it last did.
func (n *neighbours) ask(now time.Duration, ip [4]byte, e *entry) bool {
	idle := e.known != nil && e.tries == 0 && !e.known.used.Swap(false)
	if idle || e.tries == arpTries {
		for _, it := range e.waiting {
			n.drop(it)
		}
		return false
	}
	to := broadcastMAC
	if e.known != nil {
		to = e.known.mac
	}
	if !n.owns(e.owner) && len(n.self) > 0 {
		e.owner = n.self[0].ip
	}
	n.sendARP(wire.ARPRequest, e.owner, ip, to)
	e.tries, e.due = e.tries+1, now+arpRetry
	return true
}

// sendARP sends from the address of ours self. A request's target has no link address yet; a reply's is to.
func (n *neighbours) sendARP(op uint16, self, target [4]byte, to [6]byte) {
	if !n.owns(self) {
		return
	}
	mac, tmac := macOf(n.hash, self), to
	if op == wire.ARPRequest {
		tmac = [6]byte{}
	}
	n.scratch.Reset()
	wire.PutARP(n.scratch.SetLen(wire.ARPLen), op, mac, self, tmac, target)
	putHeader(&n.header, to, mac, wire.EtherTypeARP)
	n.out.writeFrame(n.scratch, &n.header)
}

// transmit sends a packet that waited, and frees its item.
func (n *neighbours) transmit(it *item, to [6]byte) {
	it.load(n.scratch)
	putHeader(&n.header, to, macOf(n.hash, it.owner), wire.EtherTypeIPv4)
	sent, refused := n.out.writeFrame(n.scratch, &n.header)
	n.txPackets.Add(sent)
	n.txBytes.Add(uint64(len(it.data)))
	n.txRefused.Add(refused)
	n.free <- it
}

func (n *neighbours) drop(it *item) {
	n.neighbours.Add(1)
	n.free <- it
}
