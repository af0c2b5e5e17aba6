// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/keeper"
)

// Limits of connections.
const (
	maxStreams      = 1000             // calls at a time on a connection
	maxHeader       = 16 << 10         // bytes of the metadata of a call
	pingAfter       = time.Minute      // without traffic; then the other end must answer
	pingTimeout     = 20 * time.Second // or the connection is closed
	minPingInterval = 10 * time.Second // of the other end's; more often is abuse
	connectTimeout  = 10 * time.Second // until the handshakes are done
)

// Live tells of the moment what no resource holds. Its methods may be called from any goroutine and must not block.
type Live interface {
	// PortOpen says whether the device of an attachment is there.
	PortOpen(attachmentUID string) bool
	// TargetHealth is unchecked, initial, healthy or unhealthy, and why it is unhealthy; empty where nobody knows.
	TargetHealth(groupUID string, target netip.AddrPort) (health, reason string)
}

// Options are the choices of whoever makes a server.
type Options struct {
	Keeper *keeper.Keeper
	// Live may be nil.
	Live Live
	Log  *slog.Logger // default: slog.Default

	// Callers act by the unix socket. Operators are ARNs of principals that come by TLS and see all. Partition is that of
	// ARNs, default aws.
	Callers   []Caller
	Operators []string
	Partition string

	// MaxWatches is how many streams of changes a caller may have at a time, default 1000.
	MaxWatches int
	// Now is the time by which certificates are judged, default time.Now.
	Now func() time.Time
}

// Server is the services of the API. It may be registered with several grpc.Servers, one for each kind of connection, all
// of which must have its ServerOptions.
type Server struct {
	opts   Options
	table  *table
	health *health.Server

	problems problemCache

	stop context.CancelFunc // ends streams
	done context.Context

	mu      sync.Mutex
	watches map[string]int // by principal
}

// New checks options; the error says which caller is wrong.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Partition == "" {
		o.Partition = "aws"
	}
	if o.MaxWatches == 0 {
		o.MaxWatches = 1000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t, err := newTable(o.Callers, o.Operators, o.Partition)
	if err != nil {
		return nil, fmt.Errorf("making the API's server: %w", err)
	}
	s := &Server{opts: o, table: t, health: health.NewServer(), watches: map[string]int{}}
	s.done, s.stop = context.WithCancel(context.Background())
	s.setHealth(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

// Register adds the services and that of health to a server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	apiv1.RegisterAccountsServer(r, accounts{Server: s})
	apiv1.RegisterNetworksServer(r, networks{Server: s})
	apiv1.RegisterLoadBalancingServer(r, loadBalancing{Server: s})
	apiv1.RegisterEndpointsServer(r, endpoints{Server: s})
	apiv1.RegisterResourcesServer(r, resources{Server: s})
	grpc_health_v1.RegisterHealthServer(r, s.health)
}

// ServerOptions are those of every server that has the services: limits, and what each call goes through. Transport
// credentials, UnixCredentials or TLS, come on top.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(maxManifest),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
	}
}

// services are those that have a health of their own, beside the server's.
func services() []string {
	return []string{
		"",
		apiv1.Accounts_ServiceDesc.ServiceName,
		apiv1.Networks_ServiceDesc.ServiceName,
		apiv1.LoadBalancing_ServiceDesc.ServiceName,
		apiv1.Endpoints_ServiceDesc.ServiceName,
		apiv1.Resources_ServiceDesc.ServiceName,
		apiv1.Inspect_ServiceDesc.ServiceName,
	}
}

func (s *Server) setHealth(state grpc_health_v1.HealthCheckResponse_ServingStatus) {
	for _, name := range services() {
		s.health.SetServingStatus(name, state)
	}
}

// Run has the health service say SERVING once the dataplane runs what there is, until ctx ends; then it ends all streams,
// so that grpc.Server.GracefulStop can.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	if s.untilApplied(ctx) {
		s.setHealth(grpc_health_v1.HealthCheckResponse_SERVING)
	}
	<-ctx.Done()
	return nil
}

// untilApplied waits for the first view. One that is refused may be mended by a change: then another revision counts.
func (s *Server) untilApplied(ctx context.Context) bool {
	for {
		desired := s.opts.Keeper.Status().Desired
		if desired == 0 { // an empty store: there is nothing to be run
			return true
		}
		err := s.opts.Keeper.WaitApplied(ctx, desired)
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
	}
}

// Close ends streams, those of the health service too. Calls with one reply go on.
func (s *Server) Close() {
	s.stop()
	s.health.Shutdown()
}
