// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Status says how far the dataplane is.
type Status struct {
	// Desired is the newest revision, Applied the newest that the dataplane runs, 0 before the first.
	Desired, Applied uint64
	// Problem is why the dataplane does not run the newest revision; empty when it does or soon will.
	Problem string
	// Held are available endpoints, by uid, whose newest revision the dataplane refused, and why. It runs what they were
	// before, or nothing of them if there is no before, and everything else.
	Held map[string]string
}

// status is the Status for many to read and to wait for.
type status struct {
	mu      sync.Mutex
	now     Status
	begun   bool          // a state has been in force
	refused uint64        // revision that Problem is about
	news    chan struct{} // closed when Applied or Problem changes
}

func (s *status) init(revision uint64) {
	s.now.Desired, s.news = revision, make(chan struct{})
}

func (s *status) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.news)
	s.news = make(chan struct{})
}

// desire says that there is a newer revision.
func (s *status) desire(revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Desired = revision
}

// applied says that the dataplane runs a revision, but for some endpoints. The map is the status's from here on.
func (s *status) applied(revision uint64, held map[string]string) {
	s.change(func() { s.begun, s.now.Applied, s.now.Problem, s.now.Held = true, revision, "", held })
}

// refuse says why the dataplane does not run a revision.
func (s *status) refuse(revision uint64, why error) {
	s.change(func() { s.now.Problem, s.refused = why.Error(), revision })
}

// Status says how far the dataplane is.
func (k *Keeper) Status() Status {
	s := &k.status
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.now
	out.Held = maps.Clone(out.Held)
	return out
}

// WaitApplied returns when the dataplane runs a revision, or why it does not: a resource.Error if it refuses it or if there
// is no such revision, and the context's error when that ends.
func (k *Keeper) WaitApplied(ctx context.Context, revision uint64) error {
	s := &k.status
	for {
		s.mu.Lock()
		now, begun, refused, news := s.now, s.begun, s.refused, s.news
		s.mu.Unlock()
		switch {
		case begun && now.Applied >= revision:
			return nil
		case revision > now.Desired:
			return &resource.Error{Code: resource.InvalidArgument, Reason: "REVISION_UNKNOWN", Field: "revision",
				Problem: fmt.Sprintf("%d has not happened yet; the newest is %d", revision, now.Desired)}
		case now.Problem != "" && refused >= revision:
			return &resource.Error{Code: resource.FailedPrecondition, Reason: "REVISION_REFUSED",
				Problem: fmt.Sprintf("the dataplane refuses revision %d and goes on with %d: %s", refused, now.Applied, now.Problem)}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
