// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/dataplane/port"

// fits
//
// Expects: a parsed packet.
// Does: judges the length of each packet on the wire: IPv4 total length, or headers and gso_size for a super-packet.
// Drops: TooBig, whether or not DF is set; no ICMP answers.
// See: AWS PrivateLink guide, "Interface endpoint properties and limitations".
func (w *worker) fits(p *packet) bool {
	n, limit := p.buf.Len(), EndpointMTU
	if p.buf.GSOType != port.GSONone {
		n = min(n, int(p.buf.HdrLen)+int(p.buf.GSOSize))
	}
	if p.role == RoleGatewayEndpoint {
		limit = w.view.enis[p.key.ENI].gateway.mtu
	}
	if n > limit {
		return w.drop(p, TooBig)
	}
	return true
}
