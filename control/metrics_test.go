// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// fullStats has one of everything that is counted.
func fullStats() dataplane.Stats {
	s := dataplane.Stats{
		ENIs: []dataplane.ENIStats{
			{
				Role: dataplane.RoleEndpoint, Owner: "vpce-0123456789abcdef0", Zone: "use1-az1",
				Traffic: dataplane.Traffic{PacketsIn: 1, BytesIn: 2, PacketsOut: 3, BytesOut: 4},
			},
			{Role: dataplane.RoleNode, Owner: "nlb", Zone: "use1-az1"},
			{Role: dataplane.RoleProbe, Owner: "web", Zone: "use1-az1"},
			{Role: dataplane.RoleGatewayEndpoint, Owner: "vpce-0123456789abcdef1", Zone: "use1-az1", Traffic: dataplane.Traffic{BytesIn: 11}},
			{Role: dataplane.RoleGatewayNode, Owner: "gwlb", Zone: "use1-az1", Traffic: dataplane.Traffic{BytesOut: 12}},
		},
		Targets: []dataplane.TargetStats{
			{TargetID: dataplane.TargetID{Group: "web", Address: netip.MustParseAddrPort("10.0.1.31:8080")}, Zone: "use1-az1", Health: dataplane.Healthy},
			{TargetID: dataplane.TargetID{Group: "web", Address: netip.MustParseAddrPort("10.0.2.31:8080")}, Zone: "use1-az2", Health: dataplane.Unhealthy, Draining: true},
		},
		Ports:   []dataplane.PortStats{{ID: "consumer-a", Stats: port.Stats{RxPackets: 5}}},
		Flows:   dataplane.FlowStats{Active: 6, Max: 100, New: 7, Expired: 2},
		Workers: []dataplane.WorkerStats{{Turns: 8, Batches: 10, Packets: 30}, {Turns: 9}},
	}
	s.Drops[dataplane.TooBig] = 10
	s.ENIs[0].Drops[dataplane.TooBig] = 9
	return s
}

// call asks for a method that there is not and for one that there is, and waits until the latter is counted, which is a
// moment after it was answered.
func call(t *testing.T, d *Daemon, conn *grpc.ClientConn) {
	t.Helper()
	err := conn.Invoke(t.Context(), "/isthmus.v1.Inspect/Invented", &apiv1.StatusRequest{}, &apiv1.StatusResponse{})
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("a method that there is not: %v", err)
	}
	if _, err := apiv1.NewInspectClient(conn).Status(t.Context(), &apiv1.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the call was counted", func() bool {
		d.calls.mu.Lock()
		defer d.calls.mu.Unlock()
		return len(d.calls.ended) > 0
	})
}

