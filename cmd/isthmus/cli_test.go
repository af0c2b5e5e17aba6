// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// fakeDaemon answers with what it was given.
type fakeDaemon struct {
	apiv1.UnimplementedInspectServer
	status *apiv1.StatusResponse
	flows  []*apiv1.FlowsResponse
	drops  *apiv1.DropsResponse
	asked  *apiv1.FlowsRequest
}

func (f *fakeDaemon) Status(context.Context, *apiv1.StatusRequest) (*apiv1.StatusResponse, error) {
	return f.status, nil
}

func (f *fakeDaemon) Flows(r *apiv1.FlowsRequest, out grpc.ServerStreamingServer[apiv1.FlowsResponse]) error {
	f.asked = r
	if r.Target == "wrong" {
		return status.Error(codes.InvalidArgument, "that is no address")
	}
	for _, m := range f.flows {
		if err := out.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeDaemon) Drops(context.Context, *apiv1.DropsRequest) (*apiv1.DropsResponse, error) {
	return f.drops, nil
}

// listen serves a fake daemon on a socket of the test's.
func listen(t *testing.T, f *fakeDaemon) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	apiv1.RegisterInspectServer(g, f)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	return socket
}

// execute runs a command line.
func execute(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return code, out.String(), err.String()
}

func TestExitCodes(t *testing.T) {
	socket := listen(t, &fakeDaemon{status: &apiv1.StatusResponse{}})
	missing := filepath.Join(t.TempDir(), "d.sock")
	for _, c := range []struct {
		line string
		code int
		want string // on stderr, or on stdout when the code is 0
	}{
		{"version", exitOK, "isthmus "},
		{"--help", exitOK, "Providers and consumers:"},
		{"help exit-codes", exitOK, "no daemon answers"},
		{"status --socket " + socket, exitOK, "revision 0 in force"},
		{"flows --socket " + socket, exitOK, "ENDPOINT"},
		{"nonsense", exitUsage, `unknown command "nonsense"`},
		{"status more", exitUsage, `unknown command "more"`},
		{"status --colour", exitUsage, "unknown flag: --colour"},
		{"status -o xml", exitUsage, "choose one of: json or table"},
		{"daemon -f x --store y", exitUsage, "leave one out"},
		{"daemon -f x --offloads some", exitUsage, "choose on, no-tso, no-uso, off or plain"},
		{"daemon -f x --log loud", exitUsage, "choose one of: json or text"},
		{"status --socket " + missing, exitNoDaemon, "start one with: isthmus daemon --socket " + missing},
		{"drops --socket " + missing, exitNoDaemon, "there is no socket"},
		{"flows --socket " + socket + " --target wrong", exitInvalid, "isthmus: that is no address\n"},
	} {
		code, stdout, stderr := execute(strings.Fields(c.line)...)
		out := stderr
		if c.code == exitOK {
			out = stdout
		}
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("isthmus %s: exit code %d, want %d, and %q in:\n%s%s", c.line, code, c.code, c.want, stdout, stderr)
		}
	}
}

