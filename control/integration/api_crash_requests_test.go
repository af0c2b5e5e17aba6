// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// States of endpoints that writers lead to.
var (
	waiting   = apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE.String()
	available = apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE.String()
	rejected  = apiv1.EndpointState_ENDPOINT_STATE_REJECTED.String()
)

// id is the request_id of the request that is being made.
func (w *crashWriter) id() string { return fmt.Sprintf("%d-%d", w.number, w.requests) }

func (w *crashWriter) endpoint(id string) string {
	return "accounts/" + w.consumer + "/endpoints/" + id
}

// tags are those of a resource that the request writes: one that is there keeps its birth.
func (w *crashWriter) tags(name string) map[string]string {
	n := strconv.Itoa(w.requests)
	born, _, there := strings.Cut(w.known[name], " ")
	if !there {
		born = n
	}
	return map[string]string{wroteTag: n, bornTag: born}
}

// endpoints are the names of those that are there in a state, or of all.
func (w *crashWriter) endpoints(state string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(w.known)) {
		if strings.Contains(name, "/endpoints/") && strings.HasSuffix(w.known[name], state) {
			names = append(names, name)
		}
	}
	return names
}

// foundation makes what endpoints need, for both accounts in one manifest.
func (w *crashWriter) foundation() *writeRequest {
	const zone = "use1-az1"
	of := func(account, rest string) string { return "accounts/" + account + "/" + rest }
	m := &apiv1.Manifest{Name: fmt.Sprintf("foundation-%d", w.number)}
	for _, account := range []string{w.provider, w.consumer} {
		m.Accounts = append(m.Accounts, &apiv1.Account{Name: "accounts/" + account})
		m.Vpcs = append(m.Vpcs, &apiv1.VPC{Name: of(account, "vpcs/v"), Cidrs: []string{"10.0.0.0/16"}})
		m.Subnets = append(m.Subnets, &apiv1.Subnet{Name: of(account, "subnets/s"), Vpc: "v", Cidr: "10.0.0.0/24", Zone: zone})
	}
	m.TargetGroups = []*apiv1.TargetGroup{{Name: of(w.provider, "targetGroups/base"), Vpc: "v"}}
	m.LoadBalancers = []*apiv1.LoadBalancer{{Name: of(w.provider, "loadBalancers/base"), Vpc: "v",
		Nodes: []*apiv1.SubnetAddress{{Subnet: "s"}}, Listeners: []*apiv1.Listener{{Port: 80, TargetGroup: "base"}}}}
	service := of(w.provider, "endpointServices/base")
	m.EndpointServices = []*apiv1.EndpointService{{Name: service, LoadBalancers: []string{"base"}, AllowedPrincipals: []string{"*"}}}
	request := &apiv1.ApplyRequest{Manifest: m, RequestId: w.id()}
	return &writeRequest{
		send: func(ctx context.Context, c *apiClient) error {
			_, err := c.Apply(ctx, request)
			if err != nil {
				return err
			}
			s, err := c.GetEndpointService(ctx, &apiv1.GetEndpointServiceRequest{Name: service})
			w.service = s.GetServiceName()
			return err
		},
		after: func(known map[string]string) map[string]string {
			for _, account := range []string{w.provider, w.consumer} {
				for _, rest := range []string{"vpcs/v", "subnets/s"} {
					known[of(account, rest)] = ""
				}
				known["accounts/"+account] = ""
			}
			for _, rest := range []string{"targetGroups/base", "loadBalancers/base", "endpointServices/base"} {
				known[of(w.provider, rest)] = ""
			}
			return known
		},
	}
}

