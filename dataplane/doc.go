// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package dataplane carries packets between the ENIs of interface endpoints and of load balancers. It knows no kernel
// API and no RPC: packets come and go by package port, the state comes from whoever calls Engine.Apply.
//
// A worker takes one turn after another (worker.go): it receives a batch from its queue of every ready port, parses
// (parse.go), carries each packet along one of the routes (route.go), transmits (send.go), publishes its counters
// (counters.go) and expires a few idle flows (expire.go).
//
//	client  --toService-->      target      full NAT, MSS clamp, PROXY protocol v2
//	client  <--fromService--    target
//	source  --toAppliance-->    appliance   sticky flow, GENEVE encapsulation
//	dest.   <--fromAppliance--  appliance   cookie check, GENEVE decapsulation
//
// A route is a chain of stages in the order the packet meets them. A stage is a method that answers one question: does
// the packet go on? When it does not, it has recorded one Reason. The stages stand one to a file:
//
//	fits        fits.go                    at most 8500 bytes on the wire
//	match       match.go                   a plausible source for the ENI
//	admit       admit.go                   TCP, or an ICMP error about a flow on the way back
//	find        find.go, group.go          the flow, or the client's right to open one
//	limit       limit.go, limiter.go       the bandwidth of the endpoint in its zone
//	track       track.go, open.go          the flow, followed or opened
//	clampMSS    clampmss.go                MSS of SYN and SYN-ACK
//	announce    announce.go, early.go      the PROXY header, and the shift it causes (seqmap.go, split.go)
//	unannounce  unannounce.go              the same shift taken back out of acknowledgements
//	translate   translate.go, icmp.go      addresses and ports
//	send        send.go                    the vector of the port it leaves by
//
//	gather       fragment.go               fragments with the ports of their first
//	stick        stick.go                  the flow through a GWLB endpoint, and its appliance
//	encapsulate  encapsulate.go            GENEVE around each packet or segment
//	unwrap       unwrap.go                 the datagrams of what an appliance returns
//	decapsulate  decapsulate.go            the header, and the flow its cookie names
//	recognise    decapsulate.go            that appliance, endpoint and inner packet are the flow's
//	leave        deliver.go                the endpoint it leaves by
//	deliver      deliver.go                the vector of that endpoint's port
//
// All four routes have limit, in the form of limitReply and limitInner where packets leave an endpoint.
//
// Toward appliances and on the way back packets of one stream travel in super-packets that runs.go puts together.
//
// What refuses a segment aloud is refuse.go, with RST. All reasons are in drop.go.
//
// # Ownership
//
// A worker owns its queue of every port, its shard of the flow table, its slice of every NAT port range and its counters;
// nothing of these is locked. All else it reads is one immutable view (view.go, made by compile*.go), swapped by an
// atomic pointer and loaded once a turn. The owner of a flow is computed from any of its packets (owner.go); a packet
// that the kernel gave to another worker is copied to its owner (inbox.go).
//
// A flow names its ENIs, its ports and its target by slot and generation, and these are compared on every packet. So a
// removed endpoint, or one of another generation, ends its flows, a slot that changes hands leads nowhere, and no other change of the view touches a
// flow.
//
// # Access and bandwidth
//
// Security groups are stateful: a client's packet is held against them when it belongs to no connection, and never after,
// also when the rules have changed. Whom they refuse gets no answer. A connection that has idled out, or a SYN with another
// initial number, is asked for anew; while that is refused, a connection that the tuple still has lives on.
//
// What is over an endpoint's bandwidth in a zone is dropped, never queued. Both ways count, so that what passes a GWLB
// endpoint to be inspected and returns is charged twice. What an earlier stage refuses is not charged; what a later one drops
// is, such as a SYN that finds no target, or a segment through a GWLB endpoint that is of no inspected flow. Nor is what the
// dataplane says itself: RST, and PROXY headers. A new endpoint may begin with a burst. A change of the limit keeps what has
// been saved up, as far as the new one lets it.
//
// # The return check
//
// What comes to a GWLB node is taken for an appliance's only when its GENEVE header is laid out as it was sent, its cookie
// names a flow that lives, its source is the flow's appliance or the one before it, its endpoint id is one of the flow's,
// and the inner packet has the flow's tuple in either direction or is an ICMP error that quotes it. Everything that
// appliances are known to change is left to them: outer TTL, DF, identification, TOS, UDP checksum (verified when it is not
// zero) and source port; inner TTL and payload; and which of the flow's two headers a packet returns under.
//
// # Behaviour that AWS does not document
//
// Half-open connections live 30 s, closed ones 60 s after both FINs, and 2 s after a RST. A RST that lies before what
// its receiver has acknowledged does not end the flow, but is passed on for the receiver to judge. Any other ends it, and
// what either side still says is answered with RST: a receiver that had to refuse the first one, since data before it
// was lost, asks so for another (RFC 5961 section 3.2). A SYN with a new initial number on a known tuple always opens a
// new flow. Errors quoted by ICMP come from the endpoint's address. TTL is not changed. A zone whose targets are all
// unhealthy refuses new connections as long as another zone of the group has a healthy one; the group fails open when
// none has.
package dataplane
