// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

// Reason says why a packet went no further. The zero value means that nobody said why: it is counted, and is a bug.
type Reason uint8

// Reasons, by the part of a packet's way that gives them first. The sentences are in reasons.
const (
	Unexplained Reason = iota
	// parse
	NotIPv4
	Malformed
	NextHopOnly
	NotForwardable
	// fits
	TooBig
	// match and unmatched
	NoENI
	WrongSide
	BadSource
	// admit
	Fragment
	NotTCP
	ICMPQuery
	ICMPUnrelated
	ICMPFragNeeded
	ICMPBadChecksum
	BadFlags
	// find
	SecurityGroup
	NoListener
	ProviderInitiated
	NoFlow
	FlowExpired
	FlowReset
	FlowRemoved
	TargetUnhealthy
	TargetDeregistered
	// limit
	Bandwidth
	// track
	BadOption
	NoTarget
	NoRoute
	FlowTableFull
	PortsExhausted
	// clampMSS and announce
	MSSTooSmall
	OutOfBuffers
	// gather
	FragmentOrphan
	// stick
	NotInspected
	InspectionExpired
	// unwrap, decapsulate and recognise
	NotGeneve
	OuterChecksum
	GeneveTruncated
	GeneveVersion
	GeneveLayout
	GeneveProtocol
	WrongCookie
	WrongTarget
	WrongEndpoint
	WrongInner
	// send
	PortRefused
	// owner
	InboxFull

	reasonCount
)

// NumReasons is how many reasons there are; a Reason is below it.
const NumReasons = int(reasonCount)

// reasons is the drop table: one symbol and one sentence a reason. The symbol is the metrics' label and what
// `isthmus drops` prints.
var reasons = [NumReasons]struct{ symbol, sentence string }{
	Unexplained:        {"unexplained", "A stage stopped the packet without saying why; please report this as a bug."},
	NotIPv4:            {"not-ipv4", "Not an IPv4 packet; interface endpoints carry IPv4 only so far."},
	Malformed:          {"malformed", "A header is cut short or contradicts itself, or a checksum is wrong that would have to be made anew."},
	Fragment:           {"fragment", "An IP fragment; load balancers do not take fragments of TCP."},
	TooBig:             {"too-big", "Longer than the endpoint MTU of 8500 bytes; dropped in silence, no ICMP is sent."},
	NoENI:              {"no-eni", "No ENI has this destination address on this port."},
	WrongSide:          {"wrong-side", "The destination is an ENI of ours, but not one that this port reaches."},
	BadSource:          {"bad-source", "The source address cannot be a peer: it is an ENI's own, loopback, multicast or unspecified."},
	NoListener:         {"no-listener", "No listener of the endpoint's load balancer has this TCP port."},
	NotTCP:             {"not-tcp", "Not TCP: interface endpoints carry TCP only."},
	ICMPQuery:          {"icmp-query", "An ICMP message other than an error, such as ping; endpoints do not answer."},
	ICMPUnrelated:      {"icmp-unrelated", "An ICMP error that quotes no connection of this ENI, or comes from the client's side."},
	ICMPFragNeeded:     {"icmp-frag-needed", "An ICMP message about a smaller MTU; an endpoint never reports one."},
	ICMPBadChecksum:    {"icmp-bad-checksum", "An ICMP error whose checksum, or that of the header it quotes, is wrong."},
	NextHopOnly:        {"next-hop-only", "Addressed to a GWLB endpoint itself, which is a next hop and answers nothing."},
	NotForwardable:     {"not-forwardable", "A link-local or multicast packet; GWLB endpoints carry what a route table routes."},
	FragmentOrphan:     {"fragment-orphan", "A later fragment whose first fragment has not come, or came too long ago."},
	NotInspected:       {"not-inspected", "A TCP segment, not a SYN, of no flow that appliances have seen begin; silent by default."},
	InspectionExpired:  {"inspection-expired", "A TCP segment of a flow that had been idle for too long; silent by default."},
	NotGeneve:          {"not-geneve", "Addressed to a GWLB node, but not GENEVE over UDP port 6081 and no answer to a health check."},
	OuterChecksum:      {"outer-checksum", "The UDP checksum outside is neither zero nor right."},
	GeneveTruncated:    {"geneve-truncated", "Ends before the inner packet begins."},
	GeneveVersion:      {"geneve-version", "Not version 0 of GENEVE."},
	GeneveLayout:       {"geneve-layout", "Flags, VNI or options are not as they were sent: the three of class 0x0108, in order."},
	GeneveProtocol:     {"geneve-protocol", "The inner packet is not the IPv4 or IPv6 packet that the header announces."},
	WrongCookie:        {"wrong-cookie", "The flow cookie names no flow that lives."},
	WrongEndpoint:      {"wrong-endpoint", "The endpoint id is none of the flow's."},
	WrongTarget:        {"wrong-target", "Does not come from the flow's appliance, or the one before it, to the node it got the flow from."},
	WrongInner:         {"wrong-inner", "The inner packet does not belong to the flow, nor is it an error that quotes it."},
	BadFlags:           {"bad-flags", "A combination of TCP flags that no connection uses."},
	SecurityGroup:      {"security-group", "No security group of the endpoint lets the client connect to this port; dropped in silence."},
	Bandwidth:          {"bandwidth", "More than the endpoint's bandwidth in this zone; dropped, never queued."},
	BadOption:          {"bad-option", "A SYN with TCP MD5 or TCP-AO, which cannot survive address translation."},
	NoFlow:             {"no-flow", "A TCP segment of no known connection; answered with RST."},
	ProviderInitiated:  {"provider-initiated", "The provider's side tried to open a connection; only consumers can."},
	FlowExpired:        {"flow-expired", "The connection had been idle for too long; answered with RST."},
	FlowReset:          {"flow-reset", "A stray segment of a connection that was reset a moment ago; answered with RST, which its sender may have missed."},
	FlowRemoved:        {"flow-removed", "The endpoint, load balancer or port of the connection was removed; answered with RST."},
	TargetUnhealthy:    {"target-unhealthy", "The connection's target is unhealthy; answered with RST."},
	TargetDeregistered: {"target-deregistered", "The connection's target was deregistered and its delay has passed; answered with RST."},
	NoTarget:           {"no-target", "The target group has no target for a new connection in this zone; answered with RST."},
	NoRoute:            {"no-route", "No open port leads to the peer: its device or namespace is gone."},
	FlowTableFull:      {"flow-table-full", "The worker's flow table is full; answered with RST."},
	PortsExhausted:     {"ports-exhausted", "All source ports toward the target are in use or resting; answered with RST."},
	MSSTooSmall:        {"mss-too-small", "The target's MSS leaves no room for the PROXY protocol header in one segment."},
	OutOfBuffers:       {"out-of-buffers", "The worker had no buffer left for a packet of its own."},
	PortRefused:        {"port-refused", "The port did not take the packet: its queue is full or its device is gone."},
	InboxFull:          {"inbox-full", "The packet belongs to another worker whose inbox was full."},
}

// String is the reason's symbol.
func (r Reason) String() string { return reasons[r].symbol }

// Sentence explains the reason to a person.
func (r Reason) Sentence() string { return reasons[r].sentence }
