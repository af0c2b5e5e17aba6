// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Limits and times of the neighbour table of one port.
const (
	maxNeighbours    = 4096 // next hops known or asked for
	maxWaiting       = 256  // packets that wait, in all
	maxWaitingPerHop = 16   // packets that wait for one next hop
	maxARPQueued     = 64   // ARP frames on their way from the workers to the table

	arpTries      = 3                // requests before a next hop is given up
	arpRetry      = time.Second      // between requests
	arpReachable  = 30 * time.Second // how long an answer is good for
	announceCount = 2                // RFC 5227 section 1.1, ANNOUNCE_NUM
	announceEvery = 2 * time.Second  // RFC 5227 section 1.1, ANNOUNCE_INTERVAL
)

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// neighbours is the address resolution of one layer 2 port (ARP, RFC 826): it answers for our addresses, announces new
// ones (RFC 5227), finds next hops, and keeps packets that wait for them.
//
// Workers read table and hand over ARP frames and waiting packets through in; all else belongs to whoever holds mu: the
// loop, or SetAddresses.
type neighbours struct {
	hash     byte
	subnet   netip.Prefix
	gateway  [4]byte
	gateways bool // gateway is set

	table atomic.Pointer[linkTable]
	// Items circulate: from free or freeARP through in and back, so that nothing is allocated and all queues are bounded.
	in            chan *item
	free, freeARP chan *item
	counters

	mu        sync.Mutex
	now       func() time.Duration
	out       frameWriter
	self      []announcement
	former    map[[4]byte]time.Duration // when addresses went that were ours
	hops      map[[4]byte]*entry
	dirty     bool // table is out of date
	closed    bool
	scratch   *Buffer
	header    [wire.EtherLen]byte // of the frame in scratch
	kick      chan struct{}       // deadlines have changed outside the loop
	stop      chan struct{}
	stopped   chan struct{}
	nextCheck time.Duration
}

// frameWriter sends a packet behind a link header. Only the holder of neighbours.mu calls it.
type frameWriter interface {
	writeFrame(b *Buffer, header *[wire.EtherLen]byte) (sent, refused uint64)
}

// item is what a worker hands over: an ARP frame's body, or a packet and its next hop.
type item struct {
	packet
	arp        bool
	owner, hop [4]byte
}

// announcement is an address of ours, and how often it has still to be announced, next at due.
type announcement struct {
	ip   [4]byte
	left int
	due  time.Duration
}

// entry is the state of one next hop.
type entry struct {
	known   *neighbour // nil: not resolved
	owner   [4]byte    // the address of ours that asks
	tries   int        // requests sent since the last answer
	due     time.Duration
	waiting []*item
}

