// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Requests of the standard methods, by what they have in common.
type (
	changeRequest interface {
		proto.Message
		GetRequestId() string
	}
	createRequest interface {
		changeRequest
		GetParent() string
		GetValidateOnly() bool
	}
	updateRequest interface {
		changeRequest
		GetUpdateMask() *fieldmaskpb.FieldMask
		GetValidateOnly() bool
	}
	deleteRequest interface {
		changeRequest
		GetName() string
		GetEtag() string
	}
	listRequest interface {
		pageRequest
		GetParent() string
	}
)

// maxRequestID is how long an identifier of a request may be, in bytes; a UUID has 36.
const maxRequestID = 128

// change has the keeper do f as the caller of a request.
func (s *Server) change(ctx context.Context, r changeRequest, dry bool, f func(*resource.Tx) ([]resource.Key, error)) (keeper.Outcome, error) {
	if len(r.GetRequestId()) > maxRequestID {
		return keeper.Outcome{}, invalid("request_id", "has %d bytes; at most %d are taken", len(r.GetRequestId()), maxRequestID)
	}
	fingerprint, err := fingerprint(ctx, r)
	if err != nil {
		return keeper.Outcome{}, err
	}
	return s.opts.Keeper.Do(ctx, keeper.Request{Actor: actorOf(ctx), ID: r.GetRequestId(), Fingerprint: fingerprint, DryRun: dry}, f)
}

// fingerprint tells requests apart that have the same request_id by mistake.
func fingerprint(ctx context.Context, r proto.Message) (sum [sha256.Size]byte, err error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		return sum, fmt.Errorf("fingerprinting a request: %w", err)
	}
	method, _ := grpc.Method(ctx)
	h := sha256.New()
	h.Write([]byte(method))
	h.Write([]byte{0})
	h.Write(data)
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// create answers Create methods. Id may be empty: then the uid is the resource's id.
func create[M message](ctx context.Context, s *Server, r createRequest, id string, m M) (none M, err error) {
	path := string(fieldFor(r.ProtoReflect().Descriptor(), none.ProtoReflect().Descriptor()).Name())
	kind := kindOf(none)
	if !m.ProtoReflect().IsValid() {
		return none, invalid(path, "is missing")
	}
	if strings.Contains(id, "/") {
		return none, invalid(path+"_id", "%q is a name; give the id alone", id)
	}
	account := id
	if kind != resource.KindAccount {
		if account, err = s.parent(ctx, r.GetParent()); err != nil {
			return none, err
		}
	}
	nameless := proto.Clone(m).(M)
	clearName(nameless)
	desired, err := codec.Decode(nameless, codec.DecodeOptions{Account: account})
	if err != nil {
		return none, under(path, err)
	}
	desired.Metadata().Key = resource.Key{Kind: kind, Account: account, ID: id}
	var made resource.Resource
	out, err := s.change(ctx, r, r.GetValidateOnly(), func(tx *resource.Tx) ([]resource.Key, error) {
		if made, err = tx.Create(desired); err != nil {
			return nil, under(path, err)
		}
		return []resource.Key{made.Metadata().Key}, nil
	})
	if err != nil {
		return none, err
	}
	return answer[M](s, out, made)
}

func clearName(m proto.Message) {
	reflected := m.ProtoReflect()
	reflected.Clear(reflected.Descriptor().Fields().ByName("name"))
}

// get answers Get methods.
func get[M message](ctx context.Context, s *Server, name string) (none M, err error) {
	k, err := s.key(ctx, "name", name, kindOf(none))
	if err != nil {
		return none, err
	}
	set := s.snapshot()
	r, ok := set.Get(k)
	if !ok || !maySee(actorOf(ctx), r.Metadata().Account) {
		return none, missing("name", k)
	}
	return s.presenter(set).message(r).(M), nil
}

// list answers List methods.
func list[M message](ctx context.Context, s *Server, r listRequest) ([]M, string, error) {
	var none M
	kind := kindOf(none)
	account, err := s.parents(ctx, r.GetParent())
	if err != nil {
		return nil, "", err
	}
	p, err := newPager(r, kind.Collection(), account)
	if err != nil {
		return nil, "", err
	}
	set := s.snapshot()
	show := s.presenter(set)
	items, next := page(p, set.List(kind, account), positionOf, func(r resource.Resource) M { return show.message(r).(M) })
	return items, next, nil
}

// positionOf sorts as Set.List does.
func positionOf(r resource.Resource) string { return r.Metadata().Account + "/" + r.Metadata().ID }

