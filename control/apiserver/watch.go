// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// progressAfter is how many transactions that a watcher sees nothing of pass before it is told the revision all the same,
// so that it can resume from there.
const progressAfter = 100

// Watch sends what there is and then what changes. A watcher that reads slowly holds up nobody: it has a place in the
// keeper's log, which goes on without it.
func (s resources) Watch(r *apiv1.WatchRequest, out grpc.ServerStreamingServer[apiv1.WatchResponse]) error {
	w, err := s.newWatch(out.Context(), r)
	if err != nil {
		return err
	}
	if err := s.enter(w.actor); err != nil {
		return err
	}
	defer s.leave(w.actor)
	w.send = out.Send
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	defer context.AfterFunc(s.done, cancel)()
	err = w.run(ctx, r.GetRevision())
	if s.done.Err() != nil {
		return status.Error(codes.Unavailable, "the daemon stops; watch again from the last revision")
	}
	return err
}

// enter counts a watcher of a caller.
func (s *Server) enter(a resource.Actor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[a.Principal] >= s.opts.MaxWatches {
		return status.Errorf(codes.ResourceExhausted, "the caller has %d watches already; end one first", s.opts.MaxWatches)
	}
	s.watches[a.Principal]++
	return nil
}

func (s *Server) leave(a resource.Actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[a.Principal]--; s.watches[a.Principal] == 0 {
		delete(s.watches, a.Principal)
	}
}

// watch is one stream.
type watch struct {
	server  *Server
	actor   resource.Actor
	account string // whose resources are sent; empty: everybody's
	kinds   []resource.Kind
	send    func(*apiv1.WatchResponse) error
}

func (s *Server) newWatch(ctx context.Context, r *apiv1.WatchRequest) (*watch, error) {
	w := &watch{server: s, actor: actorOf(ctx)}
	var err error
	if w.account, err = s.parents(ctx, r.GetParent()); err != nil {
		return nil, err
	}
	for _, collection := range r.GetCollections() {
		kind, ok := resource.KindOf(collection)
		if !ok {
			return nil, invalid("collections", "there is no collection %q; write one as in the names of resources, such as endpointServices", collection)
		}
		w.kinds = append(w.kinds, kind)
	}
	if len(w.kinds) == 0 {
		w.kinds = resource.Kinds()
	}
	return w, nil
}

// sees says whether the watch is about a resource.
func (w *watch) sees(k resource.Key) bool {
	if w.account != "" && k.Account != w.account || !maySee(w.actor, k.Account) {
		return false
	}
	for _, kind := range w.kinds {
		if k.Kind == kind {
			return true
		}
	}
	return false
}

func (w *watch) run(ctx context.Context, after uint64) error {
	if after == 0 {
		set := w.server.snapshot()
		if err := w.everything(set); err != nil {
			return err
		}
		after = set.Revision()
	} else if err := w.send(&apiv1.WatchResponse{Revision: after, Synced: true}); err != nil {
		return err
	}
	sub, err := w.server.opts.Keeper.Watch(after)
	if err != nil {
		return err
	}
	defer sub.Close()
	quiet := 0
	for {
		batch, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		var seen []resource.Change
		for _, c := range batch.Changes {
			if w.sees(c.Key) {
				seen = append(seen, c)
			}
		}
		if quiet++; len(seen) == 0 && quiet < progressAfter {
			continue
		}
		quiet = 0
		if err := w.changes(seen, after, batch.Revision); err != nil {
			return err
		}
		after = batch.Revision
	}
}

// everything sends what there is, in parts. Whoever loses the stream in between begins again: only the last part has a
// revision to resume from.
func (w *watch) everything(set *resource.Set) error {
	p := &parts{send: w.send}
	show := w.server.presenter(set)
	for r := range set.All() {
		if !w.sees(r.Metadata().Key) {
			continue
		}
		if err := p.add(show.message(r), false); err != nil {
			return err
		}
	}
	return p.end(&apiv1.WatchResponse{Revision: set.Revision(), Synced: true})
}

// changes sends those of one transaction. Parts but the last have the revision before it, so that whoever resumes from
// there misses nothing.
func (w *watch) changes(list []resource.Change, before, revision uint64) error {
	p := &parts{send: w.send, revision: before}
	show := w.server.presenter(w.server.snapshot())
	for _, c := range list {
		r, deleted := c.New, false
		if r == nil {
			r, deleted = c.Old, true
		}
		if err := p.add(show.message(r), deleted); err != nil {
			return err
		}
	}
	return p.end(&apiv1.WatchResponse{Revision: revision, Synced: true})
}

// parts cuts what is sent at once into messages that clients take.
type parts struct {
	send     func(*apiv1.WatchResponse) error
	revision uint64 // of all parts but the last
	events   []*apiv1.WatchEvent
	size     int
}

func (p *parts) add(m proto.Message, deleted bool) error {
	if n := proto.Size(m); p.size > 0 && p.size+n > partBytes {
		if err := p.send(&apiv1.WatchResponse{Events: p.events, Revision: p.revision}); err != nil {
			return err
		}
		p.events, p.size = nil, 0
	}
	wrapped, err := codec.Wrap(m)
	if err != nil {
		return err
	}
	p.events = append(p.events, &apiv1.WatchEvent{Resource: wrapped, Deleted: deleted})
	p.size += proto.Size(m)
	return nil
}

// end sends the rest as the last part.
func (p *parts) end(last *apiv1.WatchResponse) error {
	last.Events = p.events
	return p.send(last)
}

// WaitApplied waits until the dataplane runs a revision.
func (s resources) WaitApplied(ctx context.Context, r *apiv1.WaitAppliedRequest) (*apiv1.WaitAppliedResponse, error) {
	if desired := s.opts.Keeper.Status().Desired; r.GetRevision() > desired {
		return nil, status.Errorf(codes.OutOfRange, "revision %d has not happened; the newest is %d", r.GetRevision(), desired)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.done, cancel)()
	err := s.opts.Keeper.WaitApplied(ctx, r.GetRevision())
	if s.done.Err() != nil {
		return nil, status.Error(codes.Unavailable, "the daemon stops")
	}
	if err != nil {
		return nil, err
	}
	return &apiv1.WaitAppliedResponse{AppliedRevision: s.opts.Keeper.Status().Applied}, nil
}

// WhoAmI says who the caller is.
func (s resources) WhoAmI(ctx context.Context, _ *apiv1.WhoAmIRequest) (*apiv1.WhoAmIResponse, error) {
	a := actorOf(ctx)
	return &apiv1.WhoAmIResponse{Principal: a.Principal, Account: a.Account, Operator: a.Operator}, nil
}
