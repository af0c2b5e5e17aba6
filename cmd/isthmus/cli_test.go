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
		{"--help", exitOK, "Available Commands"},
		{"status --socket " + socket, exitOK, "revision 0 in force"},
		{"flows --socket " + socket, exitOK, "ENDPOINT"},
		{"nonsense", exitUsage, `unknown command "nonsense"`},
		{"status more", exitUsage, `unknown command "more"`},
		{"status --colour", exitUsage, "unknown flag: --colour"},
		{"status -o xml", exitUsage, "choose one of: json or table"},
		{"daemon", exitUsage, `required flag(s) "file" not set`},
		{"daemon -f x --offloads some", exitUsage, "choose on, no-tso, no-uso, off or plain"},
		{"daemon -f x --log loud", exitUsage, "choose one of: json or text"},
		{"status --socket " + missing, exitNoDaemon, "start one with: isthmus daemon -f STATE.yaml --socket " + missing},
		{"drops --socket " + missing, exitNoDaemon, "there is no socket"},
		{"flows --socket " + socket + " --target wrong", exitFailed, "isthmus: that is no address\n"},
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
		Testing: &apiv1.Testing{IdleTimeout: durationpb.New(2 * time.Second)},
		Ports: []*apiv1.PortStatus{
			{Id: "consumer", Kind: "tun", Open: true, Queues: 2, Offloads: []string{"checksum", "tso"}, OffloadsOff: []string{"USO: no"}, TxRefused: 1, RxInvalid: 2},
			{Id: "provider", Kind: "tap", Error: "no such namespace"},
		},
		Enis:          []*apiv1.ENIStatus{{Role: "endpoint", Owner: "vpce-0", Address: "10.0.0.5"}, {Role: "probe", Owner: "nlb", Address: "198.18.0.2"}},
		Targets:       []*apiv1.TargetStatus{{Address: "10.0.0.9:80", TargetGroupId: "web", Health: "unhealthy", Draining: true, Reason: "connection refused"}},
		Endpoints:     []*apiv1.EndpointStatus{{Id: "vpce-0", ServiceId: "vpce-svc-0", Addresses: []string{"10.0.0.5", "10.0.1.5"}}},
		LoadBalancers: []*apiv1.LoadBalancerStatus{{Id: "nlb", ListenerPorts: []uint32{80, 443}}},
		Flows:         &apiv1.FlowCounters{Active: 3, Max: 100},
		Workers:       []*apiv1.WorkerStatus{{Turns: 5}},
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
		"80 443",
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
	if got.AppliedRevision != "7" || len(got.Ports) != 2 || got.Ports[1].Open == nil || *got.Ports[1].Open {
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
