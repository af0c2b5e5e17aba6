// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"maps"
	"reflect"
	"slices"
)

// copied is a copy of a list, nil when it is empty, so that lists that say the same are the same.
func copied[E any](list []E) []E {
	if len(list) == 0 {
		return nil
	}
	return slices.Clone(list)
}

// copiedMap is copied for maps.
func copiedMap[V any](m map[string]V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

// Clone is a copy of a resource that shares nothing with it, to be changed and handed to Tx.Update.
func Clone[R Resource](r R) R { return r.clone().(R) }

// same says whether two resources of one type differ in nothing but when they were updated.
func same(a, b Resource) bool {
	b = b.clone()
	b.Metadata().Updated = a.Metadata().Updated
	return reflect.DeepEqual(a, b)
}

func (m *Meta) cloned() Meta {
	n := *m
	n.Tags = copiedMap(m.Tags)
	return n
}

func (r *Account) clone() Resource {
	n := *r
	n.Meta, n.Zones = r.cloned(), copiedMap(r.Zones)
	return &n
}

func (r *VPC) clone() Resource {
	n := *r
	n.Meta, n.CIDRs = r.cloned(), copied(r.CIDRs)
	return &n
}

func (r *Subnet) clone() Resource {
	n := *r
	n.Meta = r.cloned()
	return &n
}

func (r *Attachment) clone() Resource {
	n := *r
	n.Meta, n.Addresses = r.cloned(), copied(r.Addresses)
	return &n
}

func (r *SecurityGroup) clone() Resource {
	n := *r
	n.Meta, n.Members, n.Ingress = r.cloned(), copied(r.Members), copied(r.Ingress)
	for i := range n.Ingress {
		n.Ingress[i].CIDRs = copied(n.Ingress[i].CIDRs)
	}
	return &n
}

func (r *LoadBalancer) clone() Resource {
	n := *r
	n.Meta, n.Nodes, n.Listeners = r.cloned(), copied(r.Nodes), copied(r.Listeners)
	return &n
}

func (r *TargetGroup) clone() Resource {
	n := *r
	n.Meta, n.Group.Targets, n.Draining = r.cloned(), copied(r.Group.Targets), copied(r.Draining)
	return &n
}

func (r *EndpointService) clone() Resource {
	n := *r
	n.Meta, n.LoadBalancers = r.cloned(), copied(r.LoadBalancers)
	n.Principals, n.ZoneIDs = copied(r.Principals), copied(r.ZoneIDs)
	return &n
}

func (r *Endpoint) clone() Resource {
	n := *r
	n.Meta, n.ENIs, n.SecurityGroups = r.cloned(), copied(r.ENIs), copied(r.SecurityGroups)
	return &n
}

func (r *RouteTable) clone() Resource {
	n := *r
	n.Meta, n.Routes = r.cloned(), copied(r.Routes)
	return &n
}
