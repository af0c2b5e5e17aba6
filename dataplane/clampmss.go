// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// clampMSS
//
// Expects: a tracked segment, either way.
// Does: lowers the MSS option of SYN and SYN-ACK so that segments fit EndpointMTU, and toward the client so that its
// first segment has room for the PROXY header. Never raises it.
// Drops: MSSTooSmall.
// See: RFC 6691; AWS PrivateLink quotas ("MSS clamping for all packets").
func (w *worker) clampMSS(p *packet) bool {
	if p.tcpFlags&wire.TCPSyn == 0 {
		return true
	}
	tcp := p.tcp()
	offered, present := tcp.MSS()
	if !p.inward() || p.flow.Flags&flow.Proxy == 0 {
		if present && offered > MaxMSS {
			w.setMSS(p, tcp, MaxMSS)
		}
		return true
	}
	if p.flow.TargetMSS < minProxyMSS {
		return w.drop(p, MSSTooSmall)
	}
	limit := p.flow.TargetMSS - headerLen
	if !present && p.insertMSS(limit) {
		w.total.live[totalClamped]++
	} else if offered > limit {
		w.setMSS(p, tcp, limit)
	}
	return true
}

func (w *worker) setMSS(p *packet, tcp wire.TCP, mss uint16) {
	off, _, _ := tcp.FindOption(wire.OptMSS)
	tcp.Patch(off+2, []byte{byte(mss >> 8), byte(mss)}, p.full())
	w.total.live[totalClamped]++
}

// insertMSS gives a SYN-ACK without MSS option one, and says whether the header had room for it. Without room the client assumes
// DefaultMSS and its first segment is cut behind the PROXY header.
func (p *packet) insertMSS(mss uint16) bool {
	const optLen = 4
	hl := int(p.body - p.l4)
	if hl+optLen > 60 || p.payload > 0 {
		return false
	}
	old := p.buf.Len()
	b := p.buf.SetLen(old + optLen)
	ip, tcp := wire.IPv4(b), wire.TCP(b[p.l4:])
	copy(tcp[wire.TCPMinLen+optLen:], tcp[wire.TCPMinLen:hl])
	copy(tcp[wire.TCPMinLen:], []byte{wire.OptMSS, optLen, byte(mss >> 8), byte(mss)})
	ip.RewriteTotalLen(old + optLen)
	tcp[12] += optLen / 4 << 4 // the data offset; the bits beside it stay
	p.body += optLen
	// The header word with the data offset, in its high four bits, has grown by one there.
	p.growSum(optLen, wire.Sum(tcp[wire.TCPMinLen:wire.TCPMinLen+optLen], optLen/4<<12))
	return true
}
