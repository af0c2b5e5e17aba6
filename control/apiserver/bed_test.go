// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Callers of the tests, by uid: an operator, a provider, a consumer and somebody else.
const (
	root     uint32 = 0
	provider uint32 = 1001
	consumer uint32 = 1002
	stranger uint32 = 1003

	providerAccount = "111111111111"
	consumerAccount = "222222222222"
	strangerAccount = "333333333333"
)

func uid(n uint32) *uint32 { return &n }

var testCallers = []Caller{
	{UID: uid(provider), Account: providerAccount},
	{UID: uid(consumer), Account: consumerAccount, Principal: "arn:aws:iam::222222222222:user/ann"},
	{UID: uid(stranger), Account: strangerAccount},
}

// patience is how long something may take that must happen.
const patience = 20 * time.Second

// dataplane accepts what it is told, or refuses it.
type dataplane struct {
	mu     sync.Mutex
	refuse error
	block  chan struct{} // nil: does not block
}

func (d *dataplane) Apply(ctx context.Context, _ *vpc.State) error {
	d.mu.Lock()
	refuse, block := d.refuse, d.block
	d.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return refuse
}

// bed is a server over a store, and its clients.
type bed struct {
	t         testing.TB
	store     store.Store
	keeper    *keeper.Keeper
	server    *Server
	dataplane *dataplane
	clients   map[uint32]*client
	end       []func()
}

func newStore(t testing.TB) store.Store {
	st := store.NewMemory(store.Options{})
	t.Cleanup(func() { st.Close() })
	return st
}

// newBed has the accounts of the callers.
func newBed(t testing.TB, change ...func(*Options)) *bed {
	b := &bed{t: t, store: newStore(t), dataplane: &dataplane{}}
	b.start(change...)
	t.Cleanup(b.stop)
	op := b.as(root)
	for _, account := range []string{providerAccount, consumerAccount, strangerAccount} {
		_, err := op.CreateAccount(op.ctx, &apiv1.CreateAccountRequest{AccountId: account, Account: &apiv1.Account{}})
		b.must(err)
	}
	return b
}

// start opens a keeper over the store, and a server over it.
func (b *bed) start(change ...func(*Options)) {
	k, err := keeper.Open(context.Background(), b.store, keeper.Options{})
	b.must(err)
	o := Options{Keeper: k, Callers: testCallers, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	b.must(err)
	b.keeper, b.server, b.clients = k, s, map[uint32]*client{}
	b.run(func(ctx context.Context) { b.must(k.Run(ctx, b.dataplane)) })
	b.run(func(ctx context.Context) { b.must(s.Run(ctx)) })
}

// run runs a task until stop.
func (b *bed) run(task func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		task(ctx)
	}()
	b.end = append(b.end, func() { cancel(); <-done })
}

// stop ends everything but the store.
func (b *bed) stop() {
	for _, f := range slices.Backward(b.end) {
		f()
	}
	b.end = nil
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// fixedPeer is transport credentials of connections that all come from one user.
type fixedPeer struct {
	credentials.TransportCredentials
	peer UnixPeer
}

func (f fixedPeer) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, f.peer, nil
}

func (f fixedPeer) Clone() credentials.TransportCredentials { return f }

// client is the API as one caller has it.
type client struct {
	ctx  context.Context
	conn *grpc.ClientConn
	apiv1.AccountsClient
	apiv1.NetworksClient
	apiv1.LoadBalancingClient
	apiv1.EndpointsClient
	apiv1.ResourcesClient
}

// as connects a user.
func (b *bed) as(uid uint32) *client {
	if c := b.clients[uid]; c != nil {
		return c
	}
	b.clients[uid] = b.dial(UnixPeer{UID: uid})
	return b.clients[uid]
}

func (b *bed) dial(p UnixPeer, options ...grpc.DialOption) *client {
	b.t.Helper()
	listener := bufconn.Listen(1 << 16)
	p.SecurityLevel = credentials.PrivacyAndIntegrity
	g := grpc.NewServer(append(b.server.ServerOptions(), grpc.Creds(fixedPeer{unixCredentials{}, p}))...)
	b.server.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:test", append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	}, options...)...)
	b.must(err)
	b.end = append(b.end, func() {
		conn.Close()
		g.Stop()
		<-done
	})
	return newClient(b.t, conn)
}

func newClient(t testing.TB, conn *grpc.ClientConn) *client {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return &client{
		ctx: ctx, conn: conn, AccountsClient: apiv1.NewAccountsClient(conn), NetworksClient: apiv1.NewNetworksClient(conn),
		LoadBalancingClient: apiv1.NewLoadBalancingClient(conn), EndpointsClient: apiv1.NewEndpointsClient(conn),
		ResourcesClient: apiv1.NewResourcesClient(conn),
	}
}

// applied waits until the dataplane runs what there is.
func (b *bed) applied() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b.must(b.keeper.WaitApplied(ctx, b.keeper.Status().Desired))
}

