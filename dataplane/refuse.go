// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/pkg/wire"

// ownTTL is the time to live of packets the dataplane makes itself.
const ownTTL = 64

// refuse drops a TCP segment and answers its sender with RST (RFC 9293, section 3.5.2), unless it is a RST itself. The
// segment must be as it was received: the answer comes from the address it was sent to.
func (w *worker) refuse(p *packet, why Reason) bool {
	w.drop(p, why)
	if p.tcpFlags&wire.TCPRst != 0 || p.quote != 0 {
		return false
	}
	buf := w.spare()
	if buf == nil {
		w.total.live[totalDrops+int(OutOfBuffers)]++
		return false
	}
	buf.Reset()
	buf.Via = p.buf.Via
	tcp := p.tcp()
	payload := max(0, len(tcp)-tcp.HeaderLen())
	n := wire.ResetLen
	if b := p.buf.Bytes(); b[0]>>4 == 6 {
		n = wire.PutReset6(buf.SetLen(wire.Reset6Len), wire.IPv6(b), tcp, payload)
	} else {
		wire.PutReset(buf.SetLen(n), p.ip(), tcp, payload)
	}
	w.enqueue(p.in, buf)
	w.total.live[totalOwnResets]++
	c := w.count(w.view.enis[p.key.ENI].counters[w.id])
	c.live[eniPacketsOut]++
	c.live[eniBytesOut] += uint64(n)
	return false
}
