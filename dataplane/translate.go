// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// translate
//
// Expects: a tracked segment from the client.
// Does: makes it one from the load balancer node's address and the flow's NAT port to the target.
// Drops: nothing.
// See: RFC 1624; RFC 3022; pkg/wire on partial checksums.
func (w *worker) translate(p *packet) bool {
	e := p.flow
	p.rewrite(unmapped(w.view.enis[e.Node.Slot].addr), unmapped(e.Target), e.NATPort, e.TargetPort)
	return true
}

// translateReply
//
// Expects: a tracked segment, or a quoting ICMP error, from the target.
// Does: makes it one from the endpoint's address and listener port to the client.
// Drops: nothing.
// See: RFC 1624; RFC 5508 section 4.2 for ICMP.
func (w *worker) translateReply(p *packet) bool {
	e := p.flow
	endpoint := unmapped(w.view.enis[e.Endpoint.Slot].addr)
	if p.quote != 0 {
		p.rewriteQuote(e, endpoint)
		return true
	}
	p.rewrite(endpoint, unmapped(e.Client), e.ListenerPort, e.ClientPort)
	return true
}

// rewrite replaces addresses and ports and patches both checksums. The IPv4 header checksum is always complete; the
// TCP checksum, where it is partial, holds the pseudo-header alone, which has the addresses but not the ports.
func (p *packet) rewrite(src, dst [4]byte, sport, dport uint16) {
	ip, tcp := p.ip(), p.tcp()
	delta := difference(ip.SrcUint32(), src) + difference(ip.DstUint32(), dst)
	ip.SetChecksum(^wire.Fold(fold32(uint64(^ip.Checksum()) + delta)))
	if p.full() {
		delta += uint64(^tcp.SrcPort()) + uint64(sport) + uint64(^tcp.DstPort()) + uint64(dport)
		tcp.SetChecksum(^wire.Fold(fold32(uint64(^tcp.Checksum()) + delta)))
	} else {
		tcp.SetChecksum(wire.Fold(fold32(uint64(tcp.Checksum()) + delta)))
	}
	ip.SetSrc(src)
	ip.SetDst(dst)
	tcp.SetSrcPort(sport)
	tcp.SetDstPort(dport)
}

// difference is what replacing the address old by a adds to a ones' complement sum: ~old + a, as 16-bit words.
func difference(old uint32, a [4]byte) uint64 {
	o := ^old
	return uint64(o>>16) + uint64(o&0xffff) + uint64(a[0])<<8 + uint64(a[1]) + uint64(a[2])<<8 + uint64(a[3])
}

func fold32(sum uint64) uint32 { return uint32(sum>>16) + uint32(sum&0xffff) }
