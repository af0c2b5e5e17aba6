// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Visible returns whether the caller of a context, which has gone through the interceptors, may see what the dataplane
// tells of a resource, by its uid: operators see everything, others what their account owns. Providers do not see flows of
// the endpoints of others, nor clients' addresses.
//
// Answers are kept, so that a call that goes through a million flows asks once for each endpoint; the function is one
// call's and one goroutine's.
func (s *Server) Visible(ctx context.Context) func(uid string) bool {
	actor := actorOf(ctx)
	if actor.Operator {
		return func(string) bool { return true }
	}
	set := s.snapshot()
	known := map[string]bool{}
	return func(uid string) bool {
		visible, ok := known[uid]
		if !ok {
			visible = maySee(actor, ownerOf(set, uid))
			known[uid] = visible
		}
		return visible
	}
}

// ownerOf is the account that owns the resource with a uid; empty if there is none.
func ownerOf(set *resource.Set, uid string) string {
	for _, kind := range resource.Kinds() {
		if r, ok := set.Get(resource.Key{Kind: kind, ID: uid}); ok {
			return r.Metadata().Account
		}
	}
	return ""
}
