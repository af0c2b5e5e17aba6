// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"regexp"
	"slices"
	"time"
)

// Ranges of Bandwidth. The least rate catches numbers that were meant in another unit; the largest is ten times what AWS
// offers in a zone, and keeps the dataplane's arithmetic in 64 bits.
const (
	MinBandwidth = 8_000             // bits a second
	MaxBandwidth = 1_000_000_000_000 // bits a second
	MaxBurstTime = time.Hour
)

var securityGroupID = regexp.MustCompile(`^sg-[a-z0-9][a-z0-9-]{0,59}$`)

// checkSecurityGroups checks the groups that endpoints refer to.
func (c *checker) checkSecurityGroups() {
	for i := range c.state.SecurityGroups {
		g := &c.state.SecurityGroups[i]
		at := nth("security_groups", i)
		id(c, c.securityGroups, at, g.ID, securityGroupID, "sg- and a name of lower case letters, digits and hyphens", g)
		for j := range g.Ingress {
			c.securityRule(nth(at+".ingress", j), &g.Ingress[j])
		}
	}
}

// securityRule checks one rule. A rule without sources lets nobody in: that is what is left of a reference to a group
// without members.
func (c *checker) securityRule(at string, r *SecurityRule) {
	if r.FromPort > r.ToPort {
		c.fail(at+".to_port", "%d is less than from_port (%d); write the range from low to high", r.ToPort, r.FromPort)
	}
	for i, p := range r.Sources {
		here := nth(at+".sources", i)
		if c.anyNetwork(here, p) && p.Addr().Is4In6() {
			c.fail(here, "%s stands for IPv4 addresses; write the IPv4 prefix itself", p)
		}
	}
}

// access checks who an endpoint lets in.
func (c *checker) access(at string, e *Endpoint) {
	if e.Type == GatewayLoadBalancer {
		if e.Filtered || len(e.SecurityGroups) > 0 {
			c.fail(at+".security_group_ids", "a GatewayLoadBalancer endpoint has no security groups; remove them, and filter at its appliances")
		}
		return
	}
	if !e.Filtered && len(e.SecurityGroups) > 0 {
		c.fail(at+".security_group_ids", "are not asked, since the endpoint is not filtered; have it filtered, or remove them")
	}
	for i, name := range e.SecurityGroups {
		here := nth(at+".security_group_ids", i)
		known(c, c.securityGroups, here, name, "security_groups")
		if slices.Contains(e.SecurityGroups[:i], name) {
			c.fail(here, "%q is there twice; leave one out", name)
		}
	}
}

// bandwidth checks the limit of an endpoint.
func (c *checker) bandwidth(at string, b *Bandwidth) {
	switch {
	case b.Rate == 0 && *b != (Bandwidth{}):
		c.fail(at+".rate", "is missing; write the bits a second that pass for ever, or remove burst and burst_time as well")
		return
	case b.Rate == 0:
		return
	case b.Rate < MinBandwidth || b.Rate > MaxBandwidth:
		c.fail(at+".rate", "%d is out of range; write %d to %d bits a second", b.Rate, MinBandwidth, uint64(MaxBandwidth))
	}
	switch {
	case b.Burst < b.Rate:
		c.fail(at+".burst", "%d is less than the rate of %d; write at least that", b.Burst, b.Rate)
	case b.Burst > MaxBandwidth:
		c.fail(at+".burst", "%d is out of range; write at most %d bits a second", b.Burst, uint64(MaxBandwidth))
	}
	switch {
	case b.BurstTime < 0 || b.BurstTime > MaxBurstTime:
		c.fail(at+".burst_time", "%s is out of range; write at most %s", seconds(b.BurstTime), seconds(MaxBurstTime))
	case b.BurstTime == 0 && b.Burst > b.Rate:
		c.fail(at+".burst_time", "is missing; write how long the burst may last, or make it the rate")
	}
}
