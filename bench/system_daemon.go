// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/isthmus-net/isthmus/bench/fleet"
	"github.com/isthmus-net/isthmus/control"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/apiserver"
	"github.com/isthmus-net/isthmus/control/codec"
)

// daemonSpec is for the whole daemon, which its API drives.
type daemonSpec struct {
	Socket  string
	Store   string // empty: in memory
	Workers int
	Pin     bool
}

// startDaemon is the daemon's process.
func startDaemon(spec []byte) (*helper, error) {
	var s daemonSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	d, err := control.New(control.Options{
		Socket: s.Socket, Workers: s.Workers, Pin: s.Pin, API: &control.API{Store: s.Store, NoLimits: true},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case <-d.Ready():
	case err := <-ended:
		cancel()
		return nil, fmt.Errorf("the daemon ended: %w", err)
	}
	return &helper{stop: func() { cancel(); <-ended }}, nil
}

// driven is a daemon in a process of its own, a fleet, and a connection to its API.
type driven struct {
	*bed
	fleet fleet.Fleet
	dir   string
	conn  *grpc.ClientConn

	endpoints apiv1.EndpointsClient
	balancing apiv1.LoadBalancingClient
	resources apiv1.ResourcesClient
	inspect   apiv1.InspectClient
}

// drive starts a daemon, its store in a file of the temporary directory or in memory. Whoever calls it closes what it
// returns; the process is the bed's.
func (b *bed) drive(ctx context.Context, f fleet.Fleet, inMemory bool) (d *driven, err error) {
	f.ConsumerNetns, f.ProviderNetns = b.client.Path(), b.server.Path()
	d = &driven{bed: b, fleet: f}
	if d.dir, err = os.MkdirTemp("", "isthmus-bench-"); err != nil {
		return nil, fmt.Errorf("make a directory for the store: %w", err)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	spec := daemonSpec{Socket: filepath.Join(d.dir, "isthmus.sock"), Workers: b.cfg.Workers, Pin: b.cfg.Pin}
	if !inMemory {
		spec.Store = filepath.Join(d.dir, "store.db")
	}
	if b.dataplane, err = startProcess(ctx, b.self, nil, roleDaemon, spec); err != nil {
		return nil, err
	}
	d.conn, err = grpc.NewClient("unix:"+spec.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("connect to the daemon: %w", err)
	}
	d.endpoints, d.balancing = apiv1.NewEndpointsClient(d.conn), apiv1.NewLoadBalancingClient(d.conn)
	d.resources, d.inspect = apiv1.NewResourcesClient(d.conn), apiv1.NewInspectClient(d.conn)
	return d, nil
}

// close ends the connection and removes the store.
func (d *driven) close() {
	if d.conn != nil {
		d.conn.Close()
	}
	os.RemoveAll(d.dir)
}

// apply applies the fleet from the text of a file, and returns when the dataplane runs it.
func (d *driven) apply(ctx context.Context) error {
	text, err := codec.MarshalYAML(d.fleet.Manifest())
	if err != nil {
		return err
	}
	m := &apiv1.Manifest{}
	if err := codec.UnmarshalYAML("fleet.yaml", text, m); err != nil {
		return err
	}
	out, err := d.resources.Apply(ctx, &apiv1.ApplyRequest{Manifest: m})
	if err != nil {
		return fmt.Errorf("apply the fleet: %w", err)
	}
	return d.applied(ctx, out.Revision)
}

// applied waits until the dataplane runs a revision.
func (d *driven) applied(ctx context.Context, revision uint64) error {
	_, err := d.resources.WaitApplied(ctx, &apiv1.WaitAppliedRequest{Revision: revision})
	return err
}

// acting is the context of an operator who acts as an account.
func acting(ctx context.Context, account string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, apiserver.AsKey, account)
}

// dropped is how many packets the dataplane has dropped so far.
func (d *driven) dropped(ctx context.Context) (n uint64, err error) {
	out, err := d.inspect.Drops(ctx, &apiv1.DropsRequest{})
	for _, reason := range out.GetDrops() {
		n += reason.GetPackets()
	}
	return n, err
}
