// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package labapi brings what a lab's topology says to the lab's daemon, through its API, and reads what became of it. The
// lab of the command line and the demo both drive their daemons with it.
package labapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/apiserver"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// maxAnswer is the largest message that is taken from a daemon, in bytes.
const maxAnswer = 64 << 20

// Client has all services of a daemon. Its methods may be called from any goroutine.
type Client struct {
	apiv1.AccountsClient
	apiv1.NetworksClient
	apiv1.LoadBalancingClient
	apiv1.EndpointsClient
	apiv1.ResourcesClient
	Inspect apiv1.InspectClient

	conn *grpc.ClientConn
}

// Dial makes a client of the daemon at a unix socket. It connects when it is first asked; Close ends it.
func Dial(socket string) (*Client, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("connect to the daemon: %w", err)
	}
	return &Client{
		AccountsClient: apiv1.NewAccountsClient(conn), NetworksClient: apiv1.NewNetworksClient(conn),
		LoadBalancingClient: apiv1.NewLoadBalancingClient(conn), EndpointsClient: apiv1.NewEndpointsClient(conn),
		ResourcesClient: apiv1.NewResourcesClient(conn), Inspect: apiv1.NewInspectClient(conn), conn: conn,
	}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// As is a context whose calls are made by an account, 12 digits. The caller must be an operator.
func As(ctx context.Context, account string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, apiserver.AsKey, account)
}

// Manifest is resources as a file that can be applied. An endpoint whose service is among them names it by its name as a
// resource, since the service has no other one yet.
func Manifest(name string, list []resource.Resource) *apiv1.Manifest {
	out := &apiv1.Manifest{Name: name}
	services := map[string]string{}
	for _, r := range list {
		if s, ok := r.(*resource.EndpointService); ok {
			services[s.Name] = codec.Name(s.Key)
		}
	}
	for _, r := range list {
		m := codec.Encode(r)
		if e, ok := m.(*apiv1.Endpoint); ok && services[e.ServiceName] != "" {
			e.ServiceName = services[e.ServiceName]
		}
		add(out, m)
	}
	return out
}

// add puts the message of a resource into the list of its kind.
func add(to *apiv1.Manifest, m proto.Message) {
	manifest := to.ProtoReflect()
	for i := range manifest.Descriptor().Fields().Len() {
		f := manifest.Descriptor().Fields().Get(i)
		if f.IsList() && f.Message() == m.ProtoReflect().Descriptor() {
			manifest.Mutable(f).List().Append(protoreflect.ValueOfMessage(m.ProtoReflect()))
		}
	}
}

// Apply brings what there is to what a manifest says, deletes what an earlier one of the name had more, and returns the
// changes when the dataplane runs them. The error is for people.
func (c *Client) Apply(ctx context.Context, m *apiv1.Manifest) ([]*apiv1.PlannedChange, error) {
	applied, err := c.ResourcesClient.Apply(ctx, &apiv1.ApplyRequest{Manifest: m, Prune: true})
	if err == nil {
		_, err = c.WaitApplied(ctx, &apiv1.WaitAppliedRequest{Revision: applied.Revision})
	}
	if err != nil {
		return nil, fmt.Errorf("apply the manifest %s: %w", m.Name, Plain(err))
	}
	return applied.Changes, nil
}

// Everything is what the caller may see, as it is now.
func (c *Client) Everything(ctx context.Context) (*apiv1.Manifest, error) {
	stream, err := c.Export(ctx, &apiv1.ExportRequest{})
	all := &apiv1.Manifest{}
	for err == nil {
		var part *apiv1.ExportResponse
		if part, err = stream.Recv(); err == nil {
			proto.Merge(all, part.Manifest)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the resources: %w", Plain(err))
	}
	return all, nil
}

// Plain is what a daemon's error says to people.
func Plain(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}
	return err
}

// ID is the last part of a resource's name.
func ID(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
