// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// methods calls f with every method of the services here.
func methods(f func(protoreflect.MethodDescriptor)) {
	for _, file := range []protoreflect.FileDescriptor{
		apiv1.File_control_api_v1_accounts_proto, apiv1.File_control_api_v1_networks_proto, apiv1.File_control_api_v1_loadbalancing_proto,
		apiv1.File_control_api_v1_endpoints_proto, apiv1.File_control_api_v1_apply_proto,
	} {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				f(file.Services().Get(i).Methods().Get(j))
			}
		}
	}
}

func fullName(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

func newMessage(t testing.TB, d protoreflect.MessageDescriptor) proto.Message {
	typ, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return typ.New().Interface()
}

// call calls a method of any form with one request, and returns how it ends.
func call(t testing.TB, ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, request proto.Message) error {
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, fullName(m), request, newMessage(t, m.Output()))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, fullName(m))
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(request), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.RecvMsg(newMessage(t, m.Output()))
}

// owned has a resource of each kind that the provider or the consumer owns, as operators see it.
func (b *bed) owned() map[string]message {
	b.t.Helper()
	found := map[string]message{}
	show := b.server.presenter(b.server.snapshot())
	for r := range b.server.snapshot().All() {
		if account := r.Metadata().Account; account == strangerAccount || account == consumerAccount && r.Metadata().Kind != resource.KindEndpoint {
			continue
		}
		m := show.message(r).(message)
		found[string(m.ProtoReflect().Descriptor().Name())] = m
	}
	return found
}

// steal fills a request with the names of what others own.
func steal(t testing.TB, m protoreflect.MethodDescriptor, owned map[string]message) proto.Message {
	request := newMessage(t, m.Input())
	fields := request.ProtoReflect()
	set := func(name string, v any) {
		if f := fields.Descriptor().Fields().ByName(protoreflect.Name(name)); f != nil {
			fields.Set(f, protoreflect.ValueOf(v))
		}
	}
	kind := string(m.Name())
	for _, prefix := range []string{"Create", "Get", "List", "Update", "Delete", "Deregister", "Register"} {
		kind = strings.TrimPrefix(kind, prefix)
	}
	if strings.HasSuffix(kind, "Targets") {
		kind = "TargetGroup"
	}
	set("parent", "accounts/"+providerAccount)
	if one := owned[kind]; one != nil {
		set("name", one.GetName())
		if f := fields.Descriptor().Fields().ByName("update_mask"); f != nil || strings.HasPrefix(string(m.Name()), "Create") {
			copied := proto.Clone(one).ProtoReflect()
			holder := fieldFor(fields.Descriptor(), copied.Descriptor())
			fields.Set(holder, protoreflect.ValueOfMessage(copied))
			set(string(holder.Name())+"_id", "stolen")
		}
	}
	set("service", owned["EndpointService"].GetName())
	switch r := request.(type) {
	case *apiv1.RegisterTargetsRequest:
		r.Targets = []*apiv1.Target{{Address: "10.0.1.101", Port: 80, ZoneId: "use1-az1"}}
	case *apiv1.DeregisterTargetsRequest:
		r.Targets = owned["TargetGroup"].(*apiv1.TargetGroup).Targets
	case *apiv1.AcceptConnectionsRequest:
		r.EndpointUids = []string{owned["Endpoint"].GetMetadata().GetUid()}
	case *apiv1.RejectConnectionsRequest:
		r.EndpointUids = []string{owned["Endpoint"].GetMetadata().GetUid()}
	case *apiv1.ApplyRequest:
		r.Manifest = &apiv1.Manifest{Vpcs: []*apiv1.VPC{owned["VPC"].(*apiv1.VPC)}}
	case *apiv1.ImportRequest:
		r.Manifest = &apiv1.Manifest{Vpcs: []*apiv1.VPC{owned["VPC"].(*apiv1.VPC)}}
	case *apiv1.ExportRequest:
		r.Accounts = []string{providerAccount}
	}
	return request
}

// harmless are the methods that name nobody's resources.
var harmless = map[string]bool{"WaitApplied": true, "WhoAmI": true}

func TestEveryMethodRefusesStrangers(t *testing.T) {
	b := newBed(t)
	b.both()
	b.applied()
	owned, before := b.owned(), b.keeper.Status().Desired
	if len(owned) != len(resource.Kinds()) {
		t.Fatalf("the bed has %d kinds of resources of %d", len(owned), len(resource.Kinds()))
	}
	c := b.as(stranger)
	methods(func(m protoreflect.MethodDescriptor) {
		if harmless[string(m.Name())] {
			return
		}
		t.Run(string(m.Name()), func(t *testing.T) {
			err := call(t, c.ctx, c.conn, m, steal(t, m, owned))
			if code := status.Code(err); code != codes.NotFound && code != codes.PermissionDenied {
				t.Errorf("a stranger gets %v", err)
			}
			if text := status.Convert(err).Message(); strings.Contains(text, owned["Endpoint"].GetMetadata().GetUid()) && !strings.Contains(string(m.Name()), "Connections") {
				t.Errorf("a stranger is told %q", text)
			}
		})
	})
	if now := b.keeper.Status().Desired; now != before {
		t.Errorf("strangers have changed revision %d to %d", before, now)
	}
}