func newNeighbours(cfg *Config, out frameWriter) *neighbours {
	n := &neighbours{
		hash: nameHash(cfg.Name), subnet: cfg.Subnet.Masked(), now: cfg.Now, out: out,
		in:   make(chan *item, maxWaiting+maxARPQueued),
		free: make(chan *item, maxWaiting), freeARP: make(chan *item, maxARPQueued),
		hops: map[[4]byte]*entry{}, former: map[[4]byte]time.Duration{}, scratch: NewBuffer(),
		kick: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if cfg.Gateway.Is4() {
		n.gateway, n.gateways = cfg.Gateway.As4(), true
	}
	if n.now == nil {
		start := time.Now()
		n.now = func() time.Duration { return time.Since(start) }
	}
	for range maxWaiting {
		n.free <- &item{}
	}
	for range maxARPQueued {
		n.freeARP <- &item{arp: true, packet: packet{data: make([]byte, wire.ARPLen)}}
	}
	n.table.Store(&linkTable{})
	return n
}

// nextHop is the address on link that a packet to dst goes to.
func (n *neighbours) nextHop(dst [4]byte) ([4]byte, bool) {
	if n.subnet.Contains(netip.AddrFrom4(dst)) {
		return dst, true
	}
	return n.gateway, n.gateways
}

// offerARP hands a frame to the table's owner if it says anything to us. It is called by workers.
func (n *neighbours) offerARP(t *linkTable, arp wire.ARP, toUs bool) {
	if !toUs && !t.self[arp.TargetIP()] && t.hops[arp.SenderIP()] == nil {
		return
	}
	select {
	case it := <-n.freeARP:
		it.store(packet{data: arp})
		n.in <- it
	default:
		n.neighbours.Add(1)
	}
}

// offerPacket hands a copy of a packet to the table's owner, to be sent when hop is known. It is called by workers.
func (n *neighbours) offerPacket(b *Buffer, owner, hop [4]byte) hopState {
	select {
	case it := <-n.free:
		b.Flatten()
		it.store(packetOf(b))
		it.owner, it.hop = owner, hop
		n.in <- it
		return hopWaiting
	default:
		return hopNone
	}
}

// run owns the table until close is called.
func (n *neighbours) run() {
	defer close(n.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var it *item
		select {
		case <-n.stop:
			return
		case it = <-n.in:
		case <-n.kick:
		case <-timer.C:
		}
		n.mu.Lock()
		n.turn(it)
		wait := n.nextCheck - n.now()
		n.mu.Unlock()
		timer.Reset(max(0, wait))
	}
}

// turn handles an item, if any, and all others that are there; then what is due.
func (n *neighbours) turn(it *item) {
	now := n.now()
	for it != nil {
		n.handle(now, it)
		select {
		case it = <-n.in:
		default:
			it = nil
		}
	}
	n.expire(now)
	n.publish()
}

func (n *neighbours) owns(ip [4]byte) bool {
	return slices.ContainsFunc(n.self, func(a announcement) bool { return a.ip == ip })
}

// publish shows the workers what has changed.
func (n *neighbours) publish() {
	if !n.dirty {
		return
	}
	n.dirty = false
	t := &linkTable{
		self: make(map[[4]byte]bool, len(n.self)), former: make(map[[4]byte]bool, len(n.former)),
		hops: make(map[[4]byte]*neighbour, len(n.hops)),
	}
	for ip := range n.former {
		t.former[ip] = true
	}
	for _, a := range n.self {
		t.self[a.ip] = true
	}
	if len(n.self) > 0 {
		t.first = n.self[0].ip
	}
	for ip, e := range n.hops {
		if e.known != nil {
			t.hops[ip] = e.known
		}
	}
	n.table.Store(t)
}

// setAddresses replaces our addresses. Those that are new are announced now and once more.
func (n *neighbours) setAddresses(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	now := n.now()
	old := n.self
	n.self = nil
	for _, addr := range addrs {
		addr = addr.Unmap()
		if !addr.Is4() || n.owns(addr.As4()) {
			continue
		}
		a := announcement{ip: addr.As4(), left: announceCount, due: now}
		if i := slices.IndexFunc(old, func(o announcement) bool { return o.ip == a.ip }); i >= 0 {
			a = old[i]
		}
		n.self = append(n.self, a)
	}
	n.remember(now, old)
	slices.SortFunc(n.self, func(a, b announcement) int { return bytes.Compare(a.ip[:], b.ip[:]) })
	n.dirty = true
	n.expire(now)
	n.publish()
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// formerTime is how long frames to an address are still taken that is not ours any more, so that connections there can be
// ended: as long as the engine keeps its ENI's place. maxFormer bounds how many such addresses there are.
const (
	formerTime = 101 * time.Minute
	maxFormer  = 4096
)

// remember keeps those of the earlier addresses that are not ours any more.
func (n *neighbours) remember(now time.Duration, old []announcement) {
	for ip, since := range n.former {
		if now-since > formerTime || n.owns(ip) {
			delete(n.former, ip)
		}
	}
	for _, o := range old {
		if !n.owns(o.ip) && len(n.former) < maxFormer {
			n.former[o.ip] = now
		}
	}
}

// close ends run, after which nothing is written, and says whether this was the first call. Workers may still hand
// over; nobody takes it.
func (n *neighbours) close() bool {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	n.mu.Unlock()
	if first {
		close(n.stop)
	}
	<-n.stopped
	return first
}
