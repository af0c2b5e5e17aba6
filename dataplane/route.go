// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/pkg/wire"

// carry takes a parsed packet along the route of the ENI it is addressed to, and says whether it was sent.
func (w *worker) carry(p *packet) bool {
	switch p.role {
	case RoleEndpoint, RoleProbe:
		return w.toService(p)
	case RoleNode:
		return w.fromService(p)
	case RoleGatewayEndpoint:
		return w.toAppliance(p)
	case RoleGatewayNode:
		if p.proto == wire.ProtoTCP || p.proto == wire.ProtoICMP {
			return w.fromService(p) // what a health check is answered with
		}
		return w.fromAppliance(p)
	}
	return w.unmatched(p)
}

// toService: client -> endpoint ENI -> load balancer node -> target.
func (w *worker) toService(p *packet) bool {
	return w.fits(p) && // at most 8500 bytes; longer is dropped in silence
		w.match(p) && // the ENI exists and the source can be a client
		w.admit(p) && // TCP, whole, with sensible flags
		w.find(p) && // the flow, or whether a security group lets the client open one
		w.limit(p) && // the endpoint's bandwidth
		w.track(p) && // follow the flow, or open it: pick a target, lease a NAT port
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
		w.findReply(p) && // the flow; nothing from this side opens one
		w.limitReply(p) && // the bandwidth of the flow's endpoint
		w.trackReply(p) && // follow the flow
		w.clampMSS(p) && // SYN-ACK only
		w.unannounce(p) && // acknowledgements shifted back over the PROXY header
		w.translateReply(p) && // source becomes the endpoint, destination the client
		w.send(p) // onto the vector of the client's port
}

// toAppliance: source -> GWLB endpoint -> GWLB node -> appliance.
func (w *worker) toAppliance(p *packet) bool {
	return w.fits(p) && // the inner packet: at most 8500 bytes
		w.gather(p) && // fragments: the ports of the first
		w.limit(p) && // the endpoint's bandwidth
		w.stick(p) && // find the flow, or begin it: pick an appliance, give it a cookie
		w.encapsulate(p) // GENEVE around each segment, onto the vector of the appliance's port
}

// fromAppliance: appliance -> GWLB node -> GWLB endpoint -> where the endpoint's subnet routes it.
func (w *worker) fromAppliance(p *packet) bool {
	return w.match(p) && // the source can be an appliance
		w.unwrap(p) // each datagram of a super-packet, by fromInside
}

// fromInside goes on with one datagram of fromAppliance.
func (w *worker) fromInside(in *inner) bool {
	return w.decapsulate(in) && // the header as it was sent, the flow its cookie names
		w.recognise(in) && // the appliance, endpoint and inner packet are the flow's
		w.leave(in) && // the endpoint by which it leaves
		w.limitInner(in) && // that endpoint's bandwidth
		w.deliver(in) // onto the vector of the endpoint's port, merged with its neighbours
}
