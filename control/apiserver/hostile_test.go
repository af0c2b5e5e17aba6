// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// unknown is a field that no message has.
func unknown() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 777, protowire.VarintType), 1)
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	b := newBed(t)
	methods(func(m protoreflect.MethodDescriptor) {
		c := b.as(root) // whoever may not import is told that first
		request := newMessage(t, m.Input())
		request.ProtoReflect().SetUnknown(unknown())
		err := call(t, c.ctx, c.conn, m, request)
		refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
	})
	deep := &apiv1.ApplyRequest{Manifest: &apiv1.Manifest{SecurityGroups: []*apiv1.SecurityGroup{{}, {Ingress: []*apiv1.SecurityGroupRule{{}}}}}}
	deep.Manifest.SecurityGroups[1].Ingress[0].ProtoReflect().SetUnknown(unknown())
	_, err := b.as(consumer).Apply(context.Background(), deep)
	refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
	v := detail[*errdetails.BadRequest](err).FieldViolations[0]
	if v.Field != "manifest.security_groups[1].ingress[0]" || !strings.Contains(v.Description, "777") {
		t.Errorf("told %v", v)
	}
}

func TestLargeMessages(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	large := strings.Repeat("x", maxRequest)
	_, err := c.CreateSecurityGroup(c.ctx, &apiv1.CreateSecurityGroupRequest{SecurityGroup: &apiv1.SecurityGroup{Description: large}})
	refused(t, err, codes.ResourceExhausted, "")
	// A manifest may be larger, as long as each resource keeps to the rules.
	_, err = c.apply(t, "vpcs: [{name: v, cidrs: [10.0.0.0/16]}]", func(r *apiv1.ApplyRequest) {
		r.Manifest.SecurityGroups = []*apiv1.SecurityGroup{{Name: "g", Vpc: "v", Description: large}}
	})
	refused(t, err, codes.InvalidArgument, "INVALID_FIELD")
	_, err = c.apply(t, "vpcs: [{name: v, cidrs: [10.0.0.0/16]}]", func(r *apiv1.ApplyRequest) {
		r.Manifest.SecurityGroups = []*apiv1.SecurityGroup{{Name: "g", Vpc: "v", Description: strings.Repeat("x", maxManifest)}}
	})
	refused(t, err, codes.ResourceExhausted, "")
	// Metadata is bounded too. Whether the call or the connection ends is gRPC's business.
	many := metadata.AppendToOutgoingContext(c.ctx, "x", strings.Repeat("x", 2*maxHeader))
	if _, err = c.WhoAmI(many, &apiv1.WhoAmIRequest{}); err == nil {
		t.Error("large metadata was taken")
	}
	_, err = c.WhoAmI(c.ctx, &apiv1.WhoAmIRequest{}, grpc.WaitForReady(true))
	b.must(err)
}

func TestManyMistakesFitAStatus(t *testing.T) {
	b := newBed(t)
	c := b.as(consumer)
	r := &apiv1.ApplyRequest{Manifest: &apiv1.Manifest{}}
	for range 1000 {
		r.Manifest.Vpcs = append(r.Manifest.Vpcs, &apiv1.VPC{Name: "v", Cidrs: []string{"x"}})
	}
	_, err := c.Apply(c.ctx, r)
	refused(t, err, codes.InvalidArgument, "")
	if n := len(detail[*errdetails.BadRequest](err).FieldViolations); n != maxProblems {
		t.Errorf("told of %d mistakes", n)
	}
	// A name in an error may be as long as a request.
	_, err = c.GetVPC(c.ctx, &apiv1.GetVPCRequest{Name: strings.Repeat("v", 1<<20)})
	refused(t, err, codes.NotFound, "")
	if n := proto.Size(status.Convert(err).Proto()); n > 8*maxProblem {
		t.Errorf("a status has %d bytes", n)
	}
}

func TestActingAs(t *testing.T) {
	b := newBed(t)
	op, c := b.as(root), b.as(consumer)
	as := func(ctx context.Context, accounts ...string) context.Context {
		for _, a := range accounts {
			ctx = metadata.AppendToOutgoingContext(ctx, AsKey, a)
		}
		return ctx
	}
	got, err := op.WhoAmI(op.ctx, &apiv1.WhoAmIRequest{})
	b.must(err)
	if !got.Operator || got.Account != "" {
		t.Errorf("root is %v", got)
	}
	got, err = op.WhoAmI(as(op.ctx, consumerAccount), &apiv1.WhoAmIRequest{})
	b.must(err)
	if want := (&apiv1.WhoAmIResponse{Account: consumerAccount, Principal: "arn:aws:iam::222222222222:root"}); !proto.Equal(got, want) {
		t.Errorf("root as an account is %v", got)
	}
	// Then he may no more than the account.
	_, err = op.CreateAccount(as(op.ctx, consumerAccount), &apiv1.CreateAccountRequest{AccountId: "444444444444", Account: &apiv1.Account{}})
	refused(t, err, codes.PermissionDenied, "NOT_OPERATOR")
	_, err = op.ListVPCs(as(op.ctx, consumerAccount), &apiv1.ListVPCsRequest{Parent: "accounts/" + providerAccount})
	refused(t, err, codes.PermissionDenied, "NOT_YOUR_ACCOUNT")
	for _, bad := range [][]string{{"me"}, {""}, {consumerAccount, providerAccount}} {
		_, err = op.WhoAmI(as(op.ctx, bad...), &apiv1.WhoAmIRequest{})
		refused(t, err, codes.InvalidArgument, "")
	}
	_, err = c.WhoAmI(as(c.ctx, providerAccount), &apiv1.WhoAmIRequest{})
	refused(t, err, codes.PermissionDenied, "")
	_, err = c.WhoAmI(as(c.ctx, consumerAccount), &apiv1.WhoAmIRequest{})
	refused(t, err, codes.PermissionDenied, "")
}
