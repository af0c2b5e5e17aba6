// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// DefaultAcceptanceTimeout is how long an endpoint waits for its provider.
const DefaultAcceptanceTimeout = 7 * 24 * time.Hour

// Config says what the rules leave open. Its zero fields have defaults.
type Config struct {
	Region        string // "local-1"
	Partition     string // of ARNs: "aws"
	ServicePrefix string // of the names of services: "com.amazonaws.vpce"
	// AcceptanceTimeout is how long an endpoint waits for its provider before it has expired.
	AcceptanceTimeout time.Duration
	// DefaultQuotas are those of accounts that have no others; AWSQuotas for fields that are zero.
	DefaultQuotas Quotas
	// InterfaceBandwidth and GatewayBandwidth limit endpoints in each zone: 10 Gbit/s with bursts to 40, and 40.
	InterfaceBandwidth, GatewayBandwidth vpc.Bandwidth
	// MayAttach says whether an account may attach to the namespace at a path, which may be anybody's on the host. Nil: every
	// account may to all. Operators may without being asked about.
	MayAttach func(account, netns string) bool
	// NoLimits has the dataplane limit no endpoint's bandwidth.
	NoLimits bool
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	for _, f := range []struct {
		field     *string
		otherwise string
	}{{&c.Region, "local-1"}, {&c.Partition, "aws"}, {&c.ServicePrefix, "com.amazonaws.vpce"}} {
		if *f.field == "" {
			*f.field = f.otherwise
		}
	}
	if c.AcceptanceTimeout == 0 {
		c.AcceptanceTimeout = DefaultAcceptanceTimeout
	}
	c.DefaultQuotas = c.DefaultQuotas.or(AWSQuotas)
	if c.InterfaceBandwidth == (vpc.Bandwidth{}) {
		c.InterfaceBandwidth = vpc.Bandwidth{Rate: 10e9, Burst: 40e9, BurstTime: time.Second}
	}
	if c.GatewayBandwidth == (vpc.Bandwidth{}) {
		c.GatewayBandwidth = vpc.Bandwidth{Rate: 40e9, Burst: 40e9, BurstTime: time.Second}
	}
	return c
}

// bandwidth is the default of a type.
func (c *Config) bandwidth(t vpc.EndpointType) vpc.Bandwidth {
	if t == vpc.GatewayLoadBalancer {
		return c.GatewayBandwidth
	}
	return c.InterfaceBandwidth
}

// Set is all resources there are. Its methods, but for Commit, may be called from several goroutines while nobody
// commits. What they return must not be changed.
type Set struct {
	model
	revision uint64
	commits  uint64 // a Tx of an earlier count is stale
}

// NewSet is an empty set.
func NewSet(cfg Config) *Set {
	cfg = cfg.withDefaults()
	return &Set{model: model{cfg: &cfg}}
}

// Snapshot is the set as it is now: later commits do not show in it. It costs next to nothing.
func (s *Set) Snapshot() *Set {
	snapshot := *s
	return &snapshot
}

// Revision is that of the last commit.
func (s *Set) Revision() uint64 { return s.revision }

// Config is what NewSet was given, defaults filled in.
func (s *Set) Config() Config { return *s.cfg }

// Get finds a resource by its key, which may have its UID for an ID and, then, no account.
func (s *Set) Get(k Key) (Resource, bool) { return s.model.get(k) }

// List are the resources of a kind, of one account or, without one, of all, sorted by account and ID.
func (s *Set) List(kind Kind, account string) []Resource {
	return slices.Collect(s.model.list(kind, account))
}

// All goes through all resources, sorted by kind, account and ID: an order in which Tx.Restore takes them.
func (s *Set) All() iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for _, r := range s.resources.all() {
			if !yield(r) {
				return
			}
		}
	}
}

// Len is how many resources there are.
func (s *Set) Len() int { return s.resources.len() }

// ServiceByName finds an endpoint service by the name that consumers know.
func (s *Set) ServiceByName(name string) (*EndpointService, bool) { return s.model.serviceByName(name) }

// EndpointByUID finds an endpoint of any account.
func (s *Set) EndpointByUID(uid string) (*Endpoint, bool) {
	return lookup[*Endpoint](&s.model, KindEndpoint, "", uid)
}

// Connections are the endpoints of a service, in whatever state, sorted by account and ID.
func (s *Set) Connections(service Key) []*Endpoint {
	r, ok := s.model.get(service)
	if typed, is := r.(*EndpointService); ok && is {
		return slices.Collect(s.model.connections(typed))
	}
	return nil
}

// Offers are the services that a principal of an account may create endpoints for, sorted by account and ID. An empty
// principal is the account itself.
func (s *Set) Offers(account, principal string) []*EndpointService {
	var offers []*EndpointService
	for r := range s.model.list(KindEndpointService, "") {
		if service := r.(*EndpointService); s.model.admits(service, account, principal) {
			offers = append(offers, service)
		}
	}
	return offers
}

// CommonZones are the zone ids of a service in which an account has a subnet.
func (s *Set) CommonZones(service *EndpointService, account string) []string {
	has := map[string]bool{}
	for r := range s.model.list(KindSubnet, account) {
		has[r.(*Subnet).ZoneID] = true
	}
	var common []string
	for _, zone := range service.ZoneIDs {
		if has[zone] {
			common = append(common, zone)
		}
	}
	return common
}

// Visible says whether an actor may see a resource: operators see all, accounts what they own, services that they may use
// and the endpoints of their services.
func (s *Set) Visible(a Actor, r Resource) bool { return s.model.visible(a, r) }

// Quotas are those that are in force for an account.
func (s *Set) Quotas(account string) Quotas { return s.model.quotas(account) }

// names joins the IDs of resources for a message, and counts what would make it too long.
func names(keys []Key) string {
	const most = 3
	var b strings.Builder
	for i, k := range keys {
		if i == most {
			b.WriteString(" and others")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(k.Kind.String() + " " + k.ID)
	}
	return b.String()
}
