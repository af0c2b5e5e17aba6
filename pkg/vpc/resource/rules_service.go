// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func (*EndpointService) kind() Kind { return KindEndpointService }

func (r *EndpointService) prepare(t *Tx, old Resource, c *complaints) {
	r.Name = t.model.cfg.ServicePrefix + "." + t.model.cfg.Region + "." + r.UID
	if old != nil {
		r.Name = old.(*EndpointService).Name
	}
	for i := range r.LoadBalancers {
		resolve[*LoadBalancer](t, c, KindLoadBalancer, at("load_balancers", i), &r.LoadBalancers[i])
	}
	if len(c.errs) > 0 {
		return
	}
	r.derive(&t.model)
	if old == nil {
		t.quota(c, kinds[KindEndpointService].limit, "", "endpoint_services", "", t.model.count(KindEndpointService, r.Account)+1)
		return
	}
	o := old.(*EndpointService)
	if len(r.LoadBalancers) > 0 && r.Type != o.Type {
		c.fixed("load_balancers", false)
		return
	}
	attached, some := t.model.attached(o)
	for _, id := range o.LoadBalancers {
		if some && !slices.Contains(r.LoadBalancers, id) {
			c.add(FailedPrecondition, "SERVICE_HAS_ENDPOINTS", "ExistingVpcEndpointConnections", "load_balancers",
				"endpoint %s is attached, so that load balancer %s must stay; reject all endpoints first", attached.UID, id)
		}
	}
}

// attached is one endpoint that waits for a service or uses it, if there is one.
func (m *model) attached(s *EndpointService) (*Endpoint, bool) {
	for e := range m.connections(s) {
		if e.attached() {
			return e, true
		}
	}
	return nil, false
}

// derive sets what follows from the service's load balancers.
func (r *EndpointService) derive(m *model) {
	zones := map[string]bool{}
	for i, id := range r.LoadBalancers {
		lb, ok := lookup[*LoadBalancer](m, KindLoadBalancer, r.Account, id)
		if !ok {
			continue
		}
		if i == 0 {
			r.Type = vpc.Interface
			if lb.Type == vpc.Gateway {
				r.Type = vpc.GatewayLoadBalancer
			}
		}
		for _, n := range lb.Nodes {
			if s, ok := lookup[*Subnet](m, KindSubnet, r.Account, n.Subnet); ok {
				zones[s.ZoneID] = true
			}
		}
	}
	r.ZoneIDs = slices.Sorted(maps.Keys(zones))
}

func (r *EndpointService) form(c *complaints) {
	if len(r.LoadBalancers) == 0 {
		c.missing("load_balancers", "a service is offered by at least one load balancer")
	}
	c.principals("allowed_principals", r.Principals)
	if !strings.HasSuffix(r.Name, "."+r.UID) {
		c.wrong("service_name", "%q does not end with %q", r.Name, "."+r.UID)
	}
}

func (r *EndpointService) check(m *model, c *complaints) {
	var first *LoadBalancer
	seen := map[string]bool{}
	for i, id := range r.LoadBalancers {
		here := at("load_balancers", i)
		lb, ok := lookup[*LoadBalancer](m, KindLoadBalancer, r.Account, id)
		if !ok {
			c.absent(KindLoadBalancer, here, id)
			return
		}
		if first == nil {
			first = lb
		}
		if lb.Type != first.Type {
			c.conflict("LOAD_BALANCER_TYPE", here, "%s is a %s load balancer, %s a %s one; a service has one type, make a service of each",
				lb.ID, lb.Type, first.ID, first.Type)
		}
		if seen[lb.ID] {
			c.wrong(here, "%q is there twice; leave one out", lb.ID)
		}
		seen[lb.ID] = true
	}
	derived := Clone(r)
	derived.derive(m)
	if derived.Type != r.Type || !slices.Equal(derived.ZoneIDs, r.ZoneIDs) {
		c.wrong("zone_ids", "and type are not those of the load balancers: %v and %s", derived.ZoneIDs, derived.Type)
	}
}

func (r *EndpointService) release(t *Tx, c *complaints) {
	if e, some := t.model.attached(r); some {
		c.add(FailedPrecondition, "SERVICE_HAS_ENDPOINTS", "ExistingVpcEndpointConnections", "",
			"endpoint %s of account %s is %s; reject all endpoints that wait or are available first", e.UID, e.Account, e.State)
	}
}
