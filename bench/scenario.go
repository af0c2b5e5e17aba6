// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"net/netip"
	"time"
)

// scenario is a load and what is measured of it.
type scenario struct {
	name string
	load loadSpec
	// inspected says that client and server are in one VPC, and that a GWLB endpoint leads what passes between them through
	// an appliance; otherwise an interface endpoint leads from one VPC to the other.
	inspected bool
	// atServer says that the receiver's counters count, not the client's.
	atServer bool
	values   func(window) []value
	// driven, in place of load and values, has the whole daemon measured, which no other system has a counterpart of.
	driven func(context.Context, *bed) ([]value, error)
}

// window is what happened between two marks.
type window struct {
	elapsed      time.Duration
	count, bytes float64
	p50, p99     time.Duration
	// dataplane is the processor time of the system's process, 0 when it has none; all is that of client, server and
	// appliance as well.
	dataplane, all time.Duration
}

// scenarios lists all of them, in the order they run in.
func scenarios() []scenario {
	bulk := load(kindBulk, 1, 1)
	announced := bulk
	announced.Header = true
	return []scenario{
		{name: "tcp-bulk", load: bulk, atServer: true, values: bulkValues},
		{name: "tcp-bulk-pp2", load: announced, atServer: true, values: bulkValues},
		{name: "http-keepalive", load: load(kindHTTP, 1, 32), values: httpValues},
		{name: "tcp-connect", load: load(kindConnect, 40, 16), values: connectValues},
		{name: "gwlb-bulk", load: inspectedLoad(kindBulk, 1), inspected: true, atServer: true, values: bulkValues},
		{name: "gwlb-requests", load: inspectedLoad(kindHTTP, 32), inspected: true, values: httpValues},
		{name: "gwlb-small-64", load: inspectedLoad(kindPackets, 1), inspected: true, atServer: true, values: packetValues},
		{name: "view-change", driven: changesOf(false)},
		{name: "view-change-memory", driven: changesOf(true)},
		{name: "scale", driven: scaleOf(0)},
		{name: "scale-alone", driven: scaleOf(aloneEndpoints)},
	}
}

func load(kind string, ports, parallel int) loadSpec {
	var sources []netip.Addr
	for _, client := range clients {
		sources = append(sources, client.Addr())
	}
	return loadSpec{
		Kind: kind, Service: netip.AddrPortFrom(service.Addr(), servicePort), Ports: ports,
		Sources: sources, Parallel: parallel,
	}
}

// inspectedLoad is a load whose client knows the server's own address: appliances are on the way, and not addressed.
func inspectedLoad(kind string, parallel int) loadSpec {
	s := load(kind, 1, parallel)
	s.Service = netip.AddrPortFrom(target.Addr(), servicePort)
	return s
}

func bulkValues(w window) []value {
	gigabytes := w.bytes / 1e9
	values := []value{{"throughput", "Gbit/s", 8 * gigabytes / w.elapsed.Seconds()}}
	if gigabytes > 0 {
		values = append(values, value{"cpu-all", "s/GB", w.all.Seconds() / gigabytes})
	}
	return append(values, w.perGigabyte()...)
}

func httpValues(w window) []value {
	values := []value{
		{"requests", "1/s", w.count / w.elapsed.Seconds()},
		{"latency-p50", "µs", microseconds(w.p50)},
		{"latency-p99", "µs", microseconds(w.p99)},
	}
	values = append(values, w.costs("µs/request", w.count/1e6)...)
	return append(values, w.perGigabyte()...)
}

func connectValues(w window) []value {
	values := []value{{"connections", "1/s", w.count / w.elapsed.Seconds()}}
	return append(values, w.costs("µs/connection", w.count/1e6)...)
}

func packetValues(w window) []value {
	values := []value{{"packets", "1/s", w.count / w.elapsed.Seconds()}}
	values = append(values, w.costs("ns/packet", w.count/1e9)...)
	return append(values, w.perGigabyte()...)
}

// perGigabyte is what the dataplane's process costs for each gigabyte of payload.
func (w window) perGigabyte() []value {
	if w.dataplane == 0 || w.bytes == 0 {
		return nil
	}
	return []value{{"cpu-per-gb", "s/GB", w.dataplane.Seconds() / (w.bytes / 1e9)}}
}

// costs are processor seconds for each unit of the amount of work done.
func (w window) costs(unit string, amount float64) []value {
	if amount == 0 {
		return nil
	}
	values := []value{{"cpu-all", unit, w.all.Seconds() / amount}}
	if w.dataplane > 0 {
		values = append(values, value{"cpu-dataplane", unit, w.dataplane.Seconds() / amount})
	}
	return values
}

func microseconds(d time.Duration) float64 { return d.Seconds() * 1e6 }