// A request that strangers are refused must be a good one, or the test above shows nothing.
func TestOwnersAreNotRefused(t *testing.T) {
	methods(func(m protoreflect.MethodDescriptor) {
		if harmless[string(m.Name())] || m.IsStreamingClient() {
			return
		}
		t.Run(string(m.Name()), func(t *testing.T) {
			b := newBed(t)
			b.both()
			b.applied()
			op := b.as(root)
			request := steal(t, m, b.owned())
			switch r := request.(type) {
			case *apiv1.ApplyRequest:
				r.Manifest.Account = providerAccount
			case *apiv1.CreateAccountRequest:
				r.AccountId = "444444444444"
			}
			switch code := status.Code(call(t, op.ctx, op.conn, m, request)); code {
			case codes.OK, codes.FailedPrecondition, codes.AlreadyExists, codes.InvalidArgument, codes.ResourceExhausted:
			default:
				t.Errorf("an operator gets %s", code)
			}
		})
	})
}

func TestNobodysListsAreEmpty(t *testing.T) {
	b := newBed(t)
	b.both()
	c := b.as(stranger)
	methods(func(m protoreflect.MethodDescriptor) {
		if !strings.HasPrefix(string(m.Name()), "List") || m.Name() == "ListAccounts" {
			return
		}
		for _, parent := range []string{"", "accounts/-"} {
			if parent != "" && m.Name() == "ListOffers" {
				continue // is one account's
			}
			request, reply := newMessage(t, m.Input()), newMessage(t, m.Output())
			request.ProtoReflect().Set(m.Input().Fields().ByName("parent"), protoreflect.ValueOfString(parent))
			err := c.conn.Invoke(c.ctx, fullName(m), request, reply)
			if err != nil {
				t.Errorf("%s of %q: %v", m.Name(), parent, err)
			} else if proto.Size(reply) > 0 {
				t.Errorf("%s of %q: %v", m.Name(), parent, reply)
			}
		}
	})
	got, err := c.ListAccounts(c.ctx, &apiv1.ListAccountsRequest{})
	b.must(err)
	if len(got.Accounts) != 1 || got.Accounts[0].Name != "accounts/"+strangerAccount {
		t.Errorf("a stranger sees %v", got.Accounts)
	}
}

func TestEveryMethodRefusesWhoIsNobody(t *testing.T) {
	b := newBed(t)
	nobody := b.dial(UnixPeer{UID: 4321})
	methods(func(m protoreflect.MethodDescriptor) {
		if err := call(t, nobody.ctx, nobody.conn, m, newMessage(t, m.Input())); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", m.Name(), err)
		}
	})
}

// Requests without anything, and with what does not belong there, are refused with a reason and do not stop the server.
func TestEveryMethodTakesEmptyRequests(t *testing.T) {
	b := newBed(t)
	for _, who := range []uint32{root, provider} {
		c := b.as(who)
		methods(func(m protoreflect.MethodDescriptor) {
			switch err := call(t, c.ctx, c.conn, m, newMessage(t, m.Input())); status.Code(err) {
			case codes.Internal, codes.Unknown, codes.Unavailable, codes.Unimplemented:
				t.Errorf("%s: %v", m.Name(), err)
			}
		})
	}
}

