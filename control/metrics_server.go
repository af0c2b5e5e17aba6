// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsServer serves the metrics of a registry over HTTP.
type metricsServer struct {
	address  string
	gatherer prometheus.Gatherer
	log      *slog.Logger
	ready    chan struct{}
	bound    atomic.Value // net.Addr, once ready
}

func newMetricsServer(address string, g prometheus.Gatherer, log *slog.Logger) *metricsServer {
	return &metricsServer{address: address, gatherer: g, log: log, ready: make(chan struct{})}
}

func (m *metricsServer) Ready() <-chan struct{} { return m.ready }
func (m *metricsServer) String() string         { return "metrics" }

// Run serves until ctx ends.
func (m *metricsServer) Run(ctx context.Context) error {
	listener, err := net.Listen("tcp", m.address)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w; choose another --metrics", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.gatherer, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	m.bound.Store(listener.Addr())
	m.log.Info("serving metrics", "address", listener.Addr().String())
	close(m.ready)
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics on %s: %w", m.address, err)
	}
	return nil
}
