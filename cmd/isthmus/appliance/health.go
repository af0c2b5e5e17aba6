// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

const (
	// failInterval is how often the file that makes the appliance unhealthy is looked for.
	failInterval = 200 * time.Millisecond
	// answerTime bounds how long a checker may take to ask.
	answerTime = 10 * time.Second
	// flowsShown is how many flows an answer has.
	flowsShown = 1000
)

// health answers the health check with the counters. While the appliance is unhealthy nothing listens.
type health struct {
	a       *Appliance
	failed  atomic.Bool
	changed chan struct{}
	server  *http.Server // nil while nothing listens
	ended   chan error   // of server
}

func newHealth(a *Appliance) *health { return &health{a: a, changed: make(chan struct{}, 1)} }

// set makes the appliance healthy or not.
func (h *health) set(healthy bool) {
	h.failed.Store(!healthy)
	select {
	case h.changed <- struct{}{}:
	default: // one is waiting
	}
}

// healthy says whether the check is to be answered.
func (h *health) healthy() bool {
	if h.failed.Load() {
		return false
	}
	if h.a.opts.FailHealth == "" {
		return true
	}
	_, err := os.Stat(h.a.opts.FailHealth)
	return errors.Is(err, os.ErrNotExist)
}

// run answers, with pauses, until ctx ends.
func (h *health) run(ctx context.Context) error {
	tick := time.NewTicker(failInterval)
	defer tick.Stop()
	defer h.stop()
	for {
		if err := h.follow(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-h.ended:
			return fmt.Errorf("answer the health check: %w", err)
		case <-tick.C:
		case <-h.changed:
		}
	}
}

// follow starts or stops answering, as the appliance's health has become.
func (h *health) follow() error {
	if !h.healthy() {
		h.stop()
		return nil
	}
	if h.server != nil {
		return nil
	}
	l, err := netns.Listen(h.a.opts.Netns, "tcp", h.a.opts.Health)
	if err != nil {
		return fmt.Errorf("answer the health check: %w", err)
	}
	server, ended := &http.Server{Handler: h.handler(), ReadTimeout: answerTime}, make(chan error, 1)
	h.server, h.ended = server, ended
	go func() { ended <- server.Serve(l) }()
	return nil
}

// stop closes the port and all connections.
func (h *health) stop() {
	if h.server != nil {
		h.server.Close()
		h.server, h.ended = nil, nil
	}
}

// handler answers every path with the counters, /flows with those of flows.
func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { answer(w, h.a.Stats()) })
	mux.HandleFunc("/flows", func(w http.ResponseWriter, _ *http.Request) { answer(w, h.a.Flows(flowsShown)) })
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a checker that has gone away wants no answer
}
