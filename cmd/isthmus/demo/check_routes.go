// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// The endpoint of spoke-b is taken away step by step. What it inspected finds no other way.
func routesKeepEndpoint(ctx context.Context, b *Bed) (string, error) {
	stop, err := b.echoUDP(siteB, portEcho)
	if err != nil {
		return "", err
	}
	defer stop()
	b.changed = true
	as, name := labapi.As(ctx, consumer), name(consumer, resource.KindEndpoint, appB.out)
	_, err = b.api.DeleteEndpoint(as, &apiv1.DeleteEndpointRequest{Name: name})
	if err := refused("deleting the endpoint", err, codes.FailedPrecondition, "ENDPOINT_HAS_ROUTES"); err != nil {
		return "", err
	}
	if _, err := b.spreadUDP(ctx, appB, b.site(siteB, portEcho), 1); err != nil {
		return "", fmt.Errorf("while it has routes: %w", err)
	}
	for _, table := range []string{"app-b", "ingress-b"} {
		if _, err := b.api.DeleteRouteTable(as, &apiv1.DeleteRouteTableRequest{Name: table}); err != nil {
			return "", err
		}
	}
	if err := b.newestInForce(ctx, nil); err != nil {
		return "", err
	}
	if err := b.unheard(ctx); err != nil {
		return "", fmt.Errorf("without routes: %w", err)
	}
	if _, err := b.api.DeleteAttachment(as, &apiv1.DeleteAttachmentRequest{Name: "next-hop-" + appB.out}); err != nil {
		return "", err
	}
	g := &guest{&apiv1.Endpoint{Metadata: &apiv1.Metadata{Uid: b.gateway(appB.out).ID}}, consumer}
	if err := b.delete(ctx, g); err != nil {
		return "", err
	}
	if err := b.unheard(ctx); err != nil {
		return "", fmt.Errorf("without the endpoint: %w", err)
	}
	if err := b.restore(ctx); err != nil {
		return "", err
	}
	if _, err := b.spreadUDP(ctx, appB, b.site(siteB, portEcho), 1); err != nil {
		return "", fmt.Errorf("made again: %w", err)
	}
	return "DependencyViolation, inspection goes on; without routes deleted, nothing passes; made again, inspected", nil
}

// unheard makes sure that what spoke-b sends to the internet does not arrive there.
func (b *Bed) unheard(ctx context.Context) error {
	const wait = 50 * time.Millisecond
	d, err := b.dialUDP(ctx, appB.instance, b.site(siteB, portEcho))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.ask("hello", wait); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("a datagram to the internet should get no answer, but: %v", err)
	}
	return nil
}