// applyGroups applies a manifest with some of a few security groups and target groups, and prunes those of the last one that
// are not in it.
func (w *crashWriter) applyGroups() *writeRequest {
	m := &apiv1.Manifest{Name: "groups", Account: w.provider}
	now := map[string]string{}
	add := func(name string) (string, *apiv1.Metadata) {
		tags := w.tags(name)
		now[name] = remembered(tags, "")
		return name, &apiv1.Metadata{Tags: tags}
	}
	for n := range 8 {
		if w.random.IntN(2) == 0 {
			name, meta := add(fmt.Sprintf("accounts/%s/securityGroups/pruned-%d", w.provider, n))
			m.SecurityGroups = append(m.SecurityGroups, &apiv1.SecurityGroup{Name: name, Metadata: meta, Vpc: "v", Description: w.id()})
		}
		if w.random.IntN(2) == 0 {
			name, meta := add(fmt.Sprintf("accounts/%s/targetGroups/pruned-%d", w.provider, n))
			m.TargetGroups = append(m.TargetGroups, &apiv1.TargetGroup{Name: name, Metadata: meta, Vpc: "v"})
		}
	}
	request := &apiv1.ApplyRequest{Manifest: m, Prune: true, RequestId: w.id()}
	return &writeRequest{
		send: func(ctx context.Context, c *apiClient) error {
			_, err := c.Apply(as(ctx, w.provider), request)
			return err
		},
		after: func(known map[string]string) map[string]string {
			maps.DeleteFunc(known, func(name, _ string) bool { return strings.Contains(name, "/pruned-") })
			maps.Copy(known, now)
			return known
		},
	}
}

func (w *crashWriter) createEndpoint() *writeRequest {
	id := fmt.Sprintf("e-%d", w.requests)
	name := w.endpoint(id)
	tags := w.tags(name)
	request := &apiv1.CreateEndpointRequest{EndpointId: id, RequestId: w.id(), Endpoint: &apiv1.Endpoint{
		Metadata: &apiv1.Metadata{Tags: tags}, Vpc: "v", ServiceName: w.service, Enis: []*apiv1.SubnetAddress{{Subnet: "s"}},
	}}
	return &writeRequest{
		send: func(ctx context.Context, c *apiClient) error {
			e, err := c.CreateEndpoint(as(ctx, w.consumer), request)
			if err == nil {
				w.uids[name] = e.Metadata.Uid
			}
			return err
		},
		after: func(known map[string]string) map[string]string {
			known[name] = remembered(tags, waiting)
			return known
		},
	}
}

// decide accepts or rejects endpoints, all of them together; without any it does something else.
func (w *crashWriter) decide(names []string, to string) *writeRequest {
	if len(names) == 0 {
		return w.applyGroups()
	}
	var uids []string
	for _, name := range names {
		uids = append(uids, w.uids[name])
	}
	service := "accounts/" + w.provider + "/endpointServices/base"
	accept := &apiv1.AcceptConnectionsRequest{Service: service, EndpointUids: uids, RequestId: w.id()}
	reject := &apiv1.RejectConnectionsRequest{Service: service, EndpointUids: uids, RequestId: w.id()}
	return &writeRequest{
		send: func(ctx context.Context, c *apiClient) (err error) {
			if to == available {
				_, err = c.AcceptConnections(as(ctx, w.provider), accept)
			} else {
				_, err = c.RejectConnections(as(ctx, w.provider), reject)
			}
			return err
		},
		after: func(known map[string]string) map[string]string {
			for _, name := range names {
				i := strings.LastIndexByte(known[name], ' ')
				known[name] = known[name][:i+1] + to
			}
			return known
		},
	}
}

// update writes an endpoint's tags.
func (w *crashWriter) update(name string) *writeRequest {
	tags := w.tags(name)
	request := &apiv1.UpdateEndpointRequest{
		Endpoint:   &apiv1.Endpoint{Name: name, Metadata: &apiv1.Metadata{Tags: tags}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"metadata.tags"}}, RequestId: w.id(),
	}
	return &writeRequest{
		send: func(ctx context.Context, c *apiClient) error {
			_, err := c.UpdateEndpoint(as(ctx, w.consumer), request)
			return err
		},
		after: func(known map[string]string) map[string]string {
			state := known[name][strings.LastIndexByte(known[name], ' ')+1:]
			known[name] = remembered(tags, state)
			return known
		},
	}
}

func (w *crashWriter) remove(name string) *writeRequest {
	request := &apiv1.DeleteEndpointRequest{Name: name, RequestId: w.id()}
	return &writeRequest{
		send: func(ctx context.Context, c *apiClient) error {
			_, err := c.DeleteEndpoint(as(ctx, w.consumer), request)
			return err
		},
		after: func(known map[string]string) map[string]string {
			delete(known, name)
			return known
		},
	}
}
