// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func TestLifeOfAVPC(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	made, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: "home", Vpc: &apiv1.VPC{Name: "ignored", Cidrs: []string{"10.0.0.0/16"}}})
	b.must(err)
	if made.Name != "accounts/222222222222/vpcs/home" || made.Metadata.Uid == "" || made.Metadata.Etag == "" || made.DefaultSecurityGroup == "" {
		t.Fatalf("created %v", made)
	}
	b.applied()
	for _, name := range []string{"home", made.Name, made.Metadata.Uid, "accounts/222222222222/vpcs/" + made.Metadata.Uid} {
		got, err := c.GetVPC(c.ctx, &apiv1.GetVPCRequest{Name: name})
		b.must(err)
		if got.Metadata.AppliedRevision != got.Metadata.Revision {
			t.Errorf("applied revision %d of %d", got.Metadata.AppliedRevision, got.Metadata.Revision)
		}
		if diff := cmp.Diff(made, got, protocmp.Transform(), protocmp.IgnoreFields(&apiv1.Metadata{}, "applied_revision")); diff != "" {
			t.Errorf("got by %s: %s", name, diff)
		}
	}
	_, err = c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: "home", Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}})
	refused(t, err, codes.AlreadyExists, "RESOURCE_EXISTS")
	nameless, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{Vpc: &apiv1.VPC{Cidrs: []string{"10.1.0.0/16"}}})
	b.must(err)
	if nameless.Name != "accounts/222222222222/vpcs/"+nameless.Metadata.Uid {
		t.Errorf("a VPC without an id is named %s", nameless.Name)
	}
	_, err = c.DeleteVPC(c.ctx, &apiv1.DeleteVPCRequest{Name: "home", Etag: nameless.Metadata.Etag})
	refused(t, err, codes.Aborted, "ETAG_MISMATCH")
	_, err = c.DeleteVPC(c.ctx, &apiv1.DeleteVPCRequest{Name: "home", Etag: made.Metadata.Etag})
	b.must(err)
	_, err = c.GetVPC(c.ctx, &apiv1.GetVPCRequest{Name: "home"})
	refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
	if info := detail[*errdetails.ErrorInfo](err); info.Metadata["ec2_code"] != "InvalidVpcID.NotFound" || info.Metadata["resource"] != made.Name {
		t.Errorf("details %v", info)
	}
}

func TestMistakesAreToldByField(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	_, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: "home", Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16", "ten", "10.3.0.1/99"}}})
	refused(t, err, codes.InvalidArgument, "")
	var fields []string
	for _, v := range detail[*errdetails.BadRequest](err).FieldViolations {
		fields = append(fields, v.Field)
	}
	if diff := cmp.Diff([]string{"vpc.cidrs[1]", "vpc.cidrs[2]"}, fields); diff != "" {
		t.Error(diff)
	}
	for _, r := range []*apiv1.CreateVPCRequest{
		{VpcId: "home"},
		{VpcId: "accounts/222222222222/vpcs/home", Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}},
		{VpcId: "home", Parent: "accounts/x", Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}},
		{VpcId: "home", RequestId: fmt.Sprintf("%0200d", 1), Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}},
	} {
		_, err := c.CreateVPC(c.ctx, r)
		refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
	}
	_, err = b.as(root).CreateVPC(c.ctx, &apiv1.CreateVPCRequest{Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}})
	refused(t, err, codes.InvalidArgument, "INVALID_REQUEST") // an operator has no account of its own
}

func TestQuotasAndPreconditionsHaveDetails(t *testing.T) {
	b := newBed(t)
	b.both()
	p := b.as(provider)
	_, err := p.DeleteEndpointService(p.ctx, &apiv1.DeleteEndpointServiceRequest{Name: "payments"})
	refused(t, err, codes.FailedPrecondition, "SERVICE_HAS_ENDPOINTS")
	state := detail[*errdetails.PreconditionFailure](err)
	if state == nil || state.Violations[0].Subject != "accounts/111111111111/endpointServices/payments" {
		t.Errorf("details %v", state)
	}
	for i := range 6 {
		if _, err = p.CreateVPC(p.ctx, &apiv1.CreateVPCRequest{Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}}); err != nil && i < 4 {
			t.Fatal(err)
		}
	}
	refused(t, err, codes.ResourceExhausted, "")
	if detail[*errdetails.QuotaFailure](err) == nil {
		t.Errorf("no QuotaFailure in %v", err)
	}
}

