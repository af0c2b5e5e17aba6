// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"net/netip"
	"time"
)

// scenario is a load and what is measured of it.
type scenario struct {
	name string
	load loadSpec
	// atServer says that the receiver's counters count, not the client's.
	atServer bool
	values   func(window) []value
}

// window is what happened between two marks.
type window struct {
	elapsed      time.Duration
	count, bytes float64
	p50, p99     time.Duration
	// dataplane is the processor time of the system's process, 0 when it has none; all is that of client and server
	// as well.
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

func bulkValues(w window) []value {
	gigabytes := w.bytes / 1e9
	values := []value{{"throughput", "Gbit/s", 8 * gigabytes / w.elapsed.Seconds()}}
	return append(values, w.costs("s/GB", gigabytes)...)
}

func httpValues(w window) []value {
	values := []value{
		{"requests", "1/s", w.count / w.elapsed.Seconds()},
		{"latency-p50", "µs", microseconds(w.p50)},
		{"latency-p99", "µs", microseconds(w.p99)},
	}
	return append(values, w.costs("µs/request", w.count/1e6)...)
}

func connectValues(w window) []value {
	values := []value{{"connections", "1/s", w.count / w.elapsed.Seconds()}}
	return append(values, w.costs("µs/connection", w.count/1e6)...)
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