func TestConnectionsAndOffers(t *testing.T) {
	b := newBed(t)
	service := b.both()
	p, c, s := b.as(provider), b.as(consumer), b.as(stranger)
	offers, err := c.ListOffers(c.ctx, &apiv1.ListOffersRequest{})
	b.must(err)
	if len(offers.Offers) != 1 || offers.Offers[0].ServiceName != service || len(offers.Offers[0].ZoneIds) != 1 || !offers.Offers[0].AcceptanceRequired {
		t.Errorf("offers %v", offers.Offers)
	}
	none, err := s.ListOffers(s.ctx, &apiv1.ListOffersRequest{ServiceName: service})
	b.must(err)
	if len(none.Offers) != 0 {
		t.Errorf("a stranger is offered %v", none.Offers)
	}
	endpoint := b.endpoint()
	for _, parent := range []string{"", "accounts/" + providerAccount, "accounts/" + providerAccount + "/endpointServices/payments"} {
		got, err := p.ListConnections(p.ctx, &apiv1.ListConnectionsRequest{Parent: parent})
		b.must(err)
		if len(got.Connections) != 1 {
			t.Fatalf("connections of %q: %v", parent, got.Connections)
		}
		if got := got.Connections[0]; got.EndpointUid != endpoint.Metadata.Uid || got.Owner != consumerAccount ||
			got.Principal != "arn:aws:iam::222222222222:user/ann" || got.State != apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE {
			t.Errorf("connection %v", got)
		}
	}
	// The provider sees no more of the endpoint than its connection, and may not delete it.
	_, err = p.GetEndpoint(p.ctx, &apiv1.GetEndpointRequest{Name: endpoint.Name})
	refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
	_, err = p.DeleteEndpoint(p.ctx, &apiv1.DeleteEndpointRequest{Name: endpoint.Name})
	refused(t, err, codes.NotFound, "")
	uids := []string{endpoint.Metadata.Uid}
	accept := &apiv1.AcceptConnectionsRequest{Service: "payments", EndpointUids: uids, RequestId: "accept"}
	accepted, err := p.AcceptConnections(p.ctx, accept)
	b.must(err)
	if len(accepted.Connections) != 1 || accepted.Revision == 0 {
		t.Errorf("accepted %v", accepted)
	}
	b.becomes(apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE)
	if e := b.endpoint(); e.Metadata.Problem != "" || e.Enis[0].ZoneId != "use1-az1" {
		t.Errorf("accepted: %v", e)
	}
	again, err := p.AcceptConnections(p.ctx, accept)
	b.must(err)
	if len(again.Connections) != 1 || again.Revision != accepted.Revision {
		t.Errorf("accepted again: %v", again)
	}
	_, err = p.RejectConnections(p.ctx, &apiv1.RejectConnectionsRequest{Service: "payments", EndpointUids: uids})
	b.must(err)
	if e := b.endpoint(); e.State != apiv1.EndpointState_ENDPOINT_STATE_REJECTED {
		t.Errorf("rejected: %v", e)
	}
	_, err = p.RejectConnections(p.ctx, &apiv1.RejectConnectionsRequest{Service: "payments"})
	refused(t, err, codes.InvalidArgument, "INVALID_REQUEST")
	_, err = p.RejectConnections(p.ctx, &apiv1.RejectConnectionsRequest{Service: "payments", EndpointUids: []string{"vpce-0"}})
	refused(t, err, codes.NotFound, "ENDPOINT_NOT_FOUND")
}

func TestTargets(t *testing.T) {
	b := newBed(t)
	b.both()
	p := b.as(provider)
	g, err := p.RegisterTargets(p.ctx, &apiv1.RegisterTargetsRequest{Name: "web", Targets: []*apiv1.Target{{Address: "10.0.1.101", Port: 80, ZoneId: "use1-az1"}}})
	b.must(err)
	if len(g.Targets) != 2 {
		t.Errorf("registered: %v", g.Targets)
	}
	g, err = p.DeregisterTargets(p.ctx, &apiv1.DeregisterTargetsRequest{Name: "web", Targets: []*apiv1.Target{{Address: "10.0.1.101", Port: 80}}})
	b.must(err)
	if len(g.Targets) != 1 || len(g.DrainingTargets) != 1 {
		t.Errorf("deregistered: %v", g)
	}
	_, err = p.RegisterTargets(p.ctx, &apiv1.RegisterTargetsRequest{Name: "web", Targets: []*apiv1.Target{{Address: "x", Port: 80}}})
	refused(t, err, codes.InvalidArgument, "")
	_, err = p.RegisterTargets(p.ctx, &apiv1.RegisterTargetsRequest{Name: "none", Targets: g.Targets})
	refused(t, err, codes.NotFound, "")
}

func TestVisible(t *testing.T) {
	b := newBed(t)
	b.both()
	endpoint := b.endpoint().Metadata.Uid
	p := b.as(provider)
	s, err := p.GetEndpointService(p.ctx, &apiv1.GetEndpointServiceRequest{Name: "payments"})
	b.must(err)
	for _, test := range []struct {
		name              string
		actor             resource.Actor
		endpoint, service bool
	}{
		{"operator", resource.Actor{Operator: true}, true, true},
		{"consumer", resource.Actor{Account: consumerAccount}, true, false},
		{"provider", resource.Actor{Account: providerAccount}, false, true},
		{"nobody", resource.Actor{}, false, false},
	} {
		visible := b.server.Visible(withActor(context.Background(), test.actor))
		for range 2 {
			if visible(endpoint) != test.endpoint || visible(s.Metadata.Uid) != test.service || visible("vpce-0") != test.actor.Operator {
				t.Errorf("%s sees the endpoint: %t, the service: %t", test.name, visible(endpoint), visible(s.Metadata.Uid))
			}
		}
	}
}

func TestNamesOfOperators(t *testing.T) {
	b := newBed(t)
	b.both()
	op := b.as(root)
	e := b.endpoint()
	for _, name := range []string{e.Name, e.Metadata.Uid} {
		got, err := op.GetEndpoint(op.ctx, &apiv1.GetEndpointRequest{Name: name})
		b.must(err)
		if got.Name != e.Name {
			t.Errorf("%s names %s", name, got.Name)
		}
	}
	_, err := op.GetEndpoint(op.ctx, &apiv1.GetEndpointRequest{Name: "pay"})
	refused(t, err, codes.InvalidArgument, "NAME_INVALID")
	if _, err := codec.ParseName("pay", resource.KindEndpoint, ""); err == nil {
		t.Error("a name of nobody's is taken")
	}
}