func TestValidateOnlyChangesNothing(t *testing.T) {
	b := newBed(t)
	b.both()
	b.applied()
	c := b.as(consumer)
	before := b.keeper.Status().Desired
	made, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: "other", Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}, ValidateOnly: true})
	b.must(err)
	if made.Name != "accounts/222222222222/vpcs/other" {
		t.Errorf("checked %v", made)
	}
	changed, err := c.UpdateVPC(c.ctx, &apiv1.UpdateVPCRequest{Vpc: &apiv1.VPC{Name: "home", Cidrs: []string{"10.0.0.0/16", "10.2.0.0/16"}}, ValidateOnly: true})
	b.must(err)
	if len(changed.Cidrs) != 2 {
		t.Errorf("checked %v", changed)
	}
	if now := b.keeper.Status().Desired; now != before {
		t.Errorf("revision %d has become %d", before, now)
	}
	_, err = c.GetVPC(c.ctx, &apiv1.GetVPCRequest{Name: "other"})
	refused(t, err, codes.NotFound, "")
}

func TestRequestsThatComeAgain(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	r := &apiv1.CreateVPCRequest{Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}, RequestId: "one"}
	made, err := c.CreateVPC(c.ctx, r)
	b.must(err)
	again, err := c.CreateVPC(c.ctx, r)
	b.must(err)
	if again.Name != made.Name {
		t.Errorf("made %s, then %s", made.Name, again.Name)
	}
	_, err = c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{Vpc: &apiv1.VPC{Cidrs: []string{"10.1.0.0/16"}}, RequestId: "one"})
	refused(t, err, codes.InvalidArgument, "IDEMPOTENT_PARAMETER_MISMATCH")
	other, err := b.as(provider).CreateVPC(c.ctx, r)
	b.must(err)
	if other.Name == made.Name {
		t.Error("another caller's request was taken for a repetition")
	}
	for range 2 {
		_, err = c.DeleteVPC(c.ctx, &apiv1.DeleteVPCRequest{Name: made.Name, RequestId: "two"})
		b.must(err)
	}
	_, err = c.CreateVPC(c.ctx, r)
	refused(t, err, codes.NotFound, "GONE")
}

func TestUpdates(t *testing.T) {
	b := newBed(t)
	b.both()
	p := b.as(provider)
	read := func() *apiv1.TargetGroup {
		g, err := p.GetTargetGroup(p.ctx, &apiv1.GetTargetGroupRequest{Name: "web"})
		b.must(err)
		return g
	}
	send := func(g *apiv1.TargetGroup, paths ...string) error {
		g.Name = "web"
		r := &apiv1.UpdateTargetGroupRequest{TargetGroup: g}
		if len(paths) > 0 {
			r.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
		}
		_, err := p.UpdateTargetGroup(p.ctx, r)
		return err
	}
	tags := func(list ...string) *apiv1.Metadata {
		m := &apiv1.Metadata{Tags: map[string]string{}}
		for i := 0; i < len(list); i += 2 {
			m.Tags[list[i]] = list[i+1]
		}
		return m
	}
	// Without a mask, what is set changes and the rest stays.
	b.must(send(&apiv1.TargetGroup{Metadata: tags("env", "test", "dotted.key", "x"), TerminateOnDeregistration: true}))
	g := read()
	if !g.TerminateOnDeregistration || g.Metadata.Tags["env"] != "test" || len(g.Targets) != 1 || g.Metadata.Manifest != "provider" {
		t.Fatalf("after an update without a mask: %v", g)
	}
	// A field of the mask that is not set is cleared; an entry of a map can be named.
	b.must(send(&apiv1.TargetGroup{Metadata: tags("new", "y")}, "terminate_on_deregistration", "metadata.tags.new", "metadata.tags.`dotted.key`"))
	if g = read(); g.TerminateOnDeregistration || len(g.Metadata.Tags) != 2 || g.Metadata.Tags["new"] != "y" || g.Metadata.Tags["env"] != "test" {
		t.Fatalf("after an update with a mask: %v", g)
	}
	// Output-only fields may be named, and change nothing.
	b.must(send(&apiv1.TargetGroup{Metadata: &apiv1.Metadata{Uid: "tg-0"}}, "metadata.uid", "name", "draining_targets"))
	if after := read(); !cmp.Equal(g, after, protocmp.Transform()) {
		t.Errorf("an update of outputs has changed %v to %v", g, after)
	}
	// * replaces everything.
	b.must(send(&apiv1.TargetGroup{Vpc: "shop", Metadata: &apiv1.Metadata{Etag: read().Metadata.Etag}}, "*"))
	if g = read(); len(g.Metadata.Tags) != 0 || len(g.Targets) != 0 || len(g.DrainingTargets) != 1 {
		t.Fatalf("after an update of everything: %v", g)
	}
	for _, bad := range [][]string{{"nonsense"}, {"*", "vpc"}, {"targets.address"}, {"vpc.name"}, {""}, {"metadata..tags"}, {"metadata.tags.a.b"}, {"metadata.tags.`a"}} {
		refused(t, send(&apiv1.TargetGroup{}, bad...), codes.InvalidArgument, "INVALID_REQUEST")
	}
	err := send(&apiv1.TargetGroup{Metadata: &apiv1.Metadata{Etag: "r1"}})
	refused(t, err, codes.Aborted, "ETAG_MISMATCH")
	if v := detail[*errdetails.BadRequest](err).GetFieldViolations(); len(v) != 1 || v[0].Field != "target_group.metadata.etag" {
		t.Errorf("a stale etag: %v", v)
	}
	refused(t, send(&apiv1.TargetGroup{Metadata: &apiv1.Metadata{Etag: "x"}}), codes.InvalidArgument, "ETAG_INVALID")
	_, err = p.UpdateTargetGroup(p.ctx, &apiv1.UpdateTargetGroupRequest{TargetGroup: &apiv1.TargetGroup{Name: "none"}})
	refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
	_, err = p.UpdateTargetGroup(p.ctx, &apiv1.UpdateTargetGroupRequest{})
	refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
}

