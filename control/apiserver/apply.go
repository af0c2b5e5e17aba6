// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

var manifestPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// operatorManifests begins the names by which manifests that operators apply are kept, so that none of an account's is
// taken for theirs when it is pruned.
const operatorManifests = "operators/"

// entry is one resource of a manifest.
type entry struct {
	path     string // in the request
	desired  resource.Resource
	revision uint64 // that its etag stands for
}

// plan is what an Apply does, and then what it has done.
type plan struct {
	actor   resource.Actor
	before  *resource.Set // what there was
	name    string        // by which the manifest is kept; empty: it has none
	prune   bool
	entries []entry

	outlined map[resource.Key]bool // made by outline
	applied  map[resource.Key]bool
	changes  []*apiv1.PlannedChange
	keys     []resource.Key // of what was made or changed
}

// Apply brings what is there to what a manifest says, in one transaction.
func (s resources) Apply(ctx context.Context, r *apiv1.ApplyRequest) (*apiv1.ApplyResponse, error) {
	p, err := newPlan(actorOf(ctx), r)
	if err != nil {
		return nil, err
	}
	p.before = s.snapshot()
	out, err := s.change(ctx, r, r.GetDryRun(), p.run)
	if err != nil {
		return nil, err
	}
	if out.Replayed {
		for _, k := range out.Keys {
			p.did(apiv1.ApplyAction_APPLY_ACTION_NONE, k, nil)
		}
	}
	response := &apiv1.ApplyResponse{Changes: p.changes, Revision: out.Revision}
	if r.GetDryRun() {
		response.Revision = 0
	}
	return response, nil
}

