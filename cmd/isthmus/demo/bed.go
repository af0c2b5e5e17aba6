// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

//go:embed demo.yaml
var topologyFile []byte

// readyTime is how long daemon and targets may take until traffic can begin.
const readyTime = 15 * time.Second

// Bed is what checks run on: the lab of demo.yaml with a daemon on its ports, servers in its targets and appliances behind
// its gateway load balancer, all inside this process.
type Bed struct {
	options  Options
	topology *lab.Topology
	// ctx ends with the demo, or when the daemon ends by itself.
	ctx    context.Context
	cancel context.CancelCauseFunc

	daemon  *control.Daemon
	halt    context.CancelFunc // ends the daemon
	stopped chan struct{}      // closed when the daemon has ended; nil before it runs
	api     *labapi.Client
	spaces  map[string]*netns.NS
	parents []string // directories above the lab's that were made for it

	groups  map[string]string // uids of target groups by their names
	changed bool              // what the daemon was told is not, or not only, what demo.yaml says
	undo    []func(ctx context.Context) error

	fleet     map[string]*machine // appliances that run, by instance
	datagrams uint16              // sockets for datagrams that have been made

	servers   sync.WaitGroup
	mu        sync.Mutex
	listeners map[place]net.Listener
	accepted  map[netip.AddrPort]*targetEnd // connections of targets, by their remote address
}

// place is a TCP port of an instance.
type place struct {
	instance string
	port     uint16
}

