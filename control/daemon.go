// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// DefaultSocket is where a daemon listens unless told otherwise.
const DefaultSocket = "/run/isthmus/isthmus.sock"

// Options configure a daemon.
type Options struct {
	// StateFile is the configuration to read, and to read again whenever it changes. Without one, states come by Apply.
	StateFile string
	// API, in its place, has the states made of resources that callers of the socket change. New then opens the store, and
	// Run closes it.
	API *API
	// Socket is the path of the unix socket of the gRPC service. Empty: none.
	Socket string
	// MetricsAddress is the TCP address that serves Registry at /metrics. Empty: none.
	MetricsAddress string
	// Registry takes the daemon's collector; nil makes one for this daemon alone.
	Registry *prometheus.Registry
	// Workers is how many workers the engine has, and queues every port; 0 is one.
	Workers int
	// MaxFlows is how many connections are followed at once; 0 is the engine's default.
	MaxFlows int
	// Pin keeps each worker on one processor.
	Pin bool
	// Spin is how long a worker polls after the last packet before it sleeps; with 0 it sleeps at once.
	Spin time.Duration
	// Offloads leaves offloads of all ports off.
	Offloads port.Switches
	// Logger takes what happens; nil discards it.
	Logger *slog.Logger
	// Version is what Status says.
	Version string
	// WrapPort, if set, is called with every port that has been opened, the daemon's own (dataplane.ProbePortID)
	// included, and returns the one to use in its place; closing that must close the other. Tests put an impairing
	// port around a real one.
	WrapPort func(id string, p port.Port) port.Port
}

// engine is what the tasks need of a *dataplane.Engine.
type engine interface {
	Apply(st *vpc.State, ports map[string]port.Port) error
	SetHealth(h map[dataplane.TargetID]dataplane.Health) error
	EndDraining(ids []dataplane.TargetID) error
	ProbeRoutes() []dataplane.ProbeRoute
	Run(ctx context.Context) error
	Stats() dataplane.Stats
	Flows(ctx context.Context, each func(dataplane.FlowInfo) bool) error
	Revision() uint64
}

// Task is a part of the daemon that runs for as long as the daemon does.
type Task interface {
	// Run does the task until ctx ends, which is no error.
	Run(ctx context.Context) error
	// Ready is closed when the task has begun to do what it is for.
	Ready() <-chan struct{}
	// String names the task in errors.
	String() string
}

// Daemon is the dataplane and the tasks around it. Make it with New and run it once. Its methods may be called from any
// goroutine.
type Daemon struct {
	opts   Options
	log    *slog.Logger
	engine engine

	attacher  *attacher
	reconcile *reconciler
	health    *healthChecker
	server    *server // nil without a socket
	api       *driven // nil without an API
	calls     *apiCalls
	tasks     []Task

	ready   chan struct{}
	started atomic.Int64 // UnixNano
	ran     atomic.Bool
}

// New makes a daemon. Nothing is opened before Run.
func New(opts Options) (*Daemon, error) {
	opts.Workers = max(1, opts.Workers)
	e, err := dataplane.New(dataplane.Config{Workers: opts.Workers, MaxFlows: opts.MaxFlows, Pin: opts.Pin, Spin: opts.Spin})
	if err != nil {
		return nil, fmt.Errorf("making the engine: %w", err)
	}
	return newDaemon(opts, e, kernel{queues: opts.Workers, off: opts.Offloads})
}

