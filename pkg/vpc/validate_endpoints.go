// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"maps"
	"slices"
	"strings"
)

// checkServices checks endpoint services.
func (c *checker) checkServices() {
	for i := range c.state.Services {
		s := &c.state.Services[i]
		at := nth("endpoint_services", i)
		id(c, c.services, at, s.ID, serviceID, "vpce-svc- and a name of lower case letters, digits and hyphens", s)
		if len(s.LoadBalancers) == 0 {
			c.fail(at+".load_balancer_ids", "is empty; a service is offered by at least one load balancer")
		}
		for j, name := range s.LoadBalancers {
			here := nth(at+".load_balancer_ids", j)
			lb := known(c, c.lbs, here, name, "load_balancers")
			if first := c.lbs[s.LoadBalancers[0]]; lb != nil && first != nil && lb.Type != first.Type {
				c.fail(here, "%q is a %s load balancer, %q a %s one; a service has one type, make a service of each",
					lb.ID, lb.Type, first.ID, first.Type)
			}
			if slices.Contains(s.LoadBalancers[:j], name) {
				c.fail(here, "%q is there twice; leave one out", name)
			}
		}
	}
}

// zonesOf are the zones in which a service has a load balancer node.
func (c *checker) zonesOf(s *EndpointService) map[string]bool {
	zones := map[string]bool{}
	for _, name := range s.LoadBalancers {
		if lb := c.lbs[name]; lb != nil {
			for _, n := range lb.Nodes {
				zones[n.Zone] = true
			}
		}
	}
	return zones
}

// checkEndpoints checks endpoints of both types.
func (c *checker) checkEndpoints() {
	seen := make(map[string]*Endpoint, len(c.state.Endpoints))
	served := map[string]map[string]bool{}
	for i := range c.state.Endpoints {
		e := &c.state.Endpoints[i]
		at := nth("endpoints", i)
		id(c, seen, at, e.ID, endpointID, "vpce- and 17 hexadecimal digits in lower case", e)
		v := known(c, c.vpcs, at+".vpc_id", e.VPC, "vpcs")
		s := known(c, c.services, at+".service_id", e.Service, "endpoint_services")
		if s != nil && served[s.ID] == nil {
			served[s.ID] = c.zonesOf(s)
		}
		if len(e.ENIs) == 0 {
			c.fail(at+".enis", "is empty; an endpoint has an ENI in at least one zone")
		}
		c.endpointType(at, e, s)
		c.access(at, e)
		c.bandwidth(at+".bandwidth", &e.Bandwidth)
		zones := map[string]bool{}
		for j := range e.ENIs {
			here := nth(at+".enis", j)
			eni := &e.ENIs[j]
			c.eni(here, eni, v)
			if eni.Zone != "" && zones[eni.Zone] {
				c.fail(here+".zone_id", "the endpoint has another ENI in %s; it has one a zone", eni.Zone)
			}
			zones[eni.Zone] = true
			if s != nil && eni.Zone != "" && !served[s.ID][eni.Zone] {
				c.fail(here+".zone_id", "%s has no load balancer node in %s; choose one of %s, or add a node",
					s.ID, eni.Zone, strings.Join(slices.Sorted(maps.Keys(served[s.ID])), ", "))
			}
		}
	}
}
