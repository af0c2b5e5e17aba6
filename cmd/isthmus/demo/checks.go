// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import "context"

// Check shows one rule.
type Check struct {
	Name string
	// Rule is what must hold, in a few words; Page where the guide says so.
	Rule, Page string
	// Run returns the figure that it saw, or which part of the rule does not hold. What it changes in the configuration
	// is taken back after it.
	Run func(ctx context.Context, b *Bed) (figure string, err error)
}

// checks are made in this order: those that change nothing first.
var checks = []Check{
	{"reach", "every client reaches the service at every endpoint address", "p. 3", reach},
	{"source", "targets see the load balancer's node, not the client", "p. 41", source},
	{"overlap", "consumer and provider may have the same addresses", "p. 3, 41", overlap},
	{"sticky", "a connection stays on one target", "NLB flows", sticky},
	{"balance", "connections spread over the targets of all zones", "p. 38-40", balance},
	{"zones", "without cross-zone balancing, over those of the own zone", "p. 38-40", zones},
	{"proxy", "the PROXY header names the client and the endpoint's id", "p. 41", proxyHeader},
	{"greeting", "where servers speak first, the header comes before that", "NLB groups", greeting},
	{"mtu", "8500 bytes pass; 8501 vanish both ways, with no ICMP", "p. 75", mtu},
	{"mss", "the MSS is clamped: 8460, 8360 beside a PROXY header", "p. 75", mss},
	{"provider", "the provider cannot open connections", "p. 3", providerInitiates},
	{"listener", "a port without a listener does not answer", "NLB listeners", noListener},
	{"ping", "an endpoint does not answer ping", "p. 6", ping},
	{"udp", "an endpoint takes TCP only", "p. 6", udp},
	{"drain", "a draining target keeps its connections, gets no new ones", "NLB groups", drain},
	{"health", "an unhealthy target gets none and its connections end", "NLB health", unhealthy},
	{"idle", "an idle connection is forgotten: RST for its next packet", "NLB listeners", idle},
	{"pending", "an endpoint carries nothing until its provider accepts it", "p. 7, 49", pending},
	{"reject", "the provider may reject it later: RST to both sides", "p. 7, 49", rejected},
	{"again", "accepted again it works; old connections stay dead", "p. 49", acceptedAgain},
	{"stranger", "who is not allowed cannot connect to a service", "p. 46", notAllowed},
	{"in-use", "a service with endpoints cannot be deleted", "p. 53", serviceInUse},
	{"detach", "nor can its load balancer be detached", "p. 48", balancerInUse},
	{"delete", "only the consumer deletes an endpoint: packets stop", "p. 7, 37", deleted},
	{"sec-group", "security groups say who may connect; they are stateful", "p. 37", securityGroup},
	{"address", "addresses last as long as the endpoint", "p. 3", addressStays},
	{"no-zone", "endpoints are in zones of the service only", "p. 6, 40", zoneNotServed},
	{"bandwidth", "what is over the bandwidth is dropped, and counted", "p. 6, 75", bandwidth},
	{"quota", "a VPC has so many endpoints and no more", "p. 75", quota},
	{"bulk", "much data passes each way and arrives as it was sent", "p. 6", bulk},

	{"gw-tcp", "what a route leads into a GWLB endpoint is inspected", "p. 16, 42", inspectedTCP},
	{"gw-udp", "so is UDP, both ways in one appliance", "GWLB flows", inspectedUDP},
	{"gw-ping", "so is ICMP", "GWLB flows", inspectedPing},
	{"gw-ipv6", "so is IPv6, in the same GENEVE over IPv4", "GWLB", inspectedIPv6},
	{"gw-outside", "so is what begins outside: ingress routing", "p. 42-43", inspectedFromOutside},
	{"gw-overlap", "VPCs with the same addresses do not meet in an appliance", "p. 42", inspectedOverlap},
	{"gw-zones", "each zone has its own appliances", "p. 17", inspectedZones},
	{"gw-geneve", "appliances get GENEVE with the endpoint's id and a cookie", "GWLB", geneveForm},
	{"gw-mtu", "8500 bytes pass; 8501 vanish both ways, with no ICMP", "p. 75", inspectedMTU},
	{"gw-orphan", "no flow begins in the middle of a connection", "GWLB flows", inspectedOrphan},
	{"gw-forged", "what an appliance did not get, it cannot send", "GWLB", forged},
	{"gw-drain", "a draining appliance keeps its flows, gets no new ones", "GWLB groups", inspectedDrain},
	{"gw-dead", "no_rebalance: flows stay with a dead appliance", "GWLB groups", deadKeepsFlows},
	{"gw-moved", "rebalance: they move to another", "GWLB groups", deadMovesFlows},
	{"gw-reset", "send_tcp_reset: they end with RST", "GWLB groups", deadResetsFlows},
	{"gw-routes", "while routes lead to an endpoint it cannot be deleted", "p. 37", routesKeepEndpoint},
	{"gw-bulk", "much data passes appliances and arrives as it was sent", "p. 16", inspectedBulk},
}
