// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"pgregory.net/rapid"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// twin is what the API should have: what two consumers own, and how their endpoints stand with the provider.
type twin struct {
	vpcs      map[string]map[string]string // tags by name
	etags     map[string]string            // of VPCs, as they were seen last
	endpoints map[string]apiv1.EndpointState
	requests  map[string]string // what a request_id has made, by caller and id
}

// modelled is a twin beside a server.
type modelled struct {
	*bed
	twin
	service string
}

const (
	waiting   = apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE
	available = apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE
	rejected  = apiv1.EndpointState_ENDPOINT_STATE_REJECTED
)

var (
	consumers = map[uint32]string{consumer: consumerAccount, stranger: strangerAccount}
	anyone    = rapid.SampledFrom([]uint32{consumer, stranger})
	anyID     = rapid.SampledFrom([]string{"a", "b", "c"})
)

func vpcName(account, id string) string      { return "accounts/" + account + "/vpcs/" + id }
func endpointName(account, id string) string { return "accounts/" + account + "/endpoints/" + id }

func newModelled(t *testing.T) *modelled {
	m := &modelled{bed: newBed(t), twin: twin{
		vpcs: map[string]map[string]string{}, etags: map[string]string{}, endpoints: map[string]apiv1.EndpointState{}, requests: map[string]string{},
	}}
	p := m.as(provider)
	_, err := p.apply(t, providerManifest, func(r *apiv1.ApplyRequest) { r.Manifest.EndpointServices[0].AllowedPrincipals = []string{"*"} })
	m.must(err)
	s, err := p.GetEndpointService(p.ctx, &apiv1.GetEndpointServiceRequest{Name: "payments"})
	m.must(err)
	m.service = s.ServiceName
	for who := range consumers {
		_, err = m.as(who).apply(t, "vpcs: [{name: home, cidrs: [10.0.0.0/16]}]\nsubnets: [{name: a, vpc: home, cidr: 10.0.1.0/24, zone: use1-az1}]")
		m.must(err)
	}
	return m
}

// settle waits until the dataplane has done its part.
func (m *modelled) settle() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		set := m.server.snapshot()
		sub, err := m.keeper.Watch(set.Revision())
		m.must(err)
		if !slices.ContainsFunc(set.List(resource.KindEndpoint, ""), func(r resource.Resource) bool {
			state := r.(*resource.Endpoint).State
			return state == resource.Pending || state == resource.Deleting
		}) {
			return
		}
		_, err = sub.Next(ctx)
		m.must(err)
	}
}

func expect(t *rapid.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("%s: %v, the twin says %s", what, err, want)
	}
}

func (m *modelled) createVPC(t *rapid.T) {
	who, id := anyone.Draw(t, "who"), anyID.Draw(t, "id")
	request := rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "request")
	c, name := m.as(who), vpcName(consumers[who], id)
	want := codes.OK
	used, repeated := m.requests[fmt.Sprint(who, request)]
	switch {
	case repeated && used != name:
		want = codes.InvalidArgument
	case repeated && m.vpcs[name] == nil:
		want = codes.NotFound
	case !repeated && m.vpcs[name] != nil:
		want = codes.AlreadyExists
	}
	got, err := c.CreateVPC(c.ctx, &apiv1.CreateVPCRequest{VpcId: id, Vpc: &apiv1.VPC{Cidrs: []string{"10.0.0.0/16"}}, RequestId: request})
	expect(t, "creating "+name, err, want)
	if err != nil {
		return
	}
	if request != "" {
		m.requests[fmt.Sprint(who, request)] = name
	}
	if m.vpcs[name] == nil {
		m.vpcs[name] = map[string]string{}
	}
	m.etags[name] = got.Metadata.Etag
}

func (m *modelled) tagVPC(t *rapid.T) {
	who, owner, id := anyone.Draw(t, "who"), anyone.Draw(t, "owner"), anyID.Draw(t, "id")
	key, value := anyID.Draw(t, "key"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "value")
	stale := rapid.Bool().Draw(t, "stale")
	c, name := m.as(who), vpcName(consumers[owner], id)
	meta := &apiv1.Metadata{Tags: map[string]string{}, Etag: m.etags[name]}
	if value != "" {
		meta.Tags[key] = value
	}
	want := codes.OK
	switch {
	case who != owner, m.vpcs[name] == nil:
		want = codes.NotFound
	case stale:
		meta.Etag, want = "r1", codes.Aborted
	}
	got, err := c.UpdateVPC(c.ctx, &apiv1.UpdateVPCRequest{
		Vpc: &apiv1.VPC{Name: name, Metadata: meta}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"metadata.tags." + key}},
	})
	expect(t, "tagging "+name, err, want)
	if err != nil {
		return
	}
	delete(m.vpcs[name], key)
	if value != "" {
		m.vpcs[name][key] = value
	}
	m.etags[name] = got.Metadata.Etag
}

func (m *modelled) deleteVPC(t *rapid.T) {
	who, owner, id := anyone.Draw(t, "who"), anyone.Draw(t, "owner"), anyID.Draw(t, "id")
	c, name := m.as(who), vpcName(consumers[owner], id)
	want := codes.OK
	if who != owner || m.vpcs[name] == nil {
		want = codes.NotFound
	}
	_, err := c.DeleteVPC(c.ctx, &apiv1.DeleteVPCRequest{Name: name, Etag: m.etags[name]})
	expect(t, "deleting "+name, err, want)
	if err == nil {
		delete(m.vpcs, name)
	}
}

