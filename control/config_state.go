// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Defaults of a configuration, those of network load balancers and, where they differ, of gateway load balancers.
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

// converter makes a vpc.State of the message it was written in. Its errors are vpc.FieldErrors, like those of rules.
type converter struct {
	errs []error
}

// stateFromProto converts a configuration and fills in defaults. It checks forms, not rules.
func stateFromProto(m *statev1.State) (*vpc.State, error) {
	c := &converter{}
	s := &vpc.State{Revision: m.Revision, HashKey: c.hashKey(m.HashKey)}
	for i, v := range m.Vpcs {
		s.VPCs = append(s.VPCs, vpc.VPC{ID: v.Id, CIDRs: c.prefixes(fmt.Sprintf("vpcs[%d].cidrs", i), v.Cidrs)})
	}
	for i, p := range m.Ports {
		s.Ports = append(s.Ports, c.port(fmt.Sprintf("ports[%d]", i), p))
	}
	for i, lb := range m.LoadBalancers {
		s.LoadBalancers = append(s.LoadBalancers, c.loadBalancer(fmt.Sprintf("load_balancers[%d]", i), lb))
	}
	gateways := s.GatewayGroups()
	for i, g := range m.TargetGroups {
		s.TargetGroups = append(s.TargetGroups, c.targetGroup(fmt.Sprintf("target_groups[%d]", i), g, gateways[g.Id]))
	}
	for _, e := range m.EndpointServices {
		s.Services = append(s.Services, vpc.EndpointService{ID: e.Id, LoadBalancers: e.LoadBalancerIds})
	}
	for i, e := range m.Endpoints {
		out := vpc.Endpoint{ID: e.Id, Service: e.ServiceId, VPC: e.VpcId, ENIs: c.enis(fmt.Sprintf("endpoints[%d].enis", i), e.Enis)}
		if e.Type == statev1.EndpointType_ENDPOINT_TYPE_GATEWAY_LOAD_BALANCER {
			out.Type = vpc.GatewayLoadBalancer
		}
		s.Endpoints = append(s.Endpoints, out)
	}
	if t := m.Testing; t != nil {
		s.Testing = &vpc.Testing{
			TCPIdle:        t.IdleTimeout.AsDuration(),
			HealthInterval: t.HealthCheckInterval.AsDuration(),
			HealthTimeout:  t.HealthCheckTimeout.AsDuration(),
		}
	}
	return s, errors.Join(c.errs...)
}

func (c *converter) fail(path, format string, args ...any) {
	c.errs = append(c.errs, &vpc.FieldError{Path: path, Problem: fmt.Sprintf(format, args...)})
}

func (c *converter) hashKey(s string) (key [16]byte) {
	if s == "" {
		return key
	}
	if n, err := hex.Decode(key[:], []byte(s[:min(len(s), 32)])); err != nil || n != len(key) || len(s) != 32 {
		c.fail("hash_key", "%q is not 32 hexadecimal digits; make one with: openssl rand -hex 16", s)
	}
	return key
}

// prefix parses a prefix; what is left out stays invalid, for the rules to judge.
func (c *converter) prefix(path, s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		c.fail(path, "%q is not a prefix; write an address and a length, such as 10.0.0.0/16", s)
	}
	return p
}

func (c *converter) prefixes(path string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		out = append(out, c.prefix(fmt.Sprintf("%s[%d]", path, i), s))
	}
	return out
}

// address parses an address; what is left out stays invalid, for the rules to judge.
func (c *converter) address(path, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		c.fail(path, "%q is not an address; write one such as 10.0.1.5", s)
	}
	return a
}

func (c *converter) portNumber(path string, n uint32) uint16 {
	if n > 65535 {
		c.fail(path, "%d is not a TCP port; write 1 to 65535", n)
	}
	return uint16(n)
}

func (c *converter) port(path string, p *statev1.Port) vpc.Port {
	out := vpc.Port{ID: p.Id, VPC: p.VpcId, Netns: p.Netns, Device: p.Device}
	switch kind := p.Kind.(type) {
	case *statev1.Port_Tun:
		out.Kind = vpc.TUN
		out.Addresses = c.prefixes(path+".tun.addresses", kind.Tun.Addresses)
		out.Routes = c.prefixes(path+".tun.routes", kind.Tun.Routes)
	case *statev1.Port_Tap:
		out.Kind = vpc.TAP
		out.Bridge = kind.Tap.Bridge
		out.Subnet = c.prefix(path+".tap.subnet", kind.Tap.Subnet)
		out.Gateway = c.address(path+".tap.gateway", kind.Tap.Gateway)
	}
	return out
}

