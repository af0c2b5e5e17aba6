// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-net/isthmus/dataplane"
)

// Collector reads the daemon's counters when it is scraped. Labels name objects of the configuration, never
// connections, so that the number of series is bounded. The caller registers it where it likes.
type Collector struct {
	daemon *Daemon
}

// NewCollector makes the collector of a daemon.
func NewCollector(d *Daemon) *Collector { return &Collector{daemon: d} }

var _ prometheus.Collector = (*Collector)(nil)

// description is a metric as Prometheus sees it, with what its own type does not tell.
type description struct {
	*prometheus.Desc
	name   string
	labels []string
}

// described is every metric, in the order of output.
var described []description

// metric describes one and lists it.
func metric(name, help string, labels ...string) *prometheus.Desc {
	d := description{prometheus.NewDesc("isthmus_"+name, help, labels, nil), "isthmus_" + name, labels}
	described = append(described, d)
	return d.Desc
}

// Metrics are named after what they count: isthmus_eni_*, _target_*, _port_* and _worker_* have the labels of one object,
// the others are the daemon's. Sums over objects are not those of the daemon: the counters of an object go with it, and a
// packet may be for none. direction is in for what comes toward the dataplane, and out for what leaves it. The label eni
// is the owner and the zone, for an endpoint or load balancer has one ENI a zone; the owner is the label endpoint or
// load_balancer, and the other of the two is empty.
var (
	descBuildInfo = metric("build_info", "The version that runs; always 1.", "version", "goversion")
	descStart     = metric("start_time_seconds", "When the daemon started, since the Unix epoch.")
	descApplied   = metric("applied_revision", "Revision of the configuration in force.")
	descDesired   = metric("desired_revision", "Revision of the newest configuration, which may have been refused.")
	descRefused   = metric("configuration_refused", "Whether the newest configuration is not in force.")

	descDropped    = metric("dropped_packets_total", "Packets that went no further, for whichever ENI or none, by reason.", "reason")
	descFlows      = metric("flows", "Connections, and flows that appliances inspect, followed now.")
	descFlowsMax   = metric("flows_max", "How many can be followed.")
	descFlowEvents = metric("flow_events_total", "What became of flows: new; lapsed, when their time was up, idle or half open or "+
		"a moment after their end; and segments with RST, from the client, from the target, or of the dataplane itself.", "event")
	descPortErrors = metric("port_allocation_errors_total", "Connections refused because no source port was free.")
	descClamped    = metric("mss_clamped_total", "SYN segments whose MSS option was lowered.")
	descHeaders    = metric("proxy_headers_total", "PROXY protocol headers written, repetitions included.")

	descENIPackets = metric("eni_packets_total", "Packets by ENI; a super-packet counts once.", append(eniLabels, "direction")...)
	descENIBytes   = metric("eni_bytes_total", "Layer 3 bytes by ENI.", append(eniLabels, "direction")...)
	descENIDropped = metric("eni_dropped_packets_total", "Packets to an ENI that went no further, by reason; only those that occurred.", append(eniLabels, "reason")...)

	descTargetHealthy    = metric("target_healthy", "Whether a target gets connections as far as its health goes.", targetLabels...)
	descTargetDraining   = metric("target_draining", "Whether a target was deregistered and keeps its connections for now.", targetLabels...)
	descTargetFlows      = metric("target_flows", "Flows to a target now.", targetLabels...)
	descTargetNew        = metric("target_new_flows_total", "Flows opened to a target.", targetLabels...)
	descTargetPackets    = metric("target_packets_total", "Packets by target; out is toward it.", append(targetLabels, "direction")...)
	descTargetBytes      = metric("target_bytes_total", "Layer 3 bytes by target; out is toward it.", append(targetLabels, "direction")...)
	descTargetPortErrors = metric("target_port_allocation_errors_total", "Connections refused because no source port toward the target was free.", targetLabels...)

	descPortUp        = metric("port_up", "Whether a port is open.", "port")
	descPortWarnings  = metric("port_warnings", "How many things around a port are not as its traffic needs them; isthmus doctor names them.", "port")
	descPortPackets   = metric("port_packets_total", "Packets by port; a super-packet counts once.", "port", "direction")
	descPortBytes     = metric("port_bytes_total", "Layer 3 bytes by port.", "port", "direction")
	descPortDropped   = metric("port_dropped_packets_total", "Packets lost between device and dataplane, by reason.", "port", "reason")
	descPortSegmented = metric("port_segmented_packets_total", "Super-packets cut in software.", "port")

	descTurns  = metric("worker_turns_total", "Turns a worker has taken.", "worker")
	descBatch  = metric("worker_batch_packets", "Batches a worker has received, and the packets in them.", "worker")
	descStrays = metric("worker_stray_packets_total", "Packets that another worker's queue had received.", "worker")
	descSleeps = metric("worker_sleeps_total", "How often a worker had nothing to do and slept.", "worker")
)

// Labels of objects. Each list is full: what is appended does not change it.
var (
	eniLabels    = slices.Clip([]string{"eni", "role", "endpoint", "load_balancer"})
	targetLabels = slices.Clip([]string{"target_group", "target", "zone"})
)