func (m *modelled) createEndpoint(t *rapid.T) {
	who, id := anyone.Draw(t, "who"), anyID.Draw(t, "id")
	c, name := m.as(who), endpointName(consumers[who], id)
	want := codes.OK
	if _, there := m.endpoints[name]; there {
		want = codes.AlreadyExists
	}
	_, err := c.CreateEndpoint(c.ctx, &apiv1.CreateEndpointRequest{EndpointId: id, Endpoint: &apiv1.Endpoint{
		Vpc: "home", ServiceName: m.service, Enis: []*apiv1.SubnetAddress{{Subnet: "a"}},
	}})
	expect(t, "creating "+name, err, want)
	if err == nil {
		m.endpoints[name] = waiting
	}
}

func (m *modelled) deleteEndpoint(t *rapid.T) {
	who, owner, id := anyone.Draw(t, "who"), anyone.Draw(t, "owner"), anyID.Draw(t, "id")
	c, name := m.as(who), endpointName(consumers[owner], id)
	want := codes.OK
	if _, there := m.endpoints[name]; !there || who != owner {
		want = codes.NotFound
	}
	_, err := c.DeleteEndpoint(c.ctx, &apiv1.DeleteEndpointRequest{Name: name})
	expect(t, "deleting "+name, err, want)
	if err == nil {
		delete(m.endpoints, name)
	}
	m.settle()
}

// decide accepts or rejects one endpoint, as the provider or as somebody who is not.
func (m *modelled) decide(t *rapid.T, accept bool) {
	if len(m.endpoints) == 0 {
		t.Skip("no endpoints")
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.endpoints))).Draw(t, "endpoint")
	who := rapid.SampledFrom([]uint32{provider, provider, consumer}).Draw(t, "who")
	op, c := m.as(root), m.as(who)
	e, err := op.GetEndpoint(op.ctx, &apiv1.GetEndpointRequest{Name: name})
	m.must(err)
	service, uids := "accounts/"+providerAccount+"/endpointServices/payments", []string{e.Metadata.Uid}
	from, to := map[apiv1.EndpointState]bool{waiting: true, available: true}, rejected
	if accept {
		from, to = map[apiv1.EndpointState]bool{waiting: true, rejected: true}, available
		_, err = c.AcceptConnections(c.ctx, &apiv1.AcceptConnectionsRequest{Service: service, EndpointUids: uids})
	} else {
		_, err = c.RejectConnections(c.ctx, &apiv1.RejectConnectionsRequest{Service: service, EndpointUids: uids})
	}
	want := codes.OK
	switch {
	case who != provider:
		want = codes.NotFound
	case !from[m.endpoints[name]]:
		want = codes.FailedPrecondition
	}
	expect(t, fmt.Sprintf("deciding (%t) about %s", accept, name), err, want)
	if err == nil {
		m.endpoints[name] = to
	}
	m.settle()
}

func (m *modelled) restart(*rapid.T) {
	m.stop()
	m.start()
	m.settle()
}

// check compares everything there is, as each of the parties sees it.
func (m *modelled) check(t *rapid.T) {
	connections := map[string]apiv1.EndpointState{}
	for who, account := range consumers {
		c := m.as(who)
		vpcs := map[string]map[string]string{}
		for token := ""; ; {
			got, err := c.ListVPCs(c.ctx, &apiv1.ListVPCsRequest{PageSize: 2, PageToken: token})
			m.must(err)
			for _, v := range got.Vpcs {
				vpcs[v.Name] = v.Metadata.Tags
			}
			if token = got.NextPageToken; token == "" {
				break
			}
		}
		delete(vpcs, vpcName(account, "home"))
		for name, tags := range m.vpcs {
			if seen, ok := vpcs[name]; name[len("accounts/"):len("accounts/")+12] == account && (!ok || !maps.Equal(seen, tags)) {
				t.Fatalf("%s has the tags %v, the twin says %v", name, seen, tags)
			}
			delete(vpcs, name)
		}
		if len(vpcs) > 0 {
			t.Fatalf("the twin knows nothing of %v", vpcs)
		}
		got, err := c.ListEndpoints(c.ctx, &apiv1.ListEndpointsRequest{})
		m.must(err)
		for _, e := range got.Endpoints {
			connections[e.Metadata.Uid] = m.endpoints[e.Name]
			if want, ok := m.endpoints[e.Name]; !ok || e.State != want {
				t.Fatalf("%s is %s, the twin says %s", e.Name, e.State, want)
			}
		}
	}
	if len(connections) != len(m.endpoints) {
		t.Fatalf("there are %d endpoints, the twin says %d", len(connections), len(m.endpoints))
	}
	p := m.as(provider)
	got, err := p.ListConnections(p.ctx, &apiv1.ListConnectionsRequest{})
	m.must(err)
	for _, c := range got.Connections {
		if connections[c.EndpointUid] != c.State {
			t.Fatalf("connection %v, the twin says %s", c, connections[c.EndpointUid])
		}
	}
	if len(got.Connections) != len(connections) {
		t.Fatalf("the provider sees %d connections, the twin says %d", len(got.Connections), len(connections))
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := newModelled(t)
		defer m.stop()
		r.Repeat(map[string]func(*rapid.T){
			"create VPC":      m.createVPC,
			"tag VPC":         m.tagVPC,
			"delete VPC":      m.deleteVPC,
			"create endpoint": m.createEndpoint,
			"delete endpoint": m.deleteEndpoint,
			"accept":          func(t *rapid.T) { m.decide(t, true) },
			"reject":          func(t *rapid.T) { m.decide(t, false) },
			"restart":         m.restart,
			"":                m.check,
		})
	})
}