// lint holds metrics against the conventions of Prometheus, and against their descriptions but those of what is absent.
func lint(t *testing.T, families []*dto.MetricFamily, absent ...string) {
	t.Helper()
	got := map[string]bool{}
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, d := range described {
		if got[d.name] == slices.Contains(absent, d.name) {
			t.Errorf("%s is described, and collected: %v", d.name, got[d.name])
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetrics(t *testing.T) {
	e := &fakeEngine{t: t, stats: fullStats()}
	d, conn := serveDaemon(t, e, Options{})
	call(t, d, conn)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(d))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	lint(t, families)
	out := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`isthmus_applied_revision 7`,
		`isthmus_desired_revision 7`,
		`isthmus_configuration_refused 0`,
		`isthmus_eni_packets_total{direction="out",endpoint="vpce-0123456789abcdef0",eni="vpce-0123456789abcdef0/use1-az1",load_balancer="",role="endpoint"} 3`,
		`isthmus_eni_dropped_packets_total{endpoint="vpce-0123456789abcdef0",eni="vpce-0123456789abcdef0/use1-az1",load_balancer="",reason="too-big",role="endpoint"} 9`,
		`isthmus_eni_bytes_total{direction="in",endpoint="vpce-0123456789abcdef1",eni="vpce-0123456789abcdef1/use1-az1",load_balancer="",role="gateway-endpoint"} 11`,
		`isthmus_eni_bytes_total{direction="out",endpoint="",eni="gwlb/use1-az1",load_balancer="gwlb",role="gateway-node"} 12`,
		`isthmus_dropped_packets_total{reason="too-big"} 10`,
		`isthmus_dropped_packets_total{reason="not-tcp"} 0`,
		`isthmus_flow_events_total{event="new"} 7`,
		`isthmus_flow_events_total{event="lapsed"} 2`,
		`isthmus_port_up{port="provider-b"} 1`,
		`isthmus_port_warnings{port="provider-b"} 0`,
		`isthmus_port_packets_total{direction="in",port="consumer-a"} 5`,
		`isthmus_target_healthy{target="10.0.1.31:8080",target_group="web",zone="use1-az1"} 1`,
		`isthmus_target_healthy{target="10.0.2.31:8080",target_group="web",zone="use1-az2"} 0`,
		`isthmus_target_draining{target="10.0.2.31:8080",target_group="web",zone="use1-az2"} 1`,
		`isthmus_worker_turns_total{worker="1"} 9`,
		`isthmus_api_requests_total{code="OK",method="isthmus.v1.Inspect/Status"} 1`,
		`isthmus_api_request_seconds_count{method="isthmus.v1.Inspect/Status"} 1`,
		`isthmus_worker_batch_packets_sum{worker="0"} 30`,
		`isthmus_worker_batch_packets_count{worker="0"} 10`,
	} {
		if !strings.Contains(out.Body.String(), want+"\n") {
			t.Errorf("there is no line %s", want)
		}
	}
	if strings.Contains(out.Body.String(), "Invented") {
		t.Error("a caller has made a series")
	}
	if strings.Contains(out.Body.String(), `eni="web`) {
		t.Error("health checks are counted as an ENI")
	}
}

// steppedEngine is an engine whose turns the test takes: memory ports wake nobody.
type steppedEngine struct{ *dataplane.Engine }

func (steppedEngine) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// serveMetrics runs a daemon on a stepped engine, and returns where it serves metrics.
func serveMetrics(tb testing.TB) (d *Daemon, e steppedEngine, k *fakeKernel, address string) {
	tb.Helper()
	inner, err := dataplane.New(dataplane.Config{Workers: 1, MaxFlows: 1000})
	if err != nil {
		tb.Fatal(err)
	}
	opts := Options{MetricsAddress: "127.0.0.1:0", Registry: prometheus.NewRegistry(), Version: "v1"}
	opts.StateFile = filepath.Join(tb.TempDir(), "state.yaml")
	write(tb, opts.StateFile, marshal(tb, reference()), false)
	k = newFakeKernel()
	k.dial = noDial
	e = steppedEngine{inner}
	if d, err = newDaemon(opts, e, k); err != nil {
		tb.Fatal(err)
	}
	start(tb, d)
	for _, task := range d.tasks {
		if m, ok := task.(*metricsServer); ok {
			address = m.bound.Load().(net.Addr).String()
		}
	}
	return d, e, k, address
}

// syn opens a connection to the endpoint of reference.
func syn(client uint16) []byte {
	return pkttest.TCP{Src: netip.AddrPortFrom(addr("10.0.1.10"), client), Dst: netip.MustParseAddrPort("10.0.2.5:80"), Flags: "S", Window: 500}.Bytes()
}

// TestScrape scrapes a daemon that has carried packets, as Prometheus does.
func TestScrape(t *testing.T) {
	const clients = 40
	d, e, k, address := serveMetrics(t)
	consumer := k.port("consumer-a")
	for i := range clients {
		consumer.Inject(0, syn(uint16(2000+i)))
	}
	consumer.Inject(0, pkttest.UDP(netip.MustParseAddrPort("10.0.1.10:53"), netip.MustParseAddrPort("10.0.2.5:53"), nil))
	for now := time.Second; e.Turn(now); {
	}
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	lint(t, slices.Collect(maps.Values(families)), "isthmus_api_request_seconds", "isthmus_api_requests_total")
	value := func(name string, labels map[string]string) float64 {
		return valueOf(t, families[name], labels)
	}
	if got := value("isthmus_build_info", map[string]string{"version": "v1", "goversion": runtime.Version()}); got != 1 {
		t.Errorf("build info is %v", got)
	}
	stats := d.Stats()
	if got := value("isthmus_eni_packets_total", map[string]string{
		"endpoint": "vpce-0123456789abcdef0", "eni": "vpce-0123456789abcdef0/use1-az1", "role": "endpoint", "load_balancer": "", "direction": "in",
	}); got != float64(clients+1) {
		t.Errorf("%v packets have come to the endpoint, want %d", got, clients+1)
	}
	if got := value("isthmus_eni_dropped_packets_total", map[string]string{
		"endpoint": "vpce-0123456789abcdef0", "eni": "vpce-0123456789abcdef0/use1-az1", "role": "endpoint", "load_balancer": "", "reason": "not-tcp",
	}); got != 1 {
		t.Errorf("%v packets were dropped that are not TCP, want 1", got)
	}
	if got := value("isthmus_flows", nil); got != clients {
		t.Errorf("%v flows, want %d", got, clients)
	}
	if got := value("isthmus_worker_batch_packets", map[string]string{"worker": "0"}); got != float64(stats.Workers[0].Packets) {
		t.Errorf("%v packets in batches, want %d", got, stats.Workers[0].Packets)
	}
}

// valueOf is the value of one series; of a summary, its sum.
func valueOf(t *testing.T, f *dto.MetricFamily, labels map[string]string) float64 {
	t.Helper()
	for _, m := range f.GetMetric() {
		got := map[string]string{}
		for _, pair := range m.Label {
			got[pair.GetName()] = pair.GetValue()
		}
		if !maps.Equal(got, labels) {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		}
		return m.Summary.GetSampleSum()
	}
	t.Errorf("there is no %s with %v", f.GetName(), labels)
	return 0
}
