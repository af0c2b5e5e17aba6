// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// crashWriter is a client that nobody else interferes with: it has a provider's and a consumer's account of its own, and so
// knows what must be there.
type crashWriter struct {
	number             int
	provider, consumer string
	random             *rand.Rand

	requests int
	known    map[string]string // what was acknowledged, by name
	pending  *writeRequest     // sent and not acknowledged
	latest   *writeRequest     // the last that was acknowledged

	service string            // name that endpoints ask for
	uids    map[string]string // of endpoints, by name
}

// writeRequest is a request that can be sent again, byte for byte.
type writeRequest struct {
	send  func(context.Context, *apiClient) error
	after func(map[string]string) map[string]string // what is there when it is done
}

func newCrashWriter(n int, random *rand.Rand) *crashWriter {
	return &crashWriter{
		number: n, random: random, known: map[string]string{}, uids: map[string]string{},
		provider: fmt.Sprintf("1000000000%02d", n), consumer: fmt.Sprintf("2000000000%02d", n),
	}
}

// write sends one request after another until one is not acknowledged, and returns why.
func (w *crashWriter) write(ctx context.Context, c *apiClient, acknowledged func()) error {
	for {
		w.requests++
		w.pending = w.choose()
		if err := w.pending.send(ctx, c); err != nil {
			return err
		}
		w.settle()
		acknowledged()
	}
}

// settle takes the pending request as done.
func (w *crashWriter) settle() {
	w.known = w.pending.after(w.known)
	w.pending, w.latest = nil, w.pending
}

// repeat sends the request that was not acknowledged until it is, and the one before it, which then has no effect. What that
// has made may be gone since.
func (w *crashWriter) repeat(ctx context.Context, c *apiClient) error {
	latest := w.latest
	if w.pending != nil {
		if err := w.pending.send(ctx, c); err != nil {
			return err
		}
		w.settle()
	}
	for _, again := range []*writeRequest{latest, w.latest} {
		if again == nil {
			continue
		}
		if err := again.send(ctx, c); err != nil && status.Code(err) != codes.NotFound {
			return err
		}
	}
	return nil
}

// choose makes a request that the rules allow.
func (w *crashWriter) choose() *writeRequest {
	if len(w.known) == 0 {
		return w.foundation()
	}
	endpoints := w.endpoints("")
	if len(endpoints) == 0 {
		return w.createEndpoint()
	}
	one := endpoints[w.random.IntN(len(endpoints))]
	switch n := w.random.IntN(10); {
	case n < 2 && len(endpoints) < 10:
		return w.createEndpoint()
	case n < 3:
		return w.decide(w.endpoints(waiting), available)
	case n < 4:
		return w.decide(w.endpoints(available), rejected)
	case n < 5:
		return w.update(one)
	case n < 6:
		return w.remove(one)
	}
	return w.applyGroups()
}
