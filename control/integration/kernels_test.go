// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// TestKernelSettings does under loss what TestServersBehindEndpoint does, with kernels that speak TCP differently.
func TestKernelSettings(t *testing.T) {
	for _, settings := range [][]netns.Sysctl{
		{{Name: "net/ipv4/tcp_sack", Value: "0"}},
		{{Name: "net/ipv4/tcp_dsack", Value: "0"}},
		{{Name: "net/ipv4/tcp_timestamps", Value: "0"}},
		{{Name: "net/ipv4/tcp_window_scaling", Value: "0"}},
		{
			{Name: "net/ipv4/tcp_timestamps", Value: "0"}, {Name: "net/ipv4/tcp_sack", Value: "0"},
			{Name: "net/ipv4/tcp_window_scaling", Value: "0"},
		},
		{{Name: "net/ipv4/tcp_ecn", Value: "1"}},
		{{Name: "net/ipv4/tcp_mtu_probing", Value: "2"}},
		{{Name: "net/ipv4/tcp_recovery", Value: "0"}, {Name: "net/ipv4/tcp_early_retrans", Value: "0"}},
		{{Name: "net/ipv4/tcp_rmem", Value: "4096 8192 16384"}, {Name: "net/ipv4/tcp_wmem", Value: "4096 8192 16384"}},
	} {
		name := ""
		for _, s := range settings {
			name += s.Name[len("net/ipv4/"):] + "=" + s.Value + " "
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &wires{t: t, loss: 0.015, headers: &headerLoss{}}
			b := newBed(t, options{services: proxied, wrap: w.wrap})
			for _, ns := range []*netns.NS{b.consumer, b.provider} {
				if err := netns.SetSysctls(ns, settings...); err != nil {
					t.Fatal(err)
				}
			}
			b.serve(goPort, requireHeader)
			before := b.counters()
			b.send(crowd{visits: load(30, 150, 2000), atOnce: 32, ports: []uint16{goPort}, largest: 100_000, seed: 2})
			b.quiet()
			b.unmoved(before, corrupt...)
			b.unmoved(before, "TcpExtBeyondWindow")
			w.report()
		})
	}
}
