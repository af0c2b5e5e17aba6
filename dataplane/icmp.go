// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// rewriteQuote turns an ICMP error about a segment that the node sent to the target into one about the segment that
// the client sent to the endpoint. It comes from the endpoint's address: those of the provider's network mean nothing
// to the client, and may overlap with its own. The number is shifted back, since Linux ignores an error whose quoted
// number it has not sent.
func (p *packet) rewriteQuote(e *flow.Entry, endpoint [4]byte) {
	b := p.buf.Bytes()
	client := unmapped(e.Client)
	quoted := wire.IPv4(b[p.quote:])
	seg := quoted[quoted.HeaderLen():]
	seq := ackToClient(e, p.seq)
	if len(seg) >= wire.TCPMinLen { // the quoted checksum stays as wrong, or as right, as it came
		tcp := wire.TCP(seg)
		c := wire.Update32(tcp.Checksum(), quoted.SrcUint32(), be32(client[:]))
		c = wire.Update32(c, quoted.DstUint32(), be32(endpoint[:]))
		c = wire.Update16(c, tcp.SrcPort(), e.ClientPort)
		c = wire.Update16(c, tcp.DstPort(), e.ListenerPort)
		tcp.SetChecksum(wire.Update32(c, p.seq, seq))
	}
	quoted.RewriteSrc(client)
	quoted.RewriteDst(endpoint)
	seg[0], seg[1] = byte(e.ClientPort>>8), byte(e.ClientPort)
	seg[2], seg[3] = byte(e.ListenerPort>>8), byte(e.ListenerPort)
	putBE32(seg[4:], seq)

	ip := p.ip()
	ip.RewriteSrc(endpoint)
	ip.RewriteDst(client)
	icmp := wire.ICMP(b[p.l4:])
	icmp.SetChecksum(0)
	icmp.SetChecksum(wire.Checksum(icmp, 0))
}