// apply applies a manifest in YAML.
func (c *client) apply(t testing.TB, text string, change ...func(*apiv1.ApplyRequest)) (*apiv1.ApplyResponse, error) {
	t.Helper()
	m := &apiv1.Manifest{}
	if err := codec.UnmarshalYAML("test.yaml", []byte(text), m); err != nil {
		t.Fatal(err)
	}
	r := &apiv1.ApplyRequest{Manifest: m}
	for _, f := range change {
		f(r)
	}
	return c.Apply(c.ctx, r)
}

// providerManifest and consumerManifest are one of each kind, but for accounts and what GWLB endpoints need.
const providerManifest = `
name: provider
vpcs: [{name: shop, cidrs: [10.0.0.0/16]}]
subnets: [{name: a, vpc: shop, cidr: 10.0.1.0/24, zone: use1-az1}]
security_groups: [{name: instances, vpc: shop, ingress: [{protocol: tcp, from_port: 80, to_port: 80, cidrs: [10.0.0.0/8]}]}]
target_groups: [{name: web, vpc: shop, targets: [{address: 10.0.1.100, port: 8080, zone_id: use1-az1}]}]
load_balancers: [{name: front, vpc: shop, nodes: [{subnet: a}], listeners: [{port: 80, target_group: web}]}]
endpoint_services: [{name: payments, load_balancers: [front], allowed_principals: ["arn:aws:iam::222222222222:root"]}]
attachments: [{name: a, subnet: a, netns: /run/netns/provider, namespace: {addresses: [10.0.1.100/24]}}]
route_tables: [{name: main, vpc: shop}]
`

const consumerManifest = `
name: consumer
vpcs: [{name: home, cidrs: [10.0.0.0/16]}]
subnets: [{name: a, vpc: home, cidr: 10.0.1.0/24, zone: use1-az1}]
security_groups: [{name: open, vpc: home, ingress: [{protocol: "-1", cidrs: [0.0.0.0/0]}]}]
endpoints: [{name: pay, vpc: home, service_name: SERVICE, enis: [{subnet: a}], security_groups: [open]}]
attachments: [{name: a, subnet: a, netns: /run/netns/consumer, namespace: {addresses: [10.0.1.100/24]}}]
`

// both applies the two manifests, and returns the name of the service.
func (b *bed) both() (service string) {
	b.t.Helper()
	p, c := b.as(provider), b.as(consumer)
	_, err := p.apply(b.t, providerManifest)
	b.must(err)
	s, err := p.GetEndpointService(p.ctx, &apiv1.GetEndpointServiceRequest{Name: "payments"})
	b.must(err)
	_, err = c.apply(b.t, consumerManifest, func(r *apiv1.ApplyRequest) { r.Manifest.Endpoints[0].ServiceName = s.ServiceName })
	b.must(err)
	return s.ServiceName
}

// endpoint is the consumer's.
func (b *bed) endpoint() *apiv1.Endpoint {
	b.t.Helper()
	c := b.as(consumer)
	e, err := c.GetEndpoint(c.ctx, &apiv1.GetEndpointRequest{Name: "pay"})
	b.must(err)
	return e
}

// becomes waits until the consumer's endpoint is in a state.
func (b *bed) becomes(want apiv1.EndpointState) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		sub, err := b.keeper.Watch(b.server.snapshot().Revision())
		b.must(err)
		if b.endpoint().State == want {
			return
		}
		_, err = sub.Next(ctx)
		b.must(err)
	}
}

// refused checks that an error has a code and, if one is given, a reason.
func refused(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	if info := detail[*errdetails.ErrorInfo](err); reason != "" && (info == nil || info.Reason != reason || info.Domain != ErrorDomain) {
		t.Fatalf("got the details %v of %v, want the reason %s", info, err, reason)
	}
}

// detail is the detail of a type that an error has, or nil.
func detail[D any](err error) (none D) {
	for _, d := range status.Convert(err).Details() {
		if found, ok := d.(D); ok {
			return found
		}
	}
	return none
}

func TestHealthWaitsForTheDataplane(t *testing.T) {
	b := newBed(t)
	b.both()
	b.applied()
	b.stop()
	b.dataplane.block = make(chan struct{})
	b.start()
	health := grpc_health_v1.NewHealthClient(b.dial(UnixPeer{UID: 9999}).conn) // asking needs no account
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, service := range services() {
		got, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		b.must(err)
		if got.Status != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("%q is %s before the dataplane runs anything", service, got.Status)
		}
	}
	watch, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "isthmus.v1.Endpoints"})
	b.must(err)
	close(b.dataplane.block)
	for {
		got, err := watch.Recv()
		b.must(err)
		if got.Status == grpc_health_v1.HealthCheckResponse_SERVING {
			return
		}
	}
}

func TestInternalErrorsAreLoggedAndNotTold(t *testing.T) {
	b := newBed(t)
	err := b.server.toStatus(context.Background(), "/m", errors.New("secret"))
	if status.Code(err) != codes.Internal || status.Convert(err).Message() == "secret" {
		t.Error(err)
	}
	for err, want := range map[error]codes.Code{
		context.DeadlineExceeded: codes.DeadlineExceeded,
		keeper.ErrCompacted:      codes.OutOfRange,
		store.ErrClosed:          codes.Unavailable,
		store.ErrInvalid:         codes.InvalidArgument,
	} {
		if got := status.Code(b.server.toStatus(context.Background(), "/m", err)); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}
