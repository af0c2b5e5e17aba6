// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// guest is an interface endpoint that a check has made, and takes away.
type guest struct {
	*apiv1.Endpoint
	account string
}

// guestID is the id of such an endpoint; there is one at a time.
const guestID = "guest"

// to is a port of the endpoint at one of its addresses.
func (g *guest) to(eni int, port uint16) netip.AddrPort {
	a, _ := netip.ParseAddr(g.Enis[eni].Address)
	return netip.AddrPortFrom(a, port)
}

func (g *guest) uid() string { return g.Metadata.Uid }

// serviceName is what consumers ask for to connect to a service of demo.yaml.
func (b *Bed) serviceName(service string) string {
	for _, s := range b.topology.Services {
		if s.Name == service {
			return "com.amazonaws.vpce.local-1." + s.ID
		}
	}
	return ""
}

// request is what the consumer asks for: an endpoint of a service in a subnet of its VPC, open to everybody there.
func (b *Bed) request(service, subnet string) *apiv1.Endpoint {
	return &apiv1.Endpoint{
		Vpc: "consumer", ServiceName: b.serviceName(service), Enis: []*apiv1.SubnetAddress{{Subnet: subnet}},
		SecurityGroups: []string{"consumer"},
	}
}

// create makes an endpoint, and has it deleted after the check. It may have to be accepted.
func (b *Bed) create(ctx context.Context, account string, e *apiv1.Endpoint) (*guest, error) {
	e, err := b.api.CreateEndpoint(labapi.As(ctx, account), &apiv1.CreateEndpointRequest{EndpointId: guestID, Endpoint: e})
	if err != nil {
		return nil, err
	}
	g := &guest{e, account}
	b.after(func(ctx context.Context) error { return b.delete(ctx, g) })
	return g, b.inForce(ctx, e.Metadata.Revision, nil)
}

// guest makes an endpoint in the consumer's first zone, and has it accepted.
func (b *Bed) guest(ctx context.Context) (*guest, error) {
	g, err := b.create(ctx, consumer, b.request("service", "consumer-a"))
	if err != nil {
		return nil, err
	}
	return g, b.accept(ctx, g.uid())
}

// delete deletes an endpoint, as its owner, and waits until it is gone. One that is gone is a success.
func (b *Bed) delete(ctx context.Context, g *guest) error {
	ctx = labapi.As(ctx, g.account)
	_, err := b.api.DeleteEndpoint(ctx, &apiv1.DeleteEndpointRequest{Name: g.uidName()})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete endpoint %s: %w", g.uid(), labapi.Plain(err))
	}
	b.changed = true
	return await(ctx, "endpoint "+g.uid()+" to be gone", func() bool {
		_, err := b.api.GetEndpoint(ctx, &apiv1.GetEndpointRequest{Name: g.uidName()})
		return status.Code(err) == codes.NotFound
	})
}

// uidName names the endpoint so that no later one of its id is meant.
func (g *guest) uidName() string { return name(g.account, resource.KindEndpoint, g.uid()) }

// state is that of an endpoint now.
func (b *Bed) state(ctx context.Context, g *guest) (apiv1.EndpointState, error) {
	e, err := b.api.GetEndpoint(labapi.As(ctx, g.account), &apiv1.GetEndpointRequest{Name: g.uidName()})
	return e.GetState(), err
}

// change changes an endpoint, as its owner.
func (b *Bed) change(ctx context.Context, g *guest, edit func(*apiv1.Endpoint)) error {
	ctx = labapi.As(ctx, g.account)
	e, err := b.api.GetEndpoint(ctx, &apiv1.GetEndpointRequest{Name: g.uidName()})
	if err != nil {
		return err
	}
	e.Metadata.Etag = "" // it may become available meanwhile
	edit(e)
	if e, err = b.api.UpdateEndpoint(ctx, &apiv1.UpdateEndpointRequest{Endpoint: e, UpdateMask: whole}); err == nil {
		g.Endpoint = e
	}
	return b.inForce(ctx, e.GetMetadata().GetRevision(), err)
}

// accept lets endpoints of the service in, as the provider.
func (b *Bed) accept(ctx context.Context, uids ...string) error {
	ctx = labapi.As(ctx, provider)
	r, err := b.api.AcceptConnections(ctx, &apiv1.AcceptConnectionsRequest{Service: "service", EndpointUids: uids})
	return b.inForce(ctx, r.GetRevision(), err)
}

// reject turns an endpoint of the service away, as the provider.
func (b *Bed) reject(ctx context.Context, uid string) error {
	ctx = labapi.As(ctx, provider)
	r, err := b.api.RejectConnections(ctx, &apiv1.RejectConnectionsRequest{Service: "service", EndpointUids: []string{uid}})
	return b.inForce(ctx, r.GetRevision(), err)
}

// answers makes sure that an address takes connections, and passes data.
func (b *Bed) answers(ctx context.Context, instance string, to netip.AddrPort) error {
	l, err := b.line(ctx, instance, to)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.echo("is anybody there?")
}

// silence is how long nobody may answer where nobody is to.
const silence = 100 * time.Millisecond

// silent makes sure that nobody answers at an address which the dataplane does not have: no packet for it need even come
// there, as its link-layer address is not to be found.
func (b *Bed) silent(ctx context.Context, instance string, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	c, err := b.dial(ctx, instance, to)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s answered %s", to, instance)
	}
	if ctx.Err() == nil && !errors.Is(err, syscall.EHOSTUNREACH) {
		return fmt.Errorf("nobody is to answer at %s, but: %w", to, err)
	}
	return nil
}

// gone makes sure that new connections to an endpoint that was there vanish.
func (b *Bed) gone(ctx context.Context, instance string, to netip.AddrPort) error {
	return b.vanishes(ctx, instance, to, dataplane.NoENI)
}

// attach gives the dataplane a device in a subnet of demo.yaml that has none, as its owner, until the check is over.
func (b *Bed) attach(ctx context.Context, v *lab.VPC, subnet string) error {
	ctx = labapi.As(ctx, v.Account)
	a, err := b.api.CreateAttachment(ctx, &apiv1.CreateAttachmentRequest{AttachmentId: "guest", Attachment: &apiv1.Attachment{
		Subnet: v.Name + "-" + subnet, Netns: lab.Netns(b.options.Dir, v.Name),
		Kind: &apiv1.Attachment_Bridge{Bridge: &apiv1.BridgeAttachment{Name: "br-" + subnet, Gateway: v.Subnet(subnet).Gateway.String()}},
	}})
	if err != nil {
		return err
	}
	b.after(func(ctx context.Context) error {
		_, err := b.api.DeleteAttachment(labapi.As(ctx, v.Account), &apiv1.DeleteAttachmentRequest{Name: a.Name})
		return b.newestInForce(ctx, err)
	})
	return b.inForce(ctx, a.Metadata.Revision, nil)
}