func (c *converter) enis(path string, list []*statev1.ENI) []vpc.ENI {
	var out []vpc.ENI
	for i, e := range list {
		a := c.address(fmt.Sprintf("%s[%d].address", path, i), e.Address)
		out = append(out, vpc.ENI{Address: a, Zone: e.ZoneId, Ports: e.PortIds})
	}
	return out
}

func (c *converter) loadBalancer(path string, lb *statev1.LoadBalancer) vpc.LoadBalancer {
	out := vpc.LoadBalancer{ID: lb.Id, VPC: lb.VpcId, MTU: int(lb.Mtu), CrossZone: lb.CrossZone, Nodes: c.enis(path+".nodes", lb.Nodes)}
	if lb.Type == statev1.LoadBalancerType_LOAD_BALANCER_TYPE_GATEWAY {
		out.Type = vpc.Gateway
	}
	for i, l := range lb.Listeners {
		out.Listeners = append(out.Listeners, vpc.Listener{
			Port:        c.portNumber(fmt.Sprintf("%s.listeners[%d].port", path, i), l.Port),
			TargetGroup: l.TargetGroupId,
			IdleTimeout: durationOr(l.IdleTimeout, vpc.DefaultIdleTimeout),
			ResetOnIdle: l.SendTcpResetOnIdleTimeout,
		})
	}
	return out
}

// targetGroup converts a target group, whose defaults depend on the type of load balancer that uses it.
func (c *converter) targetGroup(path string, g *statev1.TargetGroup, gateway bool) vpc.TargetGroup {
	out := vpc.TargetGroup{
		ID:                        g.Id,
		VPC:                       g.VpcId,
		HealthCheck:               c.healthCheck(path+".health_check", g.HealthCheck, gateway),
		DeregistrationDelay:       durationOr(g.DeregistrationDelay, defaultDeregistrationDelay),
		TerminateOnDeregistration: g.TerminateOnDeregistration,
		TerminateOnUnhealthy:      !gateway,
		Rebalance:                 g.TargetFailover == statev1.TargetFailover_TARGET_FAILOVER_REBALANCE,
		ResetOnUnhealthy:          g.GetSendTcpReset().GetOnUnhealthy(),
		ResetOnDeregistration:     g.GetSendTcpReset().GetOnDeregistration(),
	}
	if g.TerminateOnUnhealthy != nil {
		out.TerminateOnUnhealthy = *g.TerminateOnUnhealthy
	}
	switch g.Stickiness {
	case statev1.Stickiness_STICKINESS_SOURCE_IP_DEST_IP_PROTO:
		out.Stickiness = vpc.ThreeTuple
	case statev1.Stickiness_STICKINESS_SOURCE_IP_DEST_IP:
		out.Stickiness = vpc.TwoTuple
	}
	out.ProxyProtocol.Enabled = g.GetProxyProtocolV2().GetEnabled()
	if g.GetProxyProtocolV2().GetHeaderPlacement() == statev1.HeaderPlacement_HEADER_PLACEMENT_ON_FIRST_ACK {
		out.ProxyProtocol.Placement = vpc.FirstACK
	}
	for i, t := range g.Targets {
		here := fmt.Sprintf("%s.targets[%d]", path, i)
		out.Targets = append(out.Targets, vpc.Target{
			Address:  c.address(here+".address", t.Address),
			Port:     c.portNumber(here+".port", t.Port),
			Zone:     t.ZoneId,
			Draining: t.Draining,
		})
	}
	return out
}

// healthCheck converts a health check; h may be nil, which is the default one.
func (c *converter) healthCheck(path string, h *statev1.HealthCheck, gateway bool) vpc.HealthCheck {
	if h == nil {
		h = &statev1.HealthCheck{}
	}
	out := vpc.HealthCheck{Protocol: vpc.CheckTCP, Port: c.portNumber(path+".port", h.Port), Path: h.Path}
	interval, timeout := defaultHealthInterval, defaultTimeoutTCP
	switch h.Protocol {
	case statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_NONE:
		return vpc.HealthCheck{Protocol: vpc.CheckNone}
	case statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_HTTP:
		out.Protocol, timeout = vpc.CheckHTTP, defaultTimeoutHTTP
	case statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_HTTPS:
		out.Protocol = vpc.CheckHTTPS
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
	out.Interval = durationOr(h.Interval, interval)
	// A timeout that was not chosen gives way to an interval that was.
	out.Timeout = durationOr(h.Timeout, min(timeout, max(out.Interval, vpc.MinHealthTimeout)))
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

// durationOr is the duration, or a default where it was left out.
func durationOr(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}
