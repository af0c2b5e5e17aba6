// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strconv"

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

// described is every metric, in the order of output.
var described []*prometheus.Desc

// metric describes one and lists it.
func metric(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("isthmus_"+name, help, labels, nil)
	described = append(described, d)
	return d
}

// Metrics. The label eni is the owner's id and the zone: an endpoint or load balancer has one ENI a zone.
var (
	descBuildInfo = metric("build_info", "The version that runs; always 1.", "version")
	descUptime    = metric("uptime_seconds", "How long the daemon has run.")
	descApplied   = metric("applied_revision", "Revision of the configuration in force.")
	descDesired   = metric("desired_revision", "Revision of the newest configuration, which may have been refused.")
	descRefused   = metric("configuration_refused", "Whether the newest configuration is not in force.")

	descPackets  = metric("packets_total", "Packets by ENI; a super-packet counts once.", "eni", "role", "direction")
	descBytes    = metric("bytes_total", "Layer 3 bytes by ENI.", "eni", "role", "direction")
	descDropped  = metric("dropped_packets_total", "Packets to an ENI that went no further, by reason.", "eni", "reason")
	descDrops    = metric("drops_total", "All packets that went no further, by reason.", "reason")
	descOversize = metric("oversize_dropped_total", "Packets dropped because they were longer than the endpoint MTU.")

	descFlows      = metric("flows", "Connections followed now.")
	descFlowsMax   = metric("flows_max", "How many connections can be followed.")
	descFlowEvents = metric("flow_events_total", "What became of connections.", "event")
	descPortErrors = metric("port_allocation_errors_total", "Connections refused because no source port was free.")
	descClamped    = metric("mss_clamped_total", "SYN segments whose MSS option was lowered.")
	descHeaders    = metric("proxy_headers_total", "PROXY protocol headers written, repetitions included.")

	descTargetHealthy    = metric("target_healthy", "Whether a target gets connections as far as its health goes.", "target_group", "target", "zone")
	descTargetFlows      = metric("target_flows", "Connections to a target now.", "target_group", "target", "zone")
	descTargetNew        = metric("target_new_flows_total", "Connections opened to a target.", "target_group", "target", "zone")
	descTargetBytes      = metric("target_bytes_total", "Layer 3 bytes by target; out is toward it.", "target_group", "target", "zone", "direction")
	descTargetPortErrors = metric("target_port_allocation_errors_total", "Connections refused because no source port toward the target was free.", "target_group", "target", "zone")

	descPortUp        = metric("port_up", "Whether a port is open.", "port")
	descPortPackets   = metric("port_packets_total", "Packets by port; a super-packet counts once.", "port", "direction")
	descPortBytes     = metric("port_bytes_total", "Layer 3 bytes by port.", "port", "direction")
	descPortDropped   = metric("port_dropped_packets_total", "Packets lost between device and dataplane, by reason.", "port", "reason")
	descPortSegmented = metric("port_segmented_packets_total", "Super-packets cut in software.", "port")

	descTurns  = metric("worker_turns_total", "Turns a worker has taken.", "worker")
	descStrays = metric("worker_stray_packets_total", "Packets that another worker's queue had received.", "worker")
	descSleeps = metric("worker_sleeps_total", "How often a worker had nothing to do and slept.", "worker")
)

// Describe sends the description of every metric.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range described {
		out <- d
	}
}

// Collect takes one reading of all counters.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	stats := c.daemon.engine.Stats()
	rep := c.daemon.reconcile.report.Load()
	s := sink{out}
	s.gauge(descBuildInfo, 1, c.daemon.opts.Version)
	s.gauge(descUptime, c.daemon.uptime().Seconds())
	s.gauge(descApplied, float64(stats.Revision))
	s.gauge(descDesired, float64(rep.desired))
	s.gauge(descRefused, truth(rep.problem != ""))
	s.enis(stats.ENIs)
	for r, n := range stats.Drops {
		s.count(descDrops, n, dataplane.Reason(r).String())
	}
	s.count(descOversize, stats.Drops[dataplane.TooBig])
	s.flows(&stats.Flows)
	s.targets(stats.Targets)
	for _, p := range rep.ports {
		s.gauge(descPortUp, truth(p.open), p.spec.ID)
	}
	s.ports(stats.Ports)
	for i, w := range stats.Workers {
		s.count(descTurns, w.Turns, strconv.Itoa(i))
		s.count(descStrays, w.Strays, strconv.Itoa(i))
		s.count(descSleeps, w.Sleeps, strconv.Itoa(i))
	}
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
		name, role := e.Owner+"/"+e.Zone, e.Role.String()
		s.count(descPackets, e.PacketsIn, name, role, "in")
		s.count(descPackets, e.PacketsOut, name, role, "out")
		s.count(descBytes, e.BytesIn, name, role, "in")
		s.count(descBytes, e.BytesOut, name, role, "out")
		for r, n := range e.Drops {
			if n > 0 {
				s.count(descDropped, n, name, dataplane.Reason(r).String())
			}
		}
	}
}

func (s sink) flows(f *dataplane.FlowStats) {
	s.gauge(descFlows, float64(f.Active))
	s.gauge(descFlowsMax, float64(f.Max))
	s.count(descFlowEvents, f.New, "new")
	s.count(descFlowEvents, f.Expired, "expired")
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
		s.gauge(descTargetFlows, float64(t.ActiveFlows), labels...)
		s.count(descTargetNew, t.NewFlows, labels...)
		s.count(descTargetPortErrors, t.PortAllocationErrors, labels...)
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

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
