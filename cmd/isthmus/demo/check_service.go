// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"net/netip"

	"google.golang.org/grpc/codes"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// keeps makes sure that something the API refuses leaves packets alone: a connection from before goes on, and new ones are
// taken.
func (b *Bed) keeps(ctx context.Context, try func() error) error {
	to := b.endpoint(0, 0, portLine)
	held, err := b.line(ctx, "client-1", to)
	if err != nil {
		return err
	}
	defer held.Close()
	b.changed = true // if it is not refused
	if err := try(); err != nil {
		return err
	}
	if err := held.echo("still there"); err != nil {
		return fmt.Errorf("the connection from before: %w", err)
	}
	return b.answers(ctx, "client-1", to)
}

func serviceInUse(ctx context.Context, b *Bed) (string, error) {
	err := b.keeps(ctx, func() error {
		_, err := b.api.DeleteEndpointService(labapi.As(ctx, provider), &apiv1.DeleteEndpointServiceRequest{Name: "service"})
		return refused("deleting the service", err, codes.FailedPrecondition, "SERVICE_HAS_ENDPOINTS")
	})
	return "ExistingVpcEndpointConnections; connections old and new go on", err
}

func balancerInUse(ctx context.Context, b *Bed) (string, error) {
	err := b.keeps(ctx, func() error {
		as := labapi.As(ctx, provider)
		s, err := b.api.GetEndpointService(as, &apiv1.GetEndpointServiceRequest{Name: "service"})
		if err != nil {
			return err
		}
		s.LoadBalancers = []string{"near"}
		_, err = b.api.UpdateEndpointService(as, &apiv1.UpdateEndpointServiceRequest{EndpointService: s, UpdateMask: whole})
		return refused("detaching the load balancer", err, codes.FailedPrecondition, "SERVICE_HAS_ENDPOINTS")
	})
	return "ExistingVpcEndpointConnections; connections old and new go on", err
}

// The service of a load balancer with a node in one zone.
func zoneNotServed(ctx context.Context, b *Bed) (string, error) {
	const address = "10.0.2.150"
	request := b.request("near", "consumer-b")
	request.Enis[0].Address = address
	_, err := b.create(ctx, consumer, request)
	if err := refused("an endpoint in the other zone", err, codes.InvalidArgument, "ZONE_NOT_SERVED"); err != nil {
		return "", err
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(address), portLine)
	if err := b.silent(ctx, "client-3", to); err != nil {
		return "", err
	}
	g, err := b.create(ctx, consumer, b.request("near", "consumer-a"))
	if err != nil {
		return "", err
	}
	if err := b.answers(ctx, "client-1", g.to(0, portLine)); err != nil {
		return "", err
	}
	return fmt.Sprintf("refused in the zone without a node, %s is silent; in the other it answers", address), nil
}

// The account may have as many endpoints in the VPC as there are, and then one more.
func quota(ctx context.Context, b *Bed) (string, error) {
	const address = "10.0.1.150"
	b.after(func(ctx context.Context) error { return b.setQuota(ctx, 0) })
	if err := b.setQuota(ctx, interfaceEndpoints); err != nil {
		return "", err
	}
	request := b.request("near", "consumer-a")
	request.Enis[0].Address = address
	_, err := b.create(ctx, consumer, request)
	if err := refused("one endpoint too many", err, codes.ResourceExhausted, "QUOTA_EXCEEDED"); err != nil {
		return "", err
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(address), portLine)
	if err := b.silent(ctx, "client-1", to); err != nil {
		return "", err
	}
	if err := b.setQuota(ctx, interfaceEndpoints+1); err != nil {
		return "", err
	}
	if _, err := b.create(ctx, consumer, request); err != nil {
		return "", fmt.Errorf("with a larger quota: %w", err)
	}
	if err := b.answers(ctx, "client-1", to); err != nil {
		return "", fmt.Errorf("with a larger quota: %w", err)
	}
	return fmt.Sprintf("VpcEndpointLimitExceeded at %d, %s is silent; with %d it answers", interfaceEndpoints, address, interfaceEndpoints+1), nil
}

// setQuota has the operator set how many endpoints the consumer may have in a VPC; 0 is the default.
func (b *Bed) setQuota(ctx context.Context, endpoints uint32) error {
	b.changed = true
	a, err := b.api.GetAccount(ctx, &apiv1.GetAccountRequest{Name: "accounts/" + consumer})
	if err != nil {
		return err
	}
	a.Quotas = &apiv1.Quotas{EndpointsPerVpc: endpoints}
	_, err = b.api.UpdateAccount(ctx, &apiv1.UpdateAccountRequest{Account: a, UpdateMask: whole})
	if err != nil {
		return fmt.Errorf("set the quota: %w", labapi.Plain(err))
	}
	return nil
}
