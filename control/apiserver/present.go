// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/netip"
	"sync"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// presenter makes messages with what resources do not know of themselves: what the dataplane runs of them.
type presenter struct {
	server *Server
	set    *resource.Set
	status keeper.Status
}

// snapshot is what there is now. It stays as it is, so that nobody is held up by whoever reads it.
func (s *Server) snapshot() (snapshot *resource.Set) {
	s.opts.Keeper.View(func(set *resource.Set) { snapshot = set.Snapshot() })
	return snapshot
}

func (s *Server) presenter(set *resource.Set) *presenter {
	return &presenter{server: s, set: set, status: s.opts.Keeper.Status()}
}

// problemCache has the problems of one revision: finding them takes a compilation, and many ask.
type problemCache struct {
	mu       sync.Mutex
	revision uint64
	problems map[resource.Key]string
}

func (c *problemCache) of(set *resource.Set) map[resource.Key]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problems == nil || c.revision != set.Revision() {
		c.problems, c.revision = set.Problems(), set.Revision()
	}
	return c.problems
}

// problem says why the dataplane does not run a resource as it is.
func (p *presenter) problem(r resource.Resource) string {
	meta := r.Metadata()
	if held := p.status.Held[meta.UID]; held != "" {
		return held
	}
	switch meta.Kind {
	case resource.KindLoadBalancer, resource.KindEndpointService, resource.KindEndpoint, resource.KindRouteTable:
		if problem := p.server.problems.of(p.set)[meta.Key]; problem != "" {
			return problem
		}
	}
	if meta.Revision > p.status.Applied {
		return p.status.Problem
	}
	return ""
}

// message is the whole message of a resource.
func (p *presenter) message(r resource.Resource) proto.Message {
	out := codec.Encode(r).(message)
	meta := out.GetMetadata()
	meta.AppliedRevision = min(meta.Revision, p.status.Applied)
	meta.Problem = p.problem(r)
	live := p.server.opts.Live
	switch m := out.(type) {
	case *apiv1.Attachment:
		m.Open = live != nil && live.PortOpen(m.Metadata.Uid)
	case *apiv1.LoadBalancer:
		p.fillZones(r.Metadata().Account, m.Nodes)
	case *apiv1.Endpoint:
		p.fillZones(r.Metadata().Account, m.Enis)
	case *apiv1.TargetGroup:
		p.fillHealth(m.Metadata.Uid, m.Targets)
		p.fillHealth(m.Metadata.Uid, m.DrainingTargets)
	}
	return out
}

func (p *presenter) fillZones(account string, enis []*apiv1.SubnetAddress) {
	for _, e := range enis {
		if k, err := codec.ParseName(e.Subnet, resource.KindSubnet, account); err == nil {
			if subnet, ok := p.set.Get(k); ok {
				e.ZoneId = subnet.(*resource.Subnet).ZoneID
			}
		}
	}
}

func (p *presenter) fillHealth(group string, targets []*apiv1.Target) {
	live := p.server.opts.Live
	if live == nil {
		return
	}
	for _, t := range targets {
		if address, err := netip.ParseAddr(t.Address); err == nil {
			t.Health, t.HealthReason = live.TargetHealth(group, netip.AddrPortFrom(address, uint16(t.Port)))
		}
	}
}
