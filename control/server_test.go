// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// serveDaemon runs a daemon on fakes with a state file and a socket, and connects to it.
func serveDaemon(t *testing.T, e *fakeEngine, opts Options) (*Daemon, *grpc.ClientConn) {
	t.Helper()
	dir := t.TempDir()
	opts.StateFile, opts.Socket, opts.Version = filepath.Join(dir, "state.yaml"), filepath.Join(dir, "run", "d.sock"), "v1"
	write(t, opts.StateFile, marshal(t, reference()), false)
	k := newFakeKernel()
	k.dial = noDial
	d, err := newDaemon(opts, e, k)
	if err != nil {
		t.Fatal(err)
	}
	start(t, d)
	conn, err := grpc.NewClient("unix:"+opts.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return d, conn
}

func TestStatus(t *testing.T) {
	id := dataplane.TargetID{Group: "web", Address: netip.MustParseAddrPort("10.0.1.31:8080")}
	e := &fakeEngine{t: t}
	e.routes = []dataplane.ProbeRoute{{TargetID: id, LoadBalancer: "nlb", Node: addr("10.0.1.20"), Via: addr("198.18.0.2")}}
	e.stats = dataplane.Stats{
		ENIs:    []dataplane.ENIStats{{Role: dataplane.RoleEndpoint, Owner: "vpce-0123456789abcdef0", Zone: "use1-az1", Address: addr("10.0.2.5")}},
		Targets: []dataplane.TargetStats{{TargetID: id, Zone: "use1-az1", Health: dataplane.Unhealthy, ActiveFlows: 3}},
		Ports:   []dataplane.PortStats{{ID: "consumer-a", Stats: port.Stats{RxPackets: 5}}},
		Flows:   dataplane.FlowStats{Active: 3, Max: 100},
		Workers: []dataplane.WorkerStats{{Turns: 9}},
	}
	e.stats.ENIs[0].Drops[dataplane.TooBig] = 2
	d, conn := serveDaemon(t, e, Options{})
	client := apiv1.NewInspectClient(conn)
	eventually(t, "the target's check fails", func() bool { return d.health.problem(id) != "" })
	s, err := client.Status(t.Context(), &apiv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case s.Version != "v1", s.AppliedRevision != 7, s.DesiredRevision != 7, s.Error != "", s.StateFile == "", s.Uptime.AsDuration() <= 0:
		t.Errorf("head: %v", s)
	case len(s.Ports) != 3 || !s.Ports[0].Open || s.Ports[0].RxPackets != 5 || s.Ports[0].Kind != "tun" || s.Ports[1].Kind != "tap":
		t.Errorf("ports: %v", s.Ports)
	case strings.Join(s.Ports[0].Offloads, ",") != "checksum,tso" || len(s.Ports[0].OffloadsOff) != 1:
		t.Errorf("offloads: %v, off %v", s.Ports[0].Offloads, s.Ports[0].OffloadsOff)
	case len(s.Enis) != 1 || s.Enis[0].Dropped != 2 || s.Enis[0].Role != "endpoint":
		t.Errorf("ENIs: %v", s.Enis)
	case len(s.Targets) != 1 || s.Targets[0].Health != "unhealthy" || s.Targets[0].Reason != "no network":
		t.Errorf("targets: %v", s.Targets)
	case len(s.Endpoints) != 1 || s.Endpoints[0].Addresses[0] != "10.0.2.5":
		t.Errorf("endpoints: %v", s.Endpoints)
	case len(s.LoadBalancers) != 1 || s.LoadBalancers[0].ListenerPorts[0] != 80:
		t.Errorf("load balancers: %v", s.LoadBalancers)
	case s.Flows.Active != 3 || len(s.Workers) != 1 || s.Workers[0].Turns != 9:
		t.Errorf("counters: %v %v", s.Flows, s.Workers)
	case s.Testing.GetIdleTimeout().AsDuration() != 2*time.Second:
		t.Errorf("testing: %v", s.Testing)
	}
	if s.StateFile == "" {
		t.Fatal("no state file")
	}
	write(t, s.StateFile, []byte("vpcs: 5\n"), true)
	eventually(t, "status tells of the refused file", func() bool {
		s, err := client.Status(t.Context(), &apiv1.StatusRequest{})
		return err == nil && s.AppliedRevision == 7 && s.DesiredRevision == 8 && strings.Contains(s.Error, "vpcs: is the single value")
	})
}

func TestFlows(t *testing.T) {
	e := &fakeEngine{t: t}
	for i := range 3 * flowBatch {
		f := dataplane.FlowInfo{
			Endpoint: "vpce-0123456789abcdef0", State: flow.Established, Idle: 1500,
			Client: netip.AddrPortFrom(addr("10.0.1.10"), uint16(i)),
			Target: netip.MustParseAddrPort("10.0.1.31:8080"),
		}
		if i%3 == 1 {
			f.Endpoint = ""
		}
		if i%3 == 2 {
			f.Target = netip.MustParseAddrPort("10.0.2.31:8081")
		}
		e.flows = append(e.flows, f)
	}
	_, conn := serveDaemon(t, e, Options{})
	client := apiv1.NewInspectClient(conn)
	for _, c := range []struct {
		req  *apiv1.FlowsRequest
		want int
	}{
		{&apiv1.FlowsRequest{}, 3 * flowBatch},
		{&apiv1.FlowsRequest{Limit: 5}, 5},
		{&apiv1.FlowsRequest{Limit: flowBatch}, flowBatch},
		{&apiv1.FlowsRequest{EndpointId: "vpce-0123456789abcdef0"}, 2 * flowBatch},
		{&apiv1.FlowsRequest{Target: "10.0.2.31"}, flowBatch},
		{&apiv1.FlowsRequest{Target: "10.0.2.31:8081", EndpointId: "vpce-0123456789abcdef0"}, flowBatch},
		{&apiv1.FlowsRequest{Target: "10.0.2.31:80"}, 0},
		{&apiv1.FlowsRequest{EndpointId: "x"}, 0},
	} {
		flows, err := receive(t, client, c.req)
		if err != nil || len(flows) != c.want {
			t.Errorf("%v: %d flows, want %d, error %v", c.req, len(flows), c.want, err)
		}
		if len(flows) > 0 && (flows[0].Idle.AsDuration() != 1500*time.Millisecond || flows[0].State != "established") {
			t.Errorf("a flow is %v", flows[0])
		}
	}
	if _, err := receive(t, client, &apiv1.FlowsRequest{Target: "web"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a target that is no address: %v", err)
	}
}

func receive(t *testing.T, client apiv1.InspectClient, req *apiv1.FlowsRequest) (flows []*apiv1.Flow, err error) {
	stream, err := client.Flows(t.Context(), req)
	if err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return flows, nil
		}
		if err != nil {
			return nil, err
		}
		flows = append(flows, m.Flows...)
	}
}

