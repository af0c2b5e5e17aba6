// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/isthmus-net/isthmus/bench/fleet"
	"github.com/isthmus-net/isthmus/control"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/apiserver"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// apiClient is the API as one caller has it. Root is an operator, and acts as accounts.
type apiClient struct {
	conn *grpc.ClientConn
	ctx  context.Context // an operator's
	apiv1.AccountsClient
	apiv1.NetworksClient
	apiv1.LoadBalancingClient
	apiv1.EndpointsClient
	apiv1.ResourcesClient
	apiv1.InspectClient
}

// dialAPI makes a client of the daemon at a socket. It connects when it is first asked; close ends it.
func dialAPI(ctx context.Context, socket string, options ...grpc.DialOption) (*apiClient, error) {
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	conn, err := grpc.NewClient("unix:"+socket, options...)
	if err != nil {
		return nil, err
	}
	return &apiClient{
		conn, ctx, apiv1.NewAccountsClient(conn), apiv1.NewNetworksClient(conn), apiv1.NewLoadBalancingClient(conn),
		apiv1.NewEndpointsClient(conn), apiv1.NewResourcesClient(conn), apiv1.NewInspectClient(conn),
	}, nil
}

// as is the context of an operator who acts as an account.
func as(ctx context.Context, account string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, apiserver.AsKey, account)
}

// applied waits until the dataplane runs a revision.
func (c *apiClient) applied(ctx context.Context, revision uint64) error {
	_, err := c.WaitApplied(ctx, &apiv1.WaitAppliedRequest{Revision: revision})
	return err
}

// fleetBed is a daemon that its API drives, a namespace for the consumer and one for the provider, and a fleet.
type fleetBed struct {
	testing.TB
	*apiClient
	consumer, provider *netns.NS
	daemon             *control.Daemon
	socket             string
	fleet              fleet.Fleet
}

// newFleetBed starts a daemon with an empty store, a file unless it is to be in memory. The test's end takes all away.
func newFleetBed(t testing.TB, f fleet.Fleet, inMemory bool) *fleetBed {
	t.Helper()
	b := &fleetBed{TB: t, consumer: netnstest.New(t), provider: netnstest.New(t), fleet: f}
	b.fleet.ConsumerNetns, b.fleet.ProviderNetns = b.consumer.Path(), b.provider.Path()
	dir := t.TempDir()
	b.socket = filepath.Join(dir, "isthmus.sock")
	api := &control.API{NoLimits: true}
	if !inMemory {
		api.Store = filepath.Join(dir, "store.db")
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := control.New(control.Options{Workers: 1, API: api, Socket: b.socket, Logger: log})
	b.must(err)
	b.daemon = d
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
	})
	select {
	case <-d.Ready():
	case err := <-done:
		t.Fatalf("the daemon ended with: %v", err)
	case <-time.After(patience):
		t.Fatalf("the daemon is not ready after %v", patience)
	}
	if b.apiClient, err = dialAPI(t.Context(), b.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.conn.Close() })
	return b
}

func (b *fleetBed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// apply applies the fleet from a file's text, and returns how long it took until the store had it and until the dataplane
// ran it, from the text on.
func (b *fleetBed) apply() (stored, running time.Duration) {
	b.Helper()
	text, err := codec.MarshalYAML(b.fleet.Manifest())
	b.must(err)
	begun := time.Now()
	m := &apiv1.Manifest{}
	b.must(codec.UnmarshalYAML("fleet.yaml", text, m))
	out, err := b.Apply(b.ctx, &apiv1.ApplyRequest{Manifest: m})
	b.must(err)
	stored = time.Since(begun)
	b.must(b.applied(b.ctx, out.Revision))
	return stored, time.Since(begun)
}
