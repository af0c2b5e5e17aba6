// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

var (
	descRequests    = metric("api_requests_total", "Calls of the API that have ended, by method and status; streams included.", "method", "code")
	descRequestTime = metric("api_request_seconds", "How long calls of the API took; streams last as long as somebody listens.", "method")
)

// apiCalls counts the calls that gRPC servers have answered. It is a stats.Handler of theirs.
type apiCalls struct {
	mu    sync.Mutex
	ended map[apiCall]uint64
	took  map[string]time.Duration // by method
}

// apiCall is what calls are told apart by.
type apiCall struct{ method, code string }

func newAPICalls() *apiCalls {
	return &apiCalls{ended: map[apiCall]uint64{}, took: map[string]time.Duration{}}
}

// methodKey is the key of a call's method in its context.
type methodKey struct{}

// TagRPC notes the method, such as isthmus.v1.Inspect/Status.
func (*apiCalls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, strings.TrimPrefix(info.FullMethodName, "/"))
}

// HandleRPC counts a call that has ended. Callers may ask for methods that there are not, but gRPC tells of no end of
// such calls: nobody can make series.
func (a *apiCalls) HandleRPC(ctx context.Context, event stats.RPCStats) {
	end, ok := event.(*stats.End)
	if !ok {
		return
	}
	method, _ := ctx.Value(methodKey{}).(string)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended[apiCall{method, status.Code(end.Error).String()}]++
	a.took[method] += end.EndTime.Sub(end.BeginTime)
}

// TagConn and HandleConn complete the interface.
func (*apiCalls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*apiCalls) HandleConn(context.Context, stats.ConnStats)                       {}

// collect sends what was counted.
func (a *apiCalls) collect(s sink) {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := make(map[string]uint64, len(a.took))
	for call, n := range a.ended {
		s.count(descRequests, n, call.method, call.code)
		calls[call.method] += n
	}
	for method, took := range a.took {
		s.out <- prometheus.MustNewConstSummary(descRequestTime, calls[method], took.Seconds(), nil, method)
	}
}
