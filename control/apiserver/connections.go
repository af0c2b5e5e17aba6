// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// connection is what a provider sees of an endpoint: who asks, and how it stands. Where the endpoint is in the consumer's
// network is not the provider's business.
type connection struct {
	service  *resource.EndpointService
	endpoint *resource.Endpoint
}

func (c connection) position() string { return positionOf(c.service) + "/" + c.endpoint.UID }

func (c connection) message() *apiv1.Connection {
	whole := codec.Encode(c.endpoint).(*apiv1.Endpoint)
	return &apiv1.Connection{
		EndpointUid: c.endpoint.UID,
		Owner:       c.endpoint.Account,
		Principal:   c.endpoint.Creator,
		State:       whole.State,
		CreateTime:  timestamppb.New(c.endpoint.Created),
		Type:        whole.Type,
		Service:     codec.Name(c.service.Key),
	}
}

// ListConnections lists the connections of a service or, for the name of an account, of all its services.
func (s endpoints) ListConnections(ctx context.Context, r *apiv1.ListConnectionsRequest) (*apiv1.ListConnectionsResponse, error) {
	var k resource.Key
	var err error
	account := ""
	if one := strings.Count(r.GetParent(), "/") > 1; one {
		k, err = s.key(ctx, "parent", r.GetParent(), resource.KindEndpointService)
	} else {
		account, err = s.parents(ctx, r.GetParent())
	}
	if err != nil {
		return nil, err
	}
	p, err := newPager(r, "connections", k.Account, k.ID, account)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListConnectionsResponse{}
	set := s.snapshot()
	services := set.List(resource.KindEndpointService, account)
	if k.Kind != 0 {
		service, ok := set.Get(k)
		if !ok {
			return nil, missing("parent", k)
		}
		services = []resource.Resource{service}
	}
	out.Connections, out.NextPageToken = page(p, connectionsOf(set, services), connection.position, connection.message)
	return out, nil
}

// connectionsOf are sorted by position.
func connectionsOf(set *resource.Set, services []resource.Resource) (all []connection) {
	for _, r := range services {
		service := r.(*resource.EndpointService)
		for _, e := range set.Connections(service.Key) {
			all = append(all, connection{service, e})
		}
	}
	slices.SortFunc(all, func(a, b connection) int { return strings.Compare(a.position(), b.position()) })
	return all
}

// AcceptConnections lets endpoints in.
func (s endpoints) AcceptConnections(ctx context.Context, r *apiv1.AcceptConnectionsRequest) (*apiv1.AcceptConnectionsResponse, error) {
	connections, revision, err := s.decide(ctx, r, (*resource.Tx).Accept)
	return &apiv1.AcceptConnectionsResponse{Connections: connections, Revision: revision}, err
}

// RejectConnections refuses endpoints, also those that were let in.
func (s endpoints) RejectConnections(ctx context.Context, r *apiv1.RejectConnectionsRequest) (*apiv1.RejectConnectionsResponse, error) {
	connections, revision, err := s.decide(ctx, r, (*resource.Tx).Reject)
	return &apiv1.RejectConnectionsResponse{Connections: connections, Revision: revision}, err
}

type decideRequest interface {
	changeRequest
	GetService() string
	GetEndpointUids() []string
}

// decide accepts or rejects.
func (s endpoints) decide(ctx context.Context, r decideRequest,
	verdict func(*resource.Tx, resource.Key, []string) ([]*resource.Endpoint, error),
) ([]*apiv1.Connection, uint64, error) {
	k, err := s.key(ctx, "service", r.GetService(), resource.KindEndpointService)
	if err != nil {
		return nil, 0, err
	}
	if len(r.GetEndpointUids()) == 0 {
		return nil, 0, invalid("endpoint_uids", "is missing; name the endpoints by their uids, as the list of connections has them")
	}
	out, err := s.change(ctx, r, false, func(tx *resource.Tx) ([]resource.Key, error) {
		decided, err := verdict(tx, k, r.GetEndpointUids())
		keys := make([]resource.Key, len(decided))
		for i, e := range decided {
			keys[i] = e.Key
		}
		return keys, err
	})
	if err != nil {
		return nil, 0, err
	}
	var connections []*apiv1.Connection
	set := s.snapshot()
	service, ok := set.Get(k)
	if !ok {
		return nil, out.Revision, nil // deleted in the meantime, and so are its connections
	}
	for _, endpoint := range out.Keys {
		if e, ok := current(set, out, endpoint).(*resource.Endpoint); ok {
			connections = append(connections, connection{service.(*resource.EndpointService), e}.message())
		}
	}
	return connections, out.Revision, nil
}

// ListOffers lists the services that an account may create endpoints for.
func (s endpoints) ListOffers(ctx context.Context, r *apiv1.ListOffersRequest) (*apiv1.ListOffersResponse, error) {
	actor := actorOf(ctx)
	account, err := s.parent(ctx, r.GetParent())
	if err != nil {
		return nil, err
	}
	principal := actor.Principal
	if account != actor.Account {
		principal = rootOf(account, s.table.partition)
	}
	p, err := newPager(r, "offers", account, r.GetServiceName())
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListOffersResponse{}
	set := s.snapshot()
	offers := set.Offers(account, principal)
	if name := r.GetServiceName(); name != "" {
		offers = slices.DeleteFunc(offers, func(o *resource.EndpointService) bool { return o.Name != name })
	}
	out.Offers, out.NextPageToken = page(p, offers,
		func(o *resource.EndpointService) string { return positionOf(o) },
		func(o *resource.EndpointService) *apiv1.Offer { return offer(o, set.CommonZones(o, account)) })
	return out, nil
}

// offer is a service as somebody sees it who has subnets in some of its zones.
func offer(o *resource.EndpointService, zones []string) *apiv1.Offer {
	return &apiv1.Offer{
		ServiceName:        o.Name,
		Type:               codec.Encode(o).(*apiv1.EndpointService).Type,
		Owner:              o.Account,
		AcceptanceRequired: !o.AutoAccept,
		ZoneIds:            zones,
	}
}
