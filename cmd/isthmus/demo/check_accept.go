// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

func pending(ctx context.Context, b *Bed) (string, error) {
	g, err := b.create(ctx, consumer, b.request("service", "consumer-a"))
	if err != nil {
		return "", err
	}
	if g.State != apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE {
		return "", fmt.Errorf("the new endpoint is %s", g.State)
	}
	to := g.to(0, portLine)
	if err := b.silent(ctx, "client-1", to); err != nil {
		return "", fmt.Errorf("while it waits to be accepted: %w", err)
	}
	list, err := b.api.ListConnections(labapi.As(ctx, provider), &apiv1.ListConnectionsRequest{Parent: name(provider, resource.KindEndpointService, "service")})
	if err != nil {
		return "", err
	}
	seen := false
	for _, c := range list.Connections {
		seen = seen || c.EndpointUid == g.uid() && c.Owner == consumer
	}
	if !seen {
		return "", errors.New("the provider does not see the request")
	}
	begun := time.Now()
	if err := b.accept(ctx, g.uid()); err != nil {
		return "", err
	}
	took := time.Since(begun)
	if err := b.answers(ctx, "client-1", to); err != nil {
		return "", fmt.Errorf("accepted: %w", err)
	}
	err = await(ctx, "the endpoint to be available", func() bool {
		state, err := b.state(ctx, g)
		return err != nil || state == apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE
	})
	return fmt.Sprintf("pendingAcceptance: %s is silent; accepted, in force %.1f ms later: it answers", to.Addr(), milliseconds(took)), err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Each end sends once more after the rejection; the target's server says how it found its connection.
func rejected(ctx context.Context, b *Bed) (string, error) {
	g, err := b.guest(ctx)
	if err != nil {
		return "", err
	}
	t, err := b.transfer(ctx, "client-1", g.to(0, portLine))
	if err != nil {
		return "", err
	}
	defer t.abort()
	if err := t.goesOn(ctx); err != nil {
		return "", err
	}
	if err := b.reject(ctx, g.uid()); err != nil {
		return "", err
	}
	if err := b.bothReset(ctx, t); err != nil {
		return "", err
	}
	if err := b.gone(ctx, "client-1", g.to(0, portLine)); err != nil {
		return "", err
	}
	return fmt.Sprintf("RST to both after %d KiB; a new SYN dropped as no-eni", t.chunks.Load()*chunk>>10), nil
}

// bothReset makes sure that both ends of a transfer through an interface endpoint have been reset.
func (b *Bed) bothReset(ctx context.Context, t *transfer) error {
	end, err := b.serverEnd(t.line)
	if err != nil {
		return err
	}
	var clientSaw, targetSaw error
	select {
	case clientSaw = <-t.done:
		t.done <- clientSaw
	case <-ctx.Done():
		return fmt.Errorf("waiting for the client's end: %w", context.Cause(ctx))
	}
	end.Write([]byte("x")) // fails if it knows already
	select {
	case targetSaw = <-end.ended:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the target's end: %w", context.Cause(ctx))
	}
	if !errors.Is(clientSaw, syscall.ECONNRESET) || !errors.Is(targetSaw, syscall.ECONNRESET) {
		return fmt.Errorf("both ends should see RST; the client saw %w, the target %w", clientSaw, targetSaw)
	}
	return nil
}

// The old connection does not hear of the rejection, as neither end speaks meanwhile.
func acceptedAgain(ctx context.Context, b *Bed) (string, error) {
	g, err := b.guest(ctx)
	if err != nil {
		return "", err
	}
	old, err := b.line(ctx, "client-1", g.to(0, portLine))
	if err != nil {
		return "", err
	}
	defer old.Close()
	if err := old.echo("hello"); err != nil {
		return "", err
	}
	if err := b.reject(ctx, g.uid()); err != nil {
		return "", err
	}
	if err := b.accept(ctx, g.uid()); err != nil {
		return "", err
	}
	if err := b.answers(ctx, "client-1", g.to(0, portLine)); err != nil {
		return "", fmt.Errorf("accepted again: %w", err)
	}
	if err := old.echo("still there?"); !errors.Is(err, syscall.ECONNRESET) {
		return "", fmt.Errorf("the connection from before should end with RST, got %v", err)
	}
	return "a new connection works, RST to the old one", nil
}

// Somebody else's VPC, with the consumer's addresses. When it is allowed, the same request goes through.
func notAllowed(ctx context.Context, b *Bed) (string, error) {
	const client = "outsider"
	v := b.vpc("stranger")
	request := b.request("near", "stranger-a")
	request.Vpc, request.SecurityGroups = v.Name, nil
	request.Enis[0].Address = b.topology.Endpoints[0].ENIs[0].Address.String()
	if err := b.attach(ctx, v, "a"); err != nil {
		return "", err
	}
	_, err := b.create(ctx, stranger, request)
	if err := refused("the stranger's endpoint", err, codes.NotFound, "SERVICE_NOT_FOUND"); err != nil {
		return "", err
	}
	to := b.endpoint(0, 0, portLine)
	if err := b.silent(ctx, client, to); err != nil {
		return "", err
	}
	if err := b.allow(ctx, "near", stranger); err != nil {
		return "", err
	}
	if err := b.openDefaultGroup(ctx, v); err != nil {
		return "", err
	}
	if _, err := b.create(ctx, stranger, request); err != nil {
		return "", fmt.Errorf("allowed: %w", err)
	}
	if err := b.answers(ctx, client, to); err != nil {
		return "", fmt.Errorf("allowed: %w", err)
	}
	return fmt.Sprintf("InvalidServiceName, %s is silent; allowed, it answers", to.Addr()), nil
}

// allow adds an account to those that may connect to a service.
func (b *Bed) allow(ctx context.Context, service, account string) error {
	ctx = labapi.As(ctx, provider)
	s, err := b.api.GetEndpointService(ctx, &apiv1.GetEndpointServiceRequest{Name: service})
	if err != nil {
		return err
	}
	s.AllowedPrincipals = append(s.AllowedPrincipals, "arn:aws:iam::"+account+":root")
	s, err = b.api.UpdateEndpointService(ctx, &apiv1.UpdateEndpointServiceRequest{EndpointService: s, UpdateMask: whole})
	return b.inForce(ctx, s.GetMetadata().GetRevision(), err)
}

// openDefaultGroup makes the instances of a VPC members of its default security group.
func (b *Bed) openDefaultGroup(ctx context.Context, v *lab.VPC) error {
	m, err := b.api.GetVPC(labapi.As(ctx, v.Account), &apiv1.GetVPCRequest{Name: v.Name})
	if err != nil {
		return err
	}
	setMembers := func(ctx context.Context, members ...string) error {
		g, err := b.api.UpdateSecurityGroup(labapi.As(ctx, v.Account), &apiv1.UpdateSecurityGroupRequest{
			SecurityGroup: &apiv1.SecurityGroup{Name: m.DefaultSecurityGroup, Members: members},
			UpdateMask:    &fieldmaskpb.FieldMask{Paths: []string{"members"}},
		})
		return b.inForce(ctx, g.GetMetadata().GetRevision(), err)
	}
	b.after(func(ctx context.Context) error { return setMembers(ctx) })
	return setMembers(ctx, v.CIDR.String())
}

func deleted(ctx context.Context, b *Bed) (string, error) {
	g, err := b.guest(ctx)
	if err != nil {
		return "", err
	}
	t, err := b.transfer(ctx, "client-1", g.to(0, portLine))
	if err != nil {
		return "", err
	}
	defer t.abort()
	_, err = b.api.DeleteEndpoint(labapi.As(ctx, provider), &apiv1.DeleteEndpointRequest{Name: g.uidName()})
	if err == nil {
		return "", errors.New("the provider has deleted it")
	}
	if err := t.goesOn(ctx); err != nil {
		return "", err
	}
	if len(t.done) > 0 {
		return "", errors.New("the provider's attempt to delete it has ended a connection")
	}
	begun := time.Now()
	if err := b.delete(ctx, g); err != nil {
		return "", err
	}
	took := time.Since(begun)
	if err := b.bothReset(ctx, t); err != nil {
		return "", err
	}
	if err := b.gone(ctx, "client-1", g.to(0, portLine)); err != nil {
		return "", err
	}
	return fmt.Sprintf("the provider may not; by the consumer, gone after %.1f ms: RST to both, a new SYN dropped", milliseconds(took)), nil
}
