// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/apiserver"
	"github.com/isthmus-net/isthmus/control/keeper"
	"github.com/isthmus-net/isthmus/control/store"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

var updateTranscripts = flag.Bool("update", false, "rewrite testdata/cli from what commands print now")

// eager is a dataplane that runs everything.
type eager struct{}

func (eager) Apply(context.Context, *vpc.State) error { return nil }

// background runs a task until the test ends.
func background(t *testing.T, task func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// newServer is the API over a store in memory, with a clock that stands still and uids that count up. The caller is an
// operator.
func newServer(t *testing.T) *apiserver.Server {
	t.Helper()
	st := store.NewMemory(store.Options{})
	t.Cleanup(func() { st.Close() })
	n := 0
	k, err := keeper.Open(t.Context(), st, keeper.Options{
		Clock: func() time.Time { return time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) },
		NewUID: func(prefix string) string {
			n++
			return fmt.Sprintf("%s%017x", prefix, n)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Geteuid())
	s, err := apiserver.New(apiserver.Options{
		Keeper: k, Callers: []apiserver.Caller{{UID: &uid, Operator: true}}, Log: slog.New(slog.DiscardHandler),
		Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error { return k.Run(ctx, eager{}) })
	background(t, s.Run)
	return s
}

// serve serves the API and a fake look inside on a socket, which the commands of the test use.
func serve(t *testing.T, f *fakeDaemon) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	g := grpc.NewServer(append(s.ServerOptions(), grpc.Creds(apiserver.UnixCredentials()))...)
	s.Register(g)
	apiv1.RegisterInspectServer(g, f)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	t.Setenv("ISTHMUS_SOCKET", socket)
	t.Setenv("ISTHMUS_ACCOUNT", "")
}

// does runs a command line that must succeed, and returns what it printed.
func does(t *testing.T, line string) string {
	t.Helper()
	code, stdout, stderr := execute(strings.Fields(line)...)
	if code != exitOK {
		t.Fatalf("isthmus %s: exit code %d\n%s%s", line, code, stdout, stderr)
	}
	return stdout
}

// fails runs a command line that must fail in a way, and says so.
func fails(t *testing.T, code int, line, want string) {
	t.Helper()
	got, stdout, stderr := execute(strings.Fields(line)...)
	if got != code || !strings.Contains(stderr, want) {
		t.Errorf("isthmus %s: exit code %d, want %d, and %q in:\n%s%s", line, got, code, want, stdout, stderr)
	}
}

// seen is what the dataplane of the transcripts counts, for the endpoint and the load balancer of the examples.
func seen() *fakeDaemon {
	const endpoint, balancer, group = "vpce-0000000000000000c", "lb-00000000000000005", "tg-00000000000000004"
	return &fakeDaemon{
		status: &apiv1.StatusResponse{
			Enis: []*apiv1.ENIStatus{
				{Role: "endpoint", Owner: endpoint, ZoneId: "use1-az1", Address: "10.0.1.50", Traffic: &apiv1.Traffic{PacketsIn: 7, BytesIn: 700, PacketsOut: 8, BytesOut: 8000}, Dropped: 3},
				{Role: "node", Owner: balancer, ZoneId: "use1-az1", Address: "10.0.1.4", Traffic: &apiv1.Traffic{PacketsIn: 8, BytesIn: 8000, PacketsOut: 7, BytesOut: 700}},
			},
			Targets: []*apiv1.TargetStatus{{TargetGroupId: group, Address: "10.0.1.10:8080", ActiveFlows: 1, NewFlows: 5, Traffic: &apiv1.Traffic{BytesOut: 700, BytesIn: 8000}}},
		},
		drops: &apiv1.DropsResponse{
			Drops: []*apiv1.Drop{{Reason: "too-big", Sentence: "Longer than 8500 bytes."}},
			Enis:  []*apiv1.ENIDrop{{Owner: endpoint, Role: "endpoint", Address: "10.0.1.50", Reason: "too-big", Packets: 3}, {Owner: "vpce-other", Reason: "too-big", Packets: 9}},
		},
		flows: []*apiv1.FlowsResponse{{Flows: []*apiv1.Flow{{
			EndpointId: endpoint, ZoneId: "use1-az1", Client: "10.0.1.10:40000", EndpointAddress: "10.0.1.50:80",
			NodeAddress: "10.0.1.4:50000", Target: "10.0.1.10:8080", State: "established", BytesOut: 700, BytesIn: 8000,
		}}}},
	}
}

// TestTranscripts runs the commands of the files in testdata/cli, each file on a daemon of its own, and compares what they
// print with what stands below them. The exit code stands there where it is not 0. With -update it writes them.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/cli/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			serve(t, seen())
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := transcript(string(want))
			if *updateTranscripts {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the transcript is different (-want +got):\n%s", diff)
			}
		})
	}
}

// transcript runs the commands of a text again, with comments before the first of them kept.
func transcript(text string) string {
	var out strings.Builder
	comment := true
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(line, "$ isthmus ")
		if !ok {
			if comment {
				out.WriteString(line)
			}
			continue
		}
		comment = false
		out.WriteString(line)
		code, stdout, stderr := execute(words(strings.TrimSpace(command))...)
		io.WriteString(&out, stdout+stderr)
		if code != exitOK {
			fmt.Fprintf(&out, "(exit %d)\n", code)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// words splits a line as a shell does that knows single quotes around whole words.
func words(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}