func TestDrops(t *testing.T) {
	e := &fakeEngine{t: t}
	e.stats.Drops[dataplane.TooBig] = 4
	e.stats.ENIs = []dataplane.ENIStats{{Owner: "nlb", VPC: "vpc-provider", Address: addr("10.0.1.20")}}
	e.stats.ENIs[0].Drops[dataplane.TooBig] = 3
	_, conn := serveDaemon(t, e, Options{})
	client := apiv1.NewInspectClient(conn)
	r, err := client.Drops(t.Context(), &apiv1.DropsRequest{ByEni: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Drops) != dataplane.NumReasons {
		t.Errorf("%d reasons, want all %d", len(r.Drops), dataplane.NumReasons)
	}
	if d := r.Drops[dataplane.TooBig]; d.Reason != "too-big" || d.Packets != 4 || d.Sentence == "" {
		t.Errorf("a drop is %v", d)
	}
	if len(r.Enis) != 1 || r.Enis[0].Owner != "nlb" || r.Enis[0].Packets != 3 {
		t.Errorf("by ENI: %v", r.Enis)
	}
	if r, err := client.Drops(t.Context(), &apiv1.DropsRequest{}); err != nil || len(r.Enis) != 0 {
		t.Errorf("ENIs were not asked for: %v, %v", r, err)
	}
}

func TestHealthAndReflection(t *testing.T) {
	_, conn := serveDaemon(t, &fakeEngine{t: t}, Options{})
	eventually(t, "the health service says SERVING", func() bool {
		r, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "isthmus.v1.Inspect"})
		return err == nil && r.Status == grpc_health_v1.HealthCheckResponse_SERVING
	})
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil || !strings.Contains(r.String(), "isthmus.v1.Inspect") {
		t.Errorf("services: %v, %v", r, err)
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "d.sock")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %v, error %v", info.Mode(), err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("beside a living daemon: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close() // as a daemon that was killed
	l, err = listenUnix(path)
	if err != nil {
		t.Fatalf("after a dead daemon: %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is still there")
	}
	write(t, path, []byte("text"), false)
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
}