func TestStatusOutput(t *testing.T) {
	f := &fakeDaemon{status: &apiv1.StatusResponse{
		Version: "v1", Uptime: durationpb.New(90 * time.Second), StateFile: "/etc/state.yaml", AppliedRevision: 7, DesiredRevision: 8,
		Error:   "state.yaml:1:2: a: b\nstate.yaml:3:4: c: d",
		Testing: &statev1.Testing{IdleTimeout: durationpb.New(2 * time.Second)},
		Ports: []*apiv1.PortStatus{
			{Id: "consumer", Kind: "tun", Open: true, Queues: 2, Offloads: []string{"checksum", "tso"}, OffloadsOff: []string{"USO: no"}, TxRefused: 1, RxInvalid: 2},
			{Id: "provider", Kind: "tap", Error: "no such namespace"},
			{Id: "router", Kind: "tun", Open: true, Warnings: []string{"rp_filter is 1", "ip_forward is 0"}},
		},
		Enis:    []*apiv1.ENIStatus{{Role: "endpoint", Owner: "vpce-0", Address: "10.0.0.5"}, {Role: "probe", Owner: "nlb", Address: "198.18.0.2"}},
		Targets: []*apiv1.TargetStatus{{Address: "10.0.0.9:80", TargetGroupId: "web", Health: "unhealthy", Draining: true, Reason: "connection refused"}},
		Endpoints: []*apiv1.EndpointStatus{
			{Id: "vpce-0", ServiceId: "vpce-svc-0", Addresses: []string{"10.0.0.5", "10.0.1.5"}, Type: "Interface"},
			{Id: "vpce-1", ServiceId: "vpce-svc-1", Addresses: []string{"10.0.9.5"}, Type: "GatewayLoadBalancer"},
		},
		LoadBalancers: []*apiv1.LoadBalancerStatus{
			{Id: "nlb", VpcId: "vpc-p", ListenerPorts: []uint32{80, 443}, Type: "network"}, {Id: "gwlb", VpcId: "vpc-p", Type: "gateway", Mtu: 8500},
		},
		Flows:   &apiv1.FlowCounters{Active: 3, Max: 100},
		Workers: []*apiv1.WorkerStatus{{Turns: 5}},
	}}
	socket := listen(t, f)
	_, out, _ := execute("status", "--socket", socket)
	for _, want := range []string{
		"isthmus v1, up 1m30s, revision 7 in force\nconfiguration /etc/state.yaml\n",
		"REFUSED: revision 8 is not in force:\n  state.yaml:1:2: a: b\n  state.yaml:3:4: c: d\n",
		"TESTING: timers are overridden: idle_timeout 2s\n",
		"flows 3 of 100;",
		"checksum,tso",
		"consumer: offloads off: USO: no",
		"provider: no such namespace",
		"CLOSED",
		"unhealthy,draining",
		"connection refused",
		"10.0.0.5,10.0.1.5",
		"nlb            network  vpc-p  false       80 443     -\n",
		"gwlb           gateway  vpc-p  false       all        8500\n",
		"vpce-1    GatewayLoadBalancer  vpce-svc-1",
		"router: WARNING: rp_filter is 1\n",
		"router: WARNING: ip_forward is 0\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "198.18.0.2") {
		t.Error("the table shows where health checks enter")
	}
	_, out, _ = execute("status", "--socket", socket, "-o", "json")
	var got struct {
		AppliedRevision string `json:"applied_revision"`
		Ports           []struct {
			ID   string
			Open *bool
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	if got.AppliedRevision != "7" || len(got.Ports) != 3 || got.Ports[1].Open == nil || *got.Ports[1].Open {
		t.Errorf("the JSON says %+v:\n%s", got, out)
	}
}

func TestFlowsOutput(t *testing.T) {
	f := &fakeDaemon{flows: []*apiv1.FlowsResponse{
		{Flows: []*apiv1.Flow{{EndpointId: "vpce-0", Client: "10.0.0.1:1000", Idle: durationpb.New(time.Second)}}},
		{Flows: []*apiv1.Flow{{Client: "198.18.0.1:5"}, {EndpointId: "vpce-1"}}},
	}}
	socket := listen(t, f)
	_, out, _ := execute("flows", "--socket", socket, "--endpoint", "e", "--target", "10.0.0.1", "--limit", "9")
	if f.asked.EndpointId != "e" || f.asked.Target != "10.0.0.1" || f.asked.Limit != 9 {
		t.Errorf("asked for %v", f.asked)
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[2], "(health check)") {
		t.Errorf("the table is\n%s", out)
	}
	_, out, _ = execute("flows", "--socket", socket, "-o", "json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines of JSON, want 3:\n%s", len(lines), out)
	}
	var flow struct {
		EndpointID string `json:"endpoint_id"`
		Idle       string
	}
	if err := json.Unmarshal([]byte(lines[0]), &flow); err != nil || flow.EndpointID != "vpce-0" || flow.Idle != "1s" {
		t.Errorf("the first line says %+v, error %v", flow, err)
	}
}

// TestInspectedFlowsOutput prints them below connections, and alone.
func TestInspectedFlowsOutput(t *testing.T) {
	inspected := &apiv1.Flow{Target: "10.0.1.41:6081", NodeAddress: "10.0.1.40:50001", State: "established", Protocol: "tcp", Idle: durationpb.New(time.Second),
		Inspection: &apiv1.Inspection{Kind: "5-tuple", Cookie: "00c0ffee", Ends: []*apiv1.InspectedEnd{
			{Address: "10.0.0.1:1000", EndpointId: "vpce-1", Bytes: 7}, {Address: "192.0.2.1:80", Bytes: 8}}}}
	some := &apiv1.Flow{Inspection: &apiv1.Inspection{Kind: "2-tuple", Ends: []*apiv1.InspectedEnd{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}}}
	f := &fakeDaemon{flows: []*apiv1.FlowsResponse{{Flows: []*apiv1.Flow{inspected, {EndpointId: "vpce-0"}, some}}}}
	socket := listen(t, f)
	_, out, _ := execute("flows", "--socket", socket)
	above, below, two := strings.Cut(out, "\n\n")
	if !two || strings.Count(above, "\n") != 1 || strings.Count(below, "\n") != 3 {
		t.Fatalf("the tables are\n%s", out)
	}
	rows := strings.Split(below, "\n")
	want := "tcp 10.0.0.1:1000 vpce-1 7 192.0.2.1:80 - 8 10.0.1.41:6081 10.0.1.40:50001 00c0ffee 5-tuple established 1s 0"
	if got := strings.Join(strings.Fields(rows[1]), " "); got != want {
		t.Errorf("a flow is told as\n%s, want\n%s", got, want)
	}
	if !strings.HasPrefix(rows[2], "any ") {
		t.Errorf("a flow of any protocol is told as\n%s", rows[2])
	}
	_, out, _ = execute("flows", "--socket", socket, "-o", "json")
	var flow struct {
		Protocol   string
		Inspection struct {
			Cookie string
			Ends   []struct {
				EndpointID string `json:"endpoint_id"`
			}
		}
	}
	first, _, _ := strings.Cut(out, "\n")
	if err := json.Unmarshal([]byte(first), &flow); err != nil || flow.Protocol != "tcp" || flow.Inspection.Cookie != "00c0ffee" || flow.Inspection.Ends[0].EndpointID != "vpce-1" {
		t.Errorf("the first line says %+v, error %v", flow, err)
	}
	f.flows[0].Flows = f.flows[0].Flows[:1]
	if _, out, _ := execute("flows", "--socket", socket); !strings.HasPrefix(out, "PROTOCOL") || strings.Count(out, "\n") != 2 {
		t.Errorf("without connections the table is\n%s", out)
	}
}

func TestDropsOutput(t *testing.T) {
	f := &fakeDaemon{drops: &apiv1.DropsResponse{
		Drops: []*apiv1.Drop{{Reason: "too-big", Sentence: "Too long.", Packets: 3}, {Reason: "no-eni", Sentence: "Nobody's."}},
		Enis:  []*apiv1.ENIDrop{{Owner: "vpce-0", Role: "endpoint", Reason: "too-big", Packets: 2}},
	}}
	socket := listen(t, f)
	_, out, _ := execute("drops", "--socket", socket)
	if !strings.Contains(out, "Too long.") || strings.Contains(out, "no-eni") || strings.Contains(out, "vpce-0") {
		t.Errorf("the table is\n%s", out)
	}
	_, out, _ = execute("drops", "--socket", socket, "--all", "--by-eni")
	if !strings.Contains(out, "no-eni") || !strings.Contains(out, "vpce-0") {
		t.Errorf("the whole table is\n%s", out)
	}
	_, out, _ = execute("drops", "--socket", socket, "-o", "json")
	if !json.Valid([]byte(out)) {
		t.Errorf("no JSON:\n%s", out)
	}
}
