// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/isthmus-net/isthmus/control/apiserver"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// API has a daemon driven by callers who create, accept and delete resources, in place of a state file.
type API struct {
	// Store is the file that keeps the resources. Empty: they are gone with the daemon.
	Store string
	// Config says who may call, and how; nil is that of an empty file.
	Config *apiserver.DaemonConfig
	// Testing overrides timers, for labs.
	Testing *vpc.Testing
	// NoLimits lifts the limits of bandwidth, for benchmarks.
	NoLimits bool
}

// driven is what a daemon with an API has beside the others.
type driven struct {
	store  store.Store
	keeper *keeper.Keeper
	server *apiserver.Server
	tls    *net.TCPAddr // nil without TLS
	files  apiserver.TLSFiles

	partition string
}

// openAPI opens the store, and loads what is in it.
func openAPI(d *Daemon, o *API) (*driven, error) {
	a, config := &driven{}, o.Config
	if config == nil {
		var err error
		if config, err = apiserver.ParseConfig("", nil); err != nil {
			return nil, err
		}
	}
	a.partition = config.Partition
	if config.TLS != nil {
		var err error
		if a.tls, err = net.ResolveTCPAddr("tcp", config.TLS.Address); err != nil {
			return nil, fmt.Errorf("finding the address of the API: %w", err)
		}
		a.files = config.TLS.Files()
	}
	var err error
	if a.store, err = openStore(o.Store); err != nil {
		return nil, err
	}
	a.keeper, err = keeper.Open(context.Background(), a.store, keeper.Options{Log: d.log, Config: resource.Config{
		Region: config.Region, Partition: config.Partition, ServicePrefix: config.ServicePrefix,
		MayAttach: config.MayAttach, NoLimits: o.NoLimits,
	}})
	if err == nil {
		a.server, err = apiserver.New(apiserver.Options{
			Keeper: a.keeper, Live: live{d}, Log: d.log,
			Callers: config.CallerTable(), Operators: config.Operators, Partition: config.Partition,
		})
	}
	if err != nil {
		a.store.Close()
		return nil, err
	}
	return a, nil
}

func openStore(path string) (store.Store, error) {
	if path == "" {
		return store.NewMemory(store.Options{}), nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the store: %w; run as root, or choose another --store", err)
	}
	return store.Open(path, store.Options{})
}

// live tells the API of the moment.
type live struct{ daemon *Daemon }

// PortOpen says whether a port is open.
func (l live) PortOpen(id string) bool {
	for _, p := range l.daemon.reconcile.report.Load().ports {
		if p.spec.ID == id {
			return p.open
		}
	}
	return false
}

// TargetHealth is what the health checks say.
func (l live) TargetHealth(group string, target netip.AddrPort) (health, reason string) {
	return l.daemon.health.verdict(dataplane.TargetID{Group: group, Address: target})
}

// compiled puts states in force that the keeper answers for. To judge them again, whole, at every change of one resource
// would take longer than the change itself.
type compiled struct {
	reconcile *reconciler
	testing   *vpc.Testing // overrides timers
}

// Apply is part of keeper.Dataplane.
func (c compiled) Apply(ctx context.Context, s *vpc.State) error {
	own := *s
	own.Testing = c.testing
	return c.reconcile.apply(ctx, &own)
}

// keeperTask brings resources to the dataplane.
type keeperTask struct {
	daemon *Daemon
	ready  chan struct{}
}

func (t *keeperTask) Run(ctx context.Context) error {
	close(t.ready)
	return t.daemon.api.keeper.Run(ctx, compiled{t.daemon.reconcile, t.daemon.opts.API.Testing})
}

func (t *keeperTask) Ready() <-chan struct{} { return t.ready }
func (t *keeperTask) String() string         { return "resources" }

// apiTask lets the API's health follow the dataplane, and ends its streams when the daemon stops.
type apiTask struct {
	daemon *Daemon
	ready  chan struct{}
}

func (t *apiTask) Run(ctx context.Context) error {
	close(t.ready)
	return t.daemon.api.server.Run(ctx)
}

func (t *apiTask) Ready() <-chan struct{} { return t.ready }
func (t *apiTask) String() string         { return "health" }

// tlsTask serves the API on TCP, to callers with a certificate.
type tlsTask struct {
	daemon *Daemon
	ready  chan struct{}
}

func (t *tlsTask) Run(ctx context.Context) error {
	a := t.daemon.api
	credentials, err := apiserver.TLS(a.files, a.partition, t.daemon.log)
	if err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", a.tls)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer listener.Close()
	g := t.daemon.newGRPC(grpc.Creds(credentials))
	close(t.ready)
	t.daemon.log.Info("listening", "address", listener.Addr().String())
	return serveGRPC(ctx, g, listener)
}

func (t *tlsTask) Ready() <-chan struct{} { return t.ready }
func (t *tlsTask) String() string         { return "api on " + t.daemon.api.tls.String() }