// Describe sends the description of every metric.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range described {
		out <- d.Desc
	}
}

// Collect takes one reading of all counters.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	stats := c.daemon.engine.Stats()
	rep := c.daemon.reconcile.report.Load()
	s := sink{out}
	s.gauge(descBuildInfo, 1, c.daemon.opts.Version, runtime.Version())
	s.gauge(descStart, float64(c.daemon.started.Load())/float64(time.Second))
	s.gauge(descApplied, float64(stats.Revision))
	s.gauge(descDesired, float64(rep.desired))
	s.gauge(descRefused, truth(rep.problem != ""))
	s.enis(stats.ENIs)
	for r, n := range stats.Drops {
		s.count(descDropped, n, dataplane.Reason(r).String())
	}
	s.flows(&stats.Flows)
	s.targets(stats.Targets)
	for _, p := range rep.ports {
		s.gauge(descPortUp, truth(p.open), p.spec.ID)
		s.gauge(descPortWarnings, float64(len(p.warnings)), p.spec.ID)
	}
	s.ports(stats.Ports)
	s.workers(stats.Workers)
	c.daemon.calls.collect(s)
}

// sink sends readings.
type sink struct{ out chan<- prometheus.Metric }

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) count(d *prometheus.Desc, v uint64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s sink) enis(enis []dataplane.ENIStats) {
	for i := range enis {
		e := &enis[i]
		if e.Role == dataplane.RoleProbe {
			continue // of health checks; targets have their own metrics
		}
		labels := labelsOf(e)
		s.count(descENIPackets, e.PacketsIn, append(labels, "in")...)
		s.count(descENIPackets, e.PacketsOut, append(labels, "out")...)
		s.count(descENIBytes, e.BytesIn, append(labels, "in")...)
		s.count(descENIBytes, e.BytesOut, append(labels, "out")...)
		for r, n := range e.Drops {
			if n > 0 {
				s.count(descENIDropped, n, append(labels, dataplane.Reason(r).String())...)
			}
		}
	}
}

// labelsOf are the values of eniLabels.
func labelsOf(e *dataplane.ENIStats) []string {
	endpoint, loadBalancer := e.Owner, ""
	if e.Role == dataplane.RoleNode || e.Role == dataplane.RoleGatewayNode {
		endpoint, loadBalancer = "", e.Owner
	}
	return []string{e.Owner + "/" + e.Zone, e.Role.String(), endpoint, loadBalancer}
}

func (s sink) flows(f *dataplane.FlowStats) {
	s.gauge(descFlows, float64(f.Active))
	s.gauge(descFlowsMax, float64(f.Max))
	s.count(descFlowEvents, f.New, "new")
	s.count(descFlowEvents, f.Expired, "lapsed")
	s.count(descFlowEvents, f.ClientResets, "client_reset")
	s.count(descFlowEvents, f.TargetResets, "target_reset")
	s.count(descFlowEvents, f.OwnResets, "own_reset")
	s.count(descPortErrors, f.PortAllocationErrors)
	s.count(descClamped, f.MSSClamped)
	s.count(descHeaders, f.HeadersSent)
}

func (s sink) targets(targets []dataplane.TargetStats) {
	for i := range targets {
		t := &targets[i]
		labels := []string{t.Group, t.Address.String(), t.Zone}
		s.gauge(descTargetHealthy, truth(t.Health != dataplane.Unhealthy), labels...)
		s.gauge(descTargetDraining, truth(t.Draining), labels...)
		s.gauge(descTargetFlows, float64(t.ActiveFlows), labels...)
		s.count(descTargetNew, t.NewFlows, labels...)
		s.count(descTargetPortErrors, t.PortAllocationErrors, labels...)
		s.count(descTargetPackets, t.PacketsIn, append(labels, "in")...)
		s.count(descTargetPackets, t.PacketsOut, append(labels, "out")...)
		s.count(descTargetBytes, t.BytesIn, append(labels, "in")...)
		s.count(descTargetBytes, t.BytesOut, append(labels, "out")...)
	}
}

func (s sink) ports(ports []dataplane.PortStats) {
	for i := range ports {
		p := &ports[i]
		s.count(descPortPackets, p.RxPackets, p.ID, "in")
		s.count(descPortPackets, p.TxPackets, p.ID, "out")
		s.count(descPortBytes, p.RxBytes, p.ID, "in")
		s.count(descPortBytes, p.TxBytes, p.ID, "out")
		s.count(descPortDropped, p.RxInvalid, p.ID, "invalid")
		s.count(descPortDropped, p.TxRefused, p.ID, "refused")
		s.count(descPortDropped, p.NeighbourDropped, p.ID, "neighbour")
		s.count(descPortSegmented, p.Segmented, p.ID)
	}
}

// workers sends the sizes of batches as a sum and a count, which are all that is kept of them.
func (s sink) workers(workers []dataplane.WorkerStats) {
	for i, w := range workers {
		id := strconv.Itoa(i)
		s.count(descTurns, w.Turns, id)
		s.out <- prometheus.MustNewConstSummary(descBatch, w.Batches, float64(w.Packets), nil, id)
		s.count(descStrays, w.Strays, id)
		s.count(descSleeps, w.Sleeps, id)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
