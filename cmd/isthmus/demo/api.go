// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// Accounts of demo.yaml.
const (
	provider = lab.Provider
	consumer = lab.Consumer
	stranger = "777788889999" // whom no service allows anything
)

// parties are the accounts, in the order in which each needs what those before it have made.
var parties = []string{provider, consumer, stranger}

// whole is the mask of updates of resources that have been read before: all that is different changes.
var whole = &fieldmaskpb.FieldMask{Paths: []string{"*"}}

// name is the full name of a resource of an account.
func name(account string, kind resource.Kind, id string) string {
	return resource.Key{Kind: kind, Account: account, ID: id}.String()
}

// found has the operator make the accounts, and everybody his own part of demo.yaml.
func (b *Bed) found(ctx context.Context) error {
	for _, account := range parties {
		_, err := b.api.CreateAccount(ctx, &apiv1.CreateAccountRequest{AccountId: account, Account: &apiv1.Account{DisplayName: "demo"}})
		if err != nil {
			return fmt.Errorf("create account %s: %w", account, labapi.Plain(err))
		}
	}
	if err := b.apply(ctx); err != nil {
		return err
	}
	var waiting []string
	for _, e := range b.topology.Endpoints[:interfaceEndpoints] {
		waiting = append(waiting, e.ID)
	}
	return b.accept(ctx, waiting...)
}

// apply has every account apply its part of demo.yaml.
func (b *Bed) apply(ctx context.Context) error {
	for _, account := range parties {
		list, err := b.topology.Resources(b.options.Dir)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(r resource.Resource) bool {
			k := r.Metadata().Key
			return k.Account != account || k.Kind == resource.KindAccount
		})
		if _, err := b.api.Apply(labapi.As(ctx, account), labapi.Manifest(b.topology.Name, list)); err != nil {
			return err
		}
		if err := b.learn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// learn reads the uids that the daemon has given. Consumers learn the names of services by them, as a provider would tell.
func (b *Bed) learn(ctx context.Context) error {
	all, err := b.api.Everything(ctx)
	if err != nil {
		return err
	}
	services, endpoints := map[string]string{}, map[string]string{}
	for _, s := range all.EndpointServices {
		services[labapi.ID(s.Name)] = s.Metadata.Uid
	}
	for _, e := range all.Endpoints {
		endpoints[labapi.ID(e.Name)] = e.Metadata.Uid
	}
	for _, g := range all.TargetGroups {
		b.groups[labapi.ID(g.Name)] = g.Metadata.Uid
	}
	for i := range b.topology.Services {
		b.topology.Services[i].ID = services[b.topology.Services[i].Name]
	}
	for i := range b.topology.Endpoints {
		b.topology.Endpoints[i].ID = endpoints[b.topology.Endpoints[i].Name]
	}
	return nil
}

// after has something done when the check is over, before what came earlier.
func (b *Bed) after(undo func(ctx context.Context) error) {
	b.changed = true
	b.undo = append(b.undo, undo)
}

// restore makes everything what demo.yaml says again, if it is anything else.
func (b *Bed) restore(ctx context.Context) error {
	if !b.changed {
		return nil
	}
	var errs []error
	for _, undo := range slices.Backward(b.undo) {
		errs = append(errs, undo(ctx))
	}
	b.undo, b.changed = nil, false
	errs = append(errs, b.apply(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("restoring what demo.yaml says: %w", err)
	}
	return nil
}

// inForce waits until the dataplane runs a revision that a change has made; err is what became of the change.
func (b *Bed) inForce(ctx context.Context, revision uint64, err error) error {
	b.changed = true
	if err == nil {
		_, err = b.api.WaitApplied(ctx, &apiv1.WaitAppliedRequest{Revision: revision})
	}
	return err
}

// newestInForce is inForce for changes that do not say which revision theirs is. A manifest with nothing in it changes
// nothing, and what it is answered with has the newest one.
func (b *Bed) newestInForce(ctx context.Context, err error) error {
	if err != nil {
		return b.inForce(ctx, 0, err)
	}
	now, err := b.api.ResourcesClient.Apply(ctx, &apiv1.ApplyRequest{Manifest: &apiv1.Manifest{}})
	return b.inForce(ctx, now.GetRevision(), err)
}

// changeBalancer changes a load balancer, as the provider.
func (b *Bed) changeBalancer(ctx context.Context, id string, edit func(*apiv1.LoadBalancer)) error {
	ctx = labapi.As(ctx, provider)
	m, err := b.api.GetLoadBalancer(ctx, &apiv1.GetLoadBalancerRequest{Name: id})
	if err != nil {
		return err
	}
	edit(m)
	m, err = b.api.UpdateLoadBalancer(ctx, &apiv1.UpdateLoadBalancerRequest{LoadBalancer: m, UpdateMask: whole})
	return b.inForce(ctx, m.GetMetadata().GetRevision(), err)
}

// changeGroup changes a target group, as the provider.
func (b *Bed) changeGroup(ctx context.Context, id string, edit func(*apiv1.TargetGroup)) error {
	ctx = labapi.As(ctx, provider)
	m, err := b.api.GetTargetGroup(ctx, &apiv1.GetTargetGroupRequest{Name: id})
	if err != nil {
		return err
	}
	edit(m)
	m, err = b.api.UpdateTargetGroup(ctx, &apiv1.UpdateTargetGroupRequest{TargetGroup: m, UpdateMask: whole})
	return b.inForce(ctx, m.GetMetadata().GetRevision(), err)
}

// deregister has a target drain, as the provider.
func (b *Bed) deregister(ctx context.Context, group, instance string, port uint16) error {
	ctx = labapi.As(ctx, provider)
	m, err := b.api.DeregisterTargets(ctx, &apiv1.DeregisterTargetsRequest{
		Name: group, Targets: []*apiv1.Target{{Address: b.address(instance).String(), Port: uint32(port)}},
	})
	return b.inForce(ctx, m.GetMetadata().GetRevision(), err)
}

// refused makes sure that the API has refused something, with a code and for a reason.
func refused(what string, err error, code codes.Code, reason string) error {
	got := ""
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			got = info.Reason
		}
	}
	switch {
	case err == nil:
		return fmt.Errorf("%s was not refused", what)
	case status.Code(err) != code || got != reason:
		return fmt.Errorf("%s should be refused as %s (%s), but: %w", what, reason, code, err)
	}
	return nil
}
