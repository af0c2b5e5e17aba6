// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
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
			{TargetID: dataplane.TargetID{Group: "web", Address: netip.MustParseAddrPort("10.0.2.31:8080")}, Zone: "use1-az2", Health: dataplane.Unhealthy},
		},
		Ports:   []dataplane.PortStats{{ID: "consumer-a", Stats: port.Stats{RxPackets: 5}}},
		Flows:   dataplane.FlowStats{Active: 6, Max: 100, New: 7},
		Workers: []dataplane.WorkerStats{{Turns: 8}, {Turns: 9}},
	}
	s.Drops[dataplane.TooBig] = 10
	s.ENIs[0].Drops[dataplane.TooBig] = 9
	return s
}

func TestMetrics(t *testing.T) {
	e := &fakeEngine{t: t, stats: fullStats()}
	d, _ := serveDaemon(t, e, Options{})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(d))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(described) {
		t.Errorf("%d metrics are collected, %d are described", len(families), len(described))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	out := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`isthmus_applied_revision 7`,
		`isthmus_desired_revision 7`,
		`isthmus_configuration_refused 0`,
		`isthmus_packets_total{direction="out",eni="vpce-0123456789abcdef0/use1-az1",role="endpoint"} 3`,
		`isthmus_dropped_packets_total{eni="vpce-0123456789abcdef0/use1-az1",reason="too-big"} 9`,
		`isthmus_bytes_total{direction="in",eni="vpce-0123456789abcdef1/use1-az1",role="gateway-endpoint"} 11`,
		`isthmus_bytes_total{direction="out",eni="gwlb/use1-az1",role="gateway-node"} 12`,
		`isthmus_drops_total{reason="too-big"} 10`,
		`isthmus_oversize_dropped_total 10`,
		`isthmus_flow_events_total{event="new"} 7`,
		`isthmus_port_up{port="provider-b"} 1`,
		`isthmus_port_packets_total{direction="in",port="consumer-a"} 5`,
		`isthmus_target_healthy{target="10.0.1.31:8080",target_group="web",zone="use1-az1"} 1`,
		`isthmus_target_healthy{target="10.0.2.31:8080",target_group="web",zone="use1-az2"} 0`,
		`isthmus_worker_turns_total{worker="1"} 9`,
	} {
		if !strings.Contains(out.Body.String(), want+"\n") {
			t.Errorf("there is no line %s", want)
		}
	}
	if strings.Contains(out.Body.String(), `eni="web`) {
		t.Error("health checks are counted as an ENI")
	}
}

func TestMetricsServer(t *testing.T) {
	registry := prometheus.NewRegistry()
	d, _ := serveDaemon(t, &fakeEngine{t: t, stats: fullStats()}, Options{MetricsAddress: "127.0.0.1:0", Registry: registry})
	for _, task := range d.tasks {
		if m, ok := task.(*metricsServer); ok {
			r, err := http.Get("http://" + m.bound.Load().(net.Addr).String() + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil || !strings.Contains(string(body), `isthmus_build_info{version="v1"} 1`) {
				t.Errorf("error %v, answer:\n%s", err, body)
			}
			return
		}
	}
	t.Error("no metrics are served")
}
