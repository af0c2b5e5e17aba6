// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/apiserver"
)

// stopTime is how long calls under way may take to end when the daemon stops.
const stopTime = time.Second

// server serves the daemon's services on a unix socket.
type server struct {
	socket   string
	daemon   *Daemon
	ready    chan struct{}
	listener net.Listener // from listen to the end of Run
}

func newServer(socket string, d *Daemon) *server {
	return &server{socket: socket, daemon: d, ready: make(chan struct{})}
}

func (s *server) Ready() <-chan struct{} { return s.ready }
func (s *server) String() string         { return "api" }

// listen takes the socket. It comes before all else, so that a second daemon by mistake ends before it opens ports.
func (s *server) listen() (err error) {
	s.listener, err = listenUnix(s.socket)
	return err
}

// Run serves until ctx ends. The health service says SERVING once the daemon is ready.
func (s *server) Run(ctx context.Context) error {
	g := s.daemon.newGRPC(grpc.Creds(apiserver.UnixCredentials()))
	reflection.Register(g)
	if s.daemon.api == nil {
		s.registerHealth(ctx, g)
	}
	close(s.ready)
	s.daemon.log.Info("listening", "socket", s.socket)
	if err := serveGRPC(ctx, g, s.listener); err != nil {
		return fmt.Errorf("serving on %s: %w", s.socket, err)
	}
	return nil
}

// registerHealth adds the health of a daemon without an API, which has its own.
func (s *server) registerHealth(ctx context.Context, g *grpc.Server) {
	state := health.NewServer()
	set := func(to grpc_health_v1.HealthCheckResponse_ServingStatus) {
		for _, name := range []string{"", apiv1.Inspect_ServiceDesc.ServiceName} {
			state.SetServingStatus(name, to)
		}
	}
	set(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(g, state)
	context.AfterFunc(ctx, state.Shutdown) // ends watches, which would hold up the rest
	go func() {
		select {
		case <-s.daemon.Ready():
			set(grpc_health_v1.HealthCheckResponse_SERVING)
		case <-ctx.Done():
		}
	}()
}

// newGRPC makes a server with the services that the daemon has.
func (d *Daemon) newGRPC(options ...grpc.ServerOption) *grpc.Server {
	options = append(options, grpc.StatsHandler(d.calls))
	if d.api == nil {
		g := grpc.NewServer(options...)
		apiv1.RegisterInspectServer(g, inspector{daemon: d})
		return g
	}
	g := grpc.NewServer(append(d.api.server.ServerOptions(), options...)...)
	d.api.server.Register(g)
	apiv1.RegisterInspectServer(g, inspector{daemon: d, visible: d.api.server.Visible})
	return g
}

// serveGRPC serves until ctx ends.
func serveGRPC(ctx context.Context, g *grpc.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		force := time.AfterFunc(stopTime, g.Stop)
		defer force.Stop()
		g.GracefulStop()
	})
	defer stop()
	if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// listenUnix listens on a unix socket for the owner and the group. A socket that a dead daemon left behind is removed,
// that of a living one is not.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the socket: %w; run as root, or choose another --socket", err)
	}
	switch conn, err := net.DialTimeout("unix", path, time.Second); {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("another daemon listens on %s; stop it, or choose another --socket", path)
	case errors.Is(err, fs.ErrNotExist):
	case !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOTSOCK):
		return nil, fmt.Errorf("finding out who listens on %s: %w; run as root, or choose another --socket", path, err)
	default:
		info, statErr := os.Lstat(path)
		if statErr == nil && info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and is not a socket; remove it, or choose another --socket", path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing a socket that nobody listens on: %w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w; run as root, or choose another --socket", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		listener.Close()
		return nil, fmt.Errorf("protecting the socket: %w", err)
	}
	return listener, nil
}