// newBed builds the bed and waits until all targets are healthy. When it fails nothing is left.
func newBed(ctx context.Context, o Options) (*Bed, error) {
	t, err := lab.Parse(topologyFile)
	if err != nil {
		return nil, err
	}
	b := &Bed{
		options: o, topology: t,
		parents:   missingParents(o.Dir),
		spaces:    map[string]*netns.NS{},
		listeners: map[place]net.Listener{},
		accepted:  map[netip.AddrPort]*targetEnd{},
		fleet:     map[string]*machine{},
		groups:    map[string]string{},
	}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	if err := lab.Up(ctx, t, o.Dir); err != nil {
		b.cancel(err)
		return nil, err
	}
	if err := b.start(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// start brings servers and daemon to life in the lab.
func (b *Bed) start() error {
	for _, v := range b.topology.VPCs {
		for _, in := range v.Instances {
			ns, err := netns.Open(lab.Netns(b.options.Dir, in.Name))
			if err != nil {
				return err
			}
			b.spaces[in.Name] = ns
			for _, run := range in.Run {
				if err := b.run(in.Name, run); err != nil {
					return err
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, readyTime)
	defer cancel()
	if err := b.startDaemon(ctx, b.topology.Testing.Overrides()); err != nil {
		return err
	}
	if err := b.found(ctx); err != nil {
		return err
	}
	return b.awaitHealthy(ctx)
}

// startDaemon starts the daemon, which has in its store what it was told before, and waits until that is in force.
func (b *Bed) startDaemon(ctx context.Context, timers *vpc.Testing) error {
	daemon, err := control.New(control.Options{
		API: &control.API{Store: lab.StoreFile(b.options.Dir), Testing: timers}, Socket: lab.Socket(b.options.Dir),
		Workers: b.options.Workers, Offloads: b.options.Offloads, Logger: b.options.Log, Version: "demo",
	})
	if err != nil {
		return err
	}
	running, halt := context.WithCancel(b.ctx)
	b.daemon, b.halt, b.stopped = daemon, halt, make(chan struct{})
	go func() {
		defer close(b.stopped)
		if err := daemon.Run(running); err != nil || running.Err() == nil {
			b.cancel(fmt.Errorf("the daemon ended: %w", errors.Join(err, running.Err())))
		}
	}()
	if b.api, err = labapi.Dial(lab.Socket(b.options.Dir)); err != nil {
		return err
	}
	select {
	case <-daemon.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the daemon is not ready: %w", context.Cause(ctx))
	}
}

// stopDaemon ends the daemon, if it runs.
func (b *Bed) stopDaemon() {
	if b.stopped == nil {
		return
	}
	b.halt()
	<-b.stopped
	b.api.Close()
	b.stopped = nil
}

// restartDaemon ends the daemon and starts it again with other timers, and waits until traffic can go on.
func (b *Bed) restartDaemon(ctx context.Context, timers *vpc.Testing) error {
	b.stopDaemon()
	if err := b.startDaemon(ctx, timers); err != nil {
		return err
	}
	return b.awaitHealthy(ctx)
}

// run starts what an instance runs.
func (b *Bed) run(instance string, run lab.Run) error {
	if run.Appliance != nil {
		return b.inspect(instance, run.Appliance)
	}
	return b.serve(instance, run)
}

// serve starts a server of a target. It runs until its listener is closed, and its connections until they are.
func (b *Bed) serve(instance string, run lab.Run) error {
	listener, err := netns.Listen(b.spaces[instance], "tcp4", ":"+strconv.Itoa(int(run.Port)))
	if err != nil {
		return fmt.Errorf("server on %s: %w", instance, err)
	}
	b.mu.Lock()
	b.listeners[place{instance, run.Port}] = listener
	b.mu.Unlock()
	options := lab.ServerOptions{Kind: run.Server, Instance: instance, ProxyProtocol: run.ProxyProtocol}
	b.servers.Go(func() { lab.Serve(b.ctx, &recorder{listener, b}, options) })
	return nil
}

// stopServing closes the listener of a target's server and leaves the connections it has.
func (b *Bed) stopServing(instance string, port uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners[place{instance, port}].Close()
}

// recorder keeps what a listener has accepted, so that checks can look at the target's end of a connection.
type recorder struct {
	net.Listener
	bed *Bed
}

// Accept is that of the listener.
func (r *recorder) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	end := &targetEnd{conn.(*net.TCPConn), make(chan error, 1)}
	r.bed.mu.Lock()
	r.bed.accepted[addrPort(conn.RemoteAddr())] = end
	r.bed.mu.Unlock()
	return end, nil
}

// targetEnd is the target's end of a connection.
type targetEnd struct {
	*net.TCPConn
	ended chan error // takes how the server found it to have ended
}

// Read is that of the connection.
func (e *targetEnd) Read(b []byte) (int, error) {
	n, err := e.TCPConn.Read(b)
	e.saw(err)
	return n, err
}

// WriteTo is that of the connection, which copies inside the kernel.
func (e *targetEnd) WriteTo(w io.Writer) (int64, error) {
	if other, ok := w.(*targetEnd); ok {
		w = other.TCPConn
	}
	n, err := e.TCPConn.WriteTo(w)
	e.saw(err)
	return n, err
}

// saw keeps the first error.
func (e *targetEnd) saw(err error) {
	if err != nil {
		select {
		case e.ended <- err:
		default:
		}
	}
}

// targetEnd is the target's end of a connection, nil if there is none: remote is the address of the load balancer
// node that the target sees.
func (b *Bed) targetEnd(remote netip.AddrPort) *targetEnd {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted[remote]
}

// Close ends everything and takes the lab away. It is to be called once.
func (b *Bed) Close() error {
	b.cancel(context.Canceled)
	b.stopDaemon()
	b.mu.Lock()
	for _, l := range b.listeners {
		l.Close()
	}
	for _, c := range b.accepted {
		c.Close()
	}
	b.mu.Unlock()
	b.servers.Wait()
	var errs []error
	for instance := range b.fleet {
		errs = append(errs, b.kill(instance))
	}
	for _, ns := range b.spaces {
		ns.Close()
	}
	errs = append(errs, lab.Down(b.options.Dir))
	for _, dir := range b.parents {
		os.Remove(dir) // stays if another lab is there now
	}
	return errors.Join(errs...)
}

// missingParents lists the directories above dir that do not exist, the innermost first.
func missingParents(dir string) (missing []string) {
	for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return missing
		}
		missing = append(missing, dir)
	}
}