// newPlan decodes a manifest. It reports every mistake of form.
func newPlan(actor resource.Actor, r *apiv1.ApplyRequest) (*plan, error) {
	m := r.GetManifest()
	p := &plan{actor: actor, name: m.GetName(), prune: r.GetPrune()}
	switch {
	case m == nil:
		return nil, invalid("manifest", "is missing")
	case p.name != "" && !manifestPattern.MatchString(p.name):
		return nil, invalid("manifest.name", "%q is not 1 to 128 letters, digits, dots, hyphens and underscores", p.name)
	case p.prune && p.name == "":
		return nil, invalid("manifest.name", "is missing; without it there is no telling what an earlier one has made")
	case p.name != "" && actor.Operator:
		p.name = operatorManifests + p.name
	}
	account := m.GetAccount()
	switch {
	case account == "":
		account = actor.Account
	case !accountPattern.MatchString(account):
		return nil, invalid("manifest.account", "%q is not 12 digits", account)
	case !maySee(actor, account):
		return nil, denied("manifest.account", account)
	}
	var errs []error
	for path, member := range members(m) {
		e, err := decodeEntry(path, member, account)
		if err == nil && !maySee(actor, e.desired.Metadata().Account) {
			err = denied(path+".name", e.desired.Metadata().Account)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.entries = append(p.entries, e)
	}
	return p, errors.Join(errs...)
}

func decodeEntry(path string, member message, account string) (entry, error) {
	// The name is parsed first: without it nothing says whose the rest is.
	k, err := nameAt(path+".name", member.GetName(), kindOf(member), account)
	if err != nil {
		return entry{}, err
	}
	desired, err := codec.Decode(member, codec.DecodeOptions{Account: k.Account})
	if err != nil {
		return entry{}, under(path, err)
	}
	revision, err := codec.ParseEtag(member.GetMetadata().GetEtag())
	if err != nil {
		return entry{}, under(path, err)
	}
	return entry{path: path, desired: desired, revision: revision}, nil
}

// run does the plan. When something of one kind is wrong it goes on to the end of that kind, so that all mistakes of a sort
// are told at once, and no further, because what depends on it would be wrong for no reason of its own.
func (p *plan) run(tx *resource.Tx) ([]resource.Key, error) {
	p.outlined, p.applied = map[resource.Key]bool{}, map[resource.Key]bool{}
	var errs []error
	for i, e := range p.entries {
		if len(errs) > 0 && e.desired.Metadata().Kind != p.entries[i-1].desired.Metadata().Kind {
			break
		}
		if err := p.apply(tx, i); err != nil {
			errs = append(errs, under(e.path, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if p.prune {
		if err := p.remove(tx); err != nil {
			return nil, err
		}
	}
	return p.keys, nil
}

// apply makes or changes one resource.
func (p *plan) apply(tx *resource.Tx, i int) error {
	desired := resource.Clone(p.entries[i].desired)
	meta := desired.Metadata()
	if meta.Kind == resource.KindSecurityGroup {
		p.outline(tx, i)
	}
	if endpoint, ok := desired.(*resource.Endpoint); ok {
		if err := p.resolve(tx, endpoint); err != nil {
			return err
		}
	}
	old, exists := tx.Get(meta.Key)
	if exists {
		meta.Key = old.Metadata().Key // it may be named by its uid
	}
	if p.applied[meta.Key] {
		return invalid("name", "%s is there twice; leave one out", codec.Name(meta.Key))
	}
	p.applied[meta.Key] = true
	meta.Manifest = p.name
	if !exists {
		if _, err := tx.Create(desired); err != nil {
			return err
		}
		p.did(apiv1.ApplyAction_APPLY_ACTION_CREATE, meta.Key, nil)
		return nil
	}
	if p.name == "" {
		meta.Manifest = old.Metadata().Manifest
	}
	changed, err := tx.Update(desired, p.entries[i].revision)
	if err != nil {
		return err
	}
	switch fields := changes(old, changed); {
	case p.outlined[meta.Key]:
		p.did(apiv1.ApplyAction_APPLY_ACTION_CREATE, meta.Key, nil)
	case len(fields) > 0:
		p.did(apiv1.ApplyAction_APPLY_ACTION_UPDATE, meta.Key, fields)
	default:
		p.did(apiv1.ApplyAction_APPLY_ACTION_NONE, meta.Key, nil)
	}
	return nil
}

// outline makes the security groups that are not there yet, from the first of the manifest on, without their rules: rules
// may refer to any group, also in a circle.
func (p *plan) outline(tx *resource.Tx, first int) {
	if first > 0 && p.entries[first-1].desired.Metadata().Kind == resource.KindSecurityGroup {
		return
	}
	for _, e := range p.entries[first:] {
		group, ok := e.desired.(*resource.SecurityGroup)
		if !ok {
			return
		}
		if _, exists := tx.Get(group.Key); exists {
			continue
		}
		group = resource.Clone(group)
		group.Ingress = nil
		// What is wrong with it is told when it is made as a whole.
		if _, err := tx.Create(group); err == nil {
			p.outlined[group.Key] = true
		}
	}
}

// changes are the fields in which a resource differs from what it was, but for those that the server sets.
func changes(old, changed resource.Resource) []*apiv1.FieldChange {
	if old == changed {
		return nil
	}
	fields := differences(codec.Encode(old).ProtoReflect(), codec.Encode(changed).ProtoReflect())
	if was, is := old.Metadata().Manifest, changed.Metadata().Manifest; was != is {
		fields = append(fields, &apiv1.FieldChange{Path: "metadata.manifest", Before: was, After: is})
	}
	return fields
}

// resolve lets an endpoint name its service as a resource, because a service that the same manifest makes has no name yet
// that could be written down. Services of others are found that the caller may use.
func (p *plan) resolve(tx *resource.Tx, e *resource.Endpoint) error {
	if !strings.HasPrefix(e.Service, "accounts/") {
		return nil
	}
	k, err := nameAt("service_name", e.Service, resource.KindEndpointService, e.Account)
	if err != nil {
		return err
	}
	service, ok := tx.Get(k)
	if !ok || !maySee(p.actor, k.Account) && !p.before.Visible(p.actor, service) {
		return missing("service_name", k)
	}
	e.Service = service.(*resource.EndpointService).Name
	return nil
}

// remove deletes what an earlier manifest of the name has made and this one does not have, users before what they use.
func (p *plan) remove(tx *resource.Tx) error {
	account := p.actor.Account
	if p.actor.Operator {
		account = ""
	}
	var errs []error
	for _, kind := range slices.Backward(resource.Kinds()) {
		for _, r := range tx.List(kind, account) {
			if r.Metadata().Manifest != p.name || p.applied[r.Metadata().Key] || endsAlone(r) {
				continue
			}
			if err := tx.Delete(r.Metadata().Key, 0); err != nil {
				errs = append(errs, err)
				continue
			}
			p.did(apiv1.ApplyAction_APPLY_ACTION_DELETE, r.Metadata().Key, nil)
		}
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
	}
	return nil
}

// endsAlone says whether a resource goes without being deleted: with its VPC, or soon.
func endsAlone(r resource.Resource) bool {
	switch r := r.(type) {
	case *resource.SecurityGroup:
		return r.Default
	case *resource.Endpoint:
		return r.State == resource.Deleting
	}
	return false
}

// did notes an action, and what is left of a resource that it changed.
func (p *plan) did(action apiv1.ApplyAction, k resource.Key, fields []*apiv1.FieldChange) {
	p.changes = append(p.changes, &apiv1.PlannedChange{Action: action, Name: codec.Name(k), Fields: fields})
	if action == apiv1.ApplyAction_APPLY_ACTION_CREATE || action == apiv1.ApplyAction_APPLY_ACTION_UPDATE {
		p.keys = append(p.keys, k)
	}
}