func TestPages(t *testing.T) {
	b := newBed(t)
	op := b.as(root)
	_, err := op.UpdateAccount(op.ctx, &apiv1.UpdateAccountRequest{Account: &apiv1.Account{Name: "accounts/" + consumerAccount, Quotas: &apiv1.Quotas{Vpcs: 100}}})
	b.must(err)
	c := b.as(consumer)
	make := func(id string) {
		_, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: id, Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}})
		b.must(err)
	}
	for i := range 10 {
		make(fmt.Sprintf("v%02d", i))
	}
	var names []string
	token := ""
	for i := 0; ; i++ {
		got, err := c.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{PageSize: 3, PageToken: token})
		b.must(err)
		for _, v := range got.Vpcs {
			names = append(names, v.Name[len("accounts/222222222222/vpcs/"):])
		}
		if token = got.NextPageToken; token == "" {
			break
		}
		if i == 0 { // before the page, on its edge, and after it
			make("a-first")
			_, err = c.DeleteVPC(c.ctx, &apiv1.DeleteVPCRequest{Name: "v02"})
			b.must(err)
			make("v02a")
		}
	}
	want := []string{"v00", "v01", "v02", "v02a", "v03", "v04", "v05", "v06", "v07", "v08", "v09"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	first, err := c.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{PageSize: 3})
	b.must(err)
	for name, bad := range map[string]func() error{
		"no token": func() error { _, err := c.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{PageToken: "x"}); return err },
		"of another collection": func() error {
			_, err := c.ListSubnets(c.ctx, &apiv1.ListSubnetsRequest{PageToken: first.NextPageToken})
			return err
		},
		"of another parent": func() error {
			_, err := op.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{Parent: "accounts/-", PageToken: first.NextPageToken})
			return err
		},
		"changed": func() error {
			_, err := c.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{PageToken: first.NextPageToken + "AA"})
			return err
		},
		"negative": func() error { _, err := c.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{PageSize: -1}); return err },
	} {
		t.Run(name, func(t *testing.T) { refused(t, bad(), codes.InvalidArgument, "INVALID_REQUEST") })
	}
	// An operator sees all of them.
	all, err := op.ListVPCs(op.ctx, &apiv1.ListVPCsRequest{PageSize: 1000})
	b.must(err)
	if len(all.Vpcs) != 11 || all.NextPageToken != "" {
		t.Errorf("an operator sees %d VPCs and a token %q", len(all.Vpcs), all.NextPageToken)
	}
}
