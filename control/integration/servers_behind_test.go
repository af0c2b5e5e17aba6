// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import "testing"

// TestServersBehindEndpoint sends thousands of connections to servers that read the PROXY protocol header, while the
// wires on both sides lose, double and reorder segments, those with the header more than others.
func TestServersBehindEndpoint(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // much of the time is waiting for retransmissions
			behindEndpoint(t, &wires{t: t, loss: 0.015, headers: &headerLoss{}}, options{off: m.off})
		})
	}
	// Here the dataplane sees super-packets, and retransmissions that are cut and merged in other ways.
	t.Run("on, super-packets", func(t *testing.T) {
		t.Parallel()
		behindEndpoint(t, &wires{t: t, loss: 0.02, coarse: true}, options{})
	})
	t.Run("on, two workers", func(t *testing.T) {
		t.Parallel()
		behindEndpoint(t, &wires{t: t, loss: 0.015, headers: &headerLoss{}}, options{workers: 2})
	})
}

func behindEndpoint(t *testing.T, w *wires, o options) {
	o.services, o.wrap = proxied, w.wrap
	b := newBed(t, o)
	b.startServers()
	before := b.counters()
	b.send(crowd{
		visits: load(90, 900, 3000), atOnce: 128,
		ports: []uint16{nginxPort, haproxyPort, goPort}, largest: 100_000, seed: 1,
	})
	b.quiet()
	b.unmoved(before, corrupt...)
	b.unmoved(before, "TcpExtBeyondWindow")
	// A SYN-ACK that comes again, because the ACK was lost, may be an error to Linux; there are no others.
	for side, now := range b.counters() {
		if errs, again := now["TcpInErrs"], now["TcpExtTCPSYNChallenge"]; errs > again {
			t.Errorf("side %d: TcpInErrs is %d, of which only %d for segments with SYN", side, errs, again)
		}
	}
	w.report()
}