// update answers Update methods.
func update[M message](ctx context.Context, s *Server, r updateRequest, m M) (none M, err error) {
	path := string(fieldFor(r.ProtoReflect().Descriptor(), none.ProtoReflect().Descriptor()).Name())
	if !m.ProtoReflect().IsValid() {
		return none, invalid(path, "is missing")
	}
	k, err := s.key(ctx, path+".name", m.GetName(), kindOf(none))
	if err != nil {
		return none, err
	}
	revision, err := codec.ParseEtag(m.GetMetadata().GetEtag())
	if err != nil {
		return none, under(path, err)
	}
	masked, err := newMask(m.ProtoReflect(), r.GetUpdateMask())
	if err != nil {
		return none, err
	}
	var changed resource.Resource
	out, err := s.change(ctx, r, r.GetValidateOnly(), func(tx *resource.Tx) ([]resource.Key, error) {
		old, ok := tx.Get(k)
		if !ok {
			return nil, missing(path+".name", k)
		}
		k := old.Metadata().Key // it may be named by its uid
		merged := codec.Encode(old)
		masked.apply(merged.ProtoReflect(), m.ProtoReflect())
		desired, err := codec.Decode(merged, codec.DecodeOptions{Account: k.Account})
		if err != nil {
			return nil, under(path, err)
		}
		desired.Metadata().Key, desired.Metadata().Manifest = k, old.Metadata().Manifest
		if changed, err = tx.Update(desired, revision); err != nil {
			return nil, under(path, err)
		}
		return []resource.Key{changed.Metadata().Key}, nil
	})
	if err != nil {
		return none, err
	}
	return answer[M](s, out, changed)
}

// remove answers Delete methods.
func remove[M message](ctx context.Context, s *Server, r deleteRequest) (*emptypb.Empty, error) {
	var none M
	k, err := s.key(ctx, "name", r.GetName(), kindOf(none))
	if err != nil {
		return nil, err
	}
	revision, err := codec.ParseEtag(r.GetEtag())
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, r, false, func(tx *resource.Tx) ([]resource.Key, error) {
		return nil, tx.Delete(k, revision)
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// answer is the message of a resource that a transaction has made or changed. Drafted is it as the transaction had it.
func answer[M message](s *Server, out keeper.Outcome, drafted resource.Resource) (none M, err error) {
	set := s.snapshot()
	r := drafted
	if out.Replayed {
		if len(out.Keys) != 1 {
			return none, fmt.Errorf("a request that was done before is kept with %d resources, not one", len(out.Keys))
		}
		if r = current(set, out, out.Keys[0]); r == nil {
			return none, &resource.Error{
				Code: resource.NotFound, Reason: "GONE", EC2: "IncorrectState", Resource: out.Keys[0], Field: "request_id",
				Problem: "this was done before, and the resource has been deleted since; use a new request_id",
			}
		}
	}
	return s.presenter(set).message(r).(M), nil
}

// current is a resource as a transaction has left it or, if it did not change it, as it is now; nil if it is gone.
func current(set *resource.Set, out keeper.Outcome, k resource.Key) resource.Resource {
	for _, c := range out.Changes {
		if c.Key == k && c.New != nil {
			return c.New
		}
	}
	r, _ := set.Get(k)
	return r
}

// key finds out what a name names: what an account owns that the caller may see. Operators may name anything by its uid.
func (s *Server) key(ctx context.Context, path, name string, kind resource.Kind) (resource.Key, error) {
	actor := actorOf(ctx)
	if actor.Operator && actor.Account == "" && kind != resource.KindAccount && strings.HasPrefix(name, kind.UIDPrefix()) {
		return resource.Key{Kind: kind, ID: name}, nil
	}
	k, err := nameAt(path, name, kind, actor.Account)
	if err == nil && !maySee(actor, k.Account) {
		err = missing(path, k)
	}
	return k, err
}

// nameAt parses the name in a field of a request.
func nameAt(path, name string, kind resource.Kind, account string) (resource.Key, error) {
	k, err := codec.ParseName(name, kind, account)
	var e *resource.Error
	if errors.As(err, &e) {
		at := *e
		at.Field = path
		err = &at
	}
	return k, err
}

// nothing is a set to ask for what is not there: the rules have the codes for it.
var nothing = resource.NewSet(resource.Config{})

// missing is the error of what is not there, or not the caller's to see.
func missing(path string, k resource.Key) error {
	err := nothing.Begin(resource.Env{}).Delete(k, 0)
	var e *resource.Error
	if errors.As(err, &e) {
		e.Field = path
	}
	return err
}

// parent is the account that a new resource is to belong to.
func (s *Server) parent(ctx context.Context, parent string) (string, error) {
	actor := actorOf(ctx)
	account := actor.Account
	if parent != "" {
		var ok bool
		if account, ok = strings.CutPrefix(parent, "accounts/"); !ok || !accountPattern.MatchString(account) {
			return "", invalid("parent", "%q is not accounts/ and 12 digits", parent)
		}
	}
	if account == "" {
		return "", invalid("parent", "is missing, and the caller has no account; write accounts/ACCOUNT, or act as one")
	}
	if !maySee(actor, account) {
		return "", denied("parent", account)
	}
	return account, nil
}

// parents is the account that a list is of, or empty for all of them, which only operators get: for others all is their
// own.
func (s *Server) parents(ctx context.Context, parent string) (string, error) {
	actor := actorOf(ctx)
	switch {
	case parent == "accounts/-" && actor.Operator, parent == "" && actor.Account == "" && actor.Operator:
		return "", nil
	case parent == "accounts/-":
		parent = ""
	}
	return s.parent(ctx, parent)
}
