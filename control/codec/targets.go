// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Defaults of target groups: those of network load balancers and, where they differ, of gateway load balancers.
const (
	defaultDeregistrationDelay = 300 * time.Second
	defaultHealthInterval      = 30 * time.Second
	defaultTimeoutTCP          = 10 * time.Second
	defaultTimeoutHTTP         = 6 * time.Second
	gatewayHealthPort          = 80
	gatewayHealthInterval      = 10 * time.Second
	gatewayHealthTimeout       = 5 * time.Second
	defaultHealthyThreshold    = 5
	defaultUnhealthyThreshold  = 2
	defaultMatchLow            = 200
	defaultMatchHigh           = 399
)

// attributes are those of a target group, as state files and the API have them.
type attributes struct {
	proxyProtocol             *statev1.ProxyProtocolV2
	healthCheck               *statev1.HealthCheck
	deregistrationDelay       *durationpb.Duration
	terminateOnDeregistration bool
	terminateOnUnhealthy      *bool
	stickiness                statev1.Stickiness
	targetFailover            statev1.TargetFailover
	sendTCPReset              *statev1.SendTCPReset
}

// attributes converts the attributes of a target group, whose defaults depend on the type of load balancer that uses it.
func (c *converter) attributes(path string, a *attributes, gateway bool) vpc.TargetGroup {
	out := vpc.TargetGroup{
		HealthCheck:               c.healthCheck(join(path, "health_check"), a.healthCheck, gateway),
		DeregistrationDelay:       c.duration(join(path, "deregistration_delay"), a.deregistrationDelay, defaultDeregistrationDelay),
		TerminateOnDeregistration: a.terminateOnDeregistration,
		TerminateOnUnhealthy:      !gateway,
		Stickiness:                stickinesses.value(c, join(path, "stickiness"), a.stickiness),
		Rebalance:                 failovers.value(c, join(path, "target_failover"), a.targetFailover),
		ResetOnUnhealthy:          a.sendTCPReset.GetOnUnhealthy(),
		ResetOnDeregistration:     a.sendTCPReset.GetOnDeregistration(),
	}
	if a.terminateOnUnhealthy != nil {
		out.TerminateOnUnhealthy = *a.terminateOnUnhealthy
	}
	out.ProxyProtocol.Enabled = a.proxyProtocol.GetEnabled()
	out.ProxyProtocol.Placement = placements.value(c, join(path, "proxy_protocol_v2.header_placement"), a.proxyProtocol.GetHeaderPlacement())
	return out
}

// healthCheck converts a health check; h may be nil, which is the default one.
func (c *converter) healthCheck(path string, h *statev1.HealthCheck, gateway bool) vpc.HealthCheck {
	if h == nil {
		h = &statev1.HealthCheck{}
	}
	out := vpc.HealthCheck{Protocol: vpc.CheckTCP, Port: c.portNumber(path+".port", h.Port), Path: h.Path}
	interval, timeout := defaultHealthInterval, defaultTimeoutTCP
	if h.Protocol != statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_UNSPECIFIED {
		out.Protocol = checkProtocols.value(c, path+".protocol", h.Protocol)
	}
	switch out.Protocol {
	case vpc.CheckNone:
		return vpc.HealthCheck{}
	case vpc.CheckHTTP:
		timeout = defaultTimeoutHTTP
	}
	if out.Protocol != vpc.CheckTCP {
		out.MatchLow, out.MatchHigh = defaultMatchLow, defaultMatchHigh
		if h.Path == "" {
			out.Path = "/"
		}
	}
	if h.Matcher != "" {
		out.MatchLow, out.MatchHigh = c.matcher(path+".matcher", h.Matcher)
	}
	if gateway {
		interval, timeout = gatewayHealthInterval, gatewayHealthTimeout
		if h.Port == 0 {
			out.Port = gatewayHealthPort
		}
	}
	out.Interval = c.duration(path+".interval", h.Interval, interval)
	// A timeout that was not chosen gives way to an interval that was.
	out.Timeout = c.duration(path+".timeout", h.Timeout, min(timeout, max(out.Interval, vpc.MinHealthTimeout)))
	out.HealthyThreshold, out.UnhealthyThreshold = defaultHealthyThreshold, defaultUnhealthyThreshold
	if h.HealthyThreshold != nil {
		out.HealthyThreshold = int(*h.HealthyThreshold)
	}
	if h.UnhealthyThreshold != nil {
		out.UnhealthyThreshold = int(*h.UnhealthyThreshold)
	}
	return out
}

// matcher parses one status code or a range of them.
func (c *converter) matcher(path, s string) (low, high int) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	low, err1 := strconv.Atoi(from)
	high, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil {
		c.fail(path, "%q is not a status code (200) or a range of them (200-399)", s)
	}
	return low, high
}

// attributesToProto leaves out what is not for the type of load balancer that uses the group, unless it is set.
func attributesToProto(g *vpc.TargetGroup, gateway bool) *attributes {
	out := &attributes{
		healthCheck:               healthCheckToProto(&g.HealthCheck),
		deregistrationDelay:       durationpb.New(g.DeregistrationDelay),
		terminateOnDeregistration: g.TerminateOnDeregistration,
	}
	if !gateway || g.TerminateOnUnhealthy {
		out.terminateOnUnhealthy = proto.Bool(g.TerminateOnUnhealthy)
	}
	if gateway || g.Stickiness != vpc.FiveTuple {
		out.stickiness = stickinesses.message(g.Stickiness)
	}
	if gateway || g.Rebalance {
		out.targetFailover = failovers.message(g.Rebalance)
	}
	if g.ResetOnUnhealthy || g.ResetOnDeregistration {
		out.sendTCPReset = &statev1.SendTCPReset{OnUnhealthy: g.ResetOnUnhealthy, OnDeregistration: g.ResetOnDeregistration}
	}
	if g.ProxyProtocol != (vpc.ProxyProtocol{}) {
		out.proxyProtocol = &statev1.ProxyProtocolV2{
			Enabled: g.ProxyProtocol.Enabled, HeaderPlacement: placements.message(g.ProxyProtocol.Placement),
		}
	}
	return out
}

func healthCheckToProto(h *vpc.HealthCheck) *statev1.HealthCheck {
	protocol := checkProtocols.message(h.Protocol)
	if h.Protocol == vpc.CheckNone {
		return &statev1.HealthCheck{Protocol: protocol}
	}
	out := &statev1.HealthCheck{
		Protocol:           protocol,
		Port:               uint32(h.Port),
		Path:               h.Path,
		Interval:           durationpb.New(h.Interval),
		Timeout:            durationpb.New(h.Timeout),
		HealthyThreshold:   proto.Uint32(uint32(h.HealthyThreshold)),
		UnhealthyThreshold: proto.Uint32(uint32(h.UnhealthyThreshold)),
	}
	if h.Protocol != vpc.CheckTCP {
		out.Matcher = fmt.Sprintf("%d-%d", h.MatchLow, h.MatchHigh)
	}
	return out
}
