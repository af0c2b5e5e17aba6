// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

// carry takes a parsed packet along the route of the ENI it is addressed to, and says whether it was sent.
func (w *worker) carry(p *packet) bool {
	switch p.role {
	case RoleEndpoint, RoleProbe:
		return w.toService(p)
	case RoleNode:
		return w.fromService(p)
	}
	return w.unmatched(p)
}

// toService: client -> endpoint ENI -> load balancer node -> target.
func (w *worker) toService(p *packet) bool {
	return w.fits(p) && // at most 8500 bytes; longer is dropped in silence
		w.match(p) && // the ENI exists and the source can be a client
		w.admit(p) && // TCP, whole, with sensible flags
		w.track(p) && // find the flow, or open it: pick a target, lease a NAT port
		w.clampMSS(p) && // SYN only
		w.announce(p) && // PROXY protocol header before the client's first byte, numbers after it shifted
		w.translate(p) && // source becomes the node, destination the target
		w.send(p) // onto the vector of the target's port
}

// fromService: target -> load balancer node -> endpoint ENI -> client.
func (w *worker) fromService(p *packet) bool {
	return w.fits(p) && // the same limit on the way back
		w.match(p) && // the source can be a target
		w.admitReply(p) && // TCP, or an ICMP error about a flow
		w.trackReply(p) && // find the flow; nothing from this side opens one
		w.clampMSS(p) && // SYN-ACK only
		w.unannounce(p) && // acknowledgements shifted back over the PROXY header
		w.translateReply(p) && // source becomes the endpoint, destination the client
		w.send(p) // onto the vector of the client's port
}