// newDaemon wires the tasks to an engine and to where ports come from.
func newDaemon(opts Options, e engine, from opener) (*Daemon, error) {
	d := &Daemon{opts: opts, log: opts.Logger, engine: e, calls: newAPICalls(), ready: make(chan struct{})}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.attacher = newAttacher(from, opts.WrapPort, d.log)
	d.health = newHealthChecker(e, d.log)
	d.reconcile = newReconciler(reconcilerConfig{
		file: opts.StateFile, keyFile: keyFile(opts), engine: e, attacher: d.attacher, applied: d.health.update, log: d.log,
	})
	d.tasks = []Task{&engineTask{engine: e, after: d.reconcile.Ready(), ready: make(chan struct{})}, d.reconcile, d.health}
	if opts.Socket != "" {
		d.server = newServer(opts.Socket, d)
		d.tasks = append(d.tasks, d.server)
	}
	if opts.API != nil {
		var err error
		if d.api, err = openAPI(d, opts.API); err != nil {
			return nil, err
		}
		d.tasks = append(d.tasks, &keeperTask{daemon: d, ready: make(chan struct{})}, &apiTask{daemon: d, ready: make(chan struct{})})
		if d.api.tls != nil {
			d.tasks = append(d.tasks, &tlsTask{daemon: d, ready: make(chan struct{})})
		}
	}
	if opts.MetricsAddress != "" {
		registry := opts.Registry
		if registry == nil {
			registry = prometheus.NewRegistry()
		}
		if err := registry.Register(NewCollector(d)); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
		d.tasks = append(d.tasks, newMetricsServer(opts.MetricsAddress, registry, d.log))
	}
	return d, nil
}

// keyFile is where the hash key of states without one is kept: beside the store or, without one, beside the socket,
// because that directory can be written to wherever the daemon runs, is the daemon's own, and lasts at least as long as the
// connections that the key places.
func keyFile(o Options) string {
	beside := o.Socket
	if o.API != nil && o.API.Store != "" {
		beside = o.API.Store
	}
	if beside == "" {
		return ""
	}
	return strings.TrimSuffix(beside, filepath.Ext(beside)) + ".key"
}

// Run runs the daemon until ctx ends, which is no error, or a task fails, which ends the others. All ports are closed
// when it returns.
func (d *Daemon) Run(ctx context.Context) error {
	if d.ran.Swap(true) {
		return errors.New("the daemon has run already; make another")
	}
	if d.api != nil {
		defer d.api.store.Close()
	}
	d.started.Store(time.Now().UnixNano())
	if d.server != nil {
		if err := d.server.listen(); err != nil {
			return err
		}
		defer d.server.listener.Close()
	}
	// Ports outlive the tasks: no worker may be at one that is closed.
	defer d.attacher.closeAll()
	dial, err := d.attacher.openProbe()
	if err != nil {
		return err
	}
	d.health.dial = dial
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range d.tasks {
		group.Go(func() error {
			if err := t.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", t, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		for _, t := range d.tasks {
			select {
			case <-t.Ready():
			case <-ctx.Done():
				return nil
			}
		}
		close(d.ready)
		d.log.Info("ready", "revision", d.engine.Revision())
		return nil
	})
	return group.Wait()
}

// Ready is closed when the first state is in force and every task does what it is for.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Apply puts a state in force, and returns when it is or why it is not. It must not be changed afterwards. It is for
// daemons without a StateFile.
func (d *Daemon) Apply(ctx context.Context, s *vpc.State) error {
	if err := s.Validate(); err != nil {
		return err
	}
	return d.reconcile.apply(ctx, s)
}

// State is the state in force, nil before the first. It must not be changed.
func (d *Daemon) State() *vpc.State { return d.reconcile.report.Load().state }

// Stats is one reading of the engine's counters.
func (d *Daemon) Stats() dataplane.Stats { return d.engine.Stats() }

// Flows calls each with the connections that pass now until it returns false.
func (d *Daemon) Flows(ctx context.Context, each func(dataplane.FlowInfo) bool) error {
	return d.engine.Flows(ctx, each)
}

// uptime is how long the daemon has run.
func (d *Daemon) uptime() time.Duration {
	return time.Since(time.Unix(0, d.started.Load()))
}

// engineTask runs the workers. They begin when there is a state, because its hash key is that of their tables.
type engineTask struct {
	engine engine
	after  <-chan struct{} // closed when there is a state
	ready  chan struct{}
}

func (t *engineTask) Run(ctx context.Context) error {
	select {
	case <-t.after:
	case <-ctx.Done():
		return nil
	}
	close(t.ready)
	return t.engine.Run(ctx)
}

func (t *engineTask) Ready() <-chan struct{} { return t.ready }
func (t *engineTask) String() string         { return "dataplane" }
