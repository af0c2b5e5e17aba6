// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"
)

// TestMultiWorker has two workers, between which the kernel divides packets as the dataplane tells it to, carry many
// connections and a lot of bytes at once.
func TestMultiWorker(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBed(t, options{services: proxied, off: m.off, workers: 2})
			b.startServers()
			before, stats := b.counters(), b.daemon.Stats()
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.send(crowd{
					visits: load(90, 600, 3000), atOnce: 32,
					ports: []uint16{nginxPort, haproxyPort, goPort}, largest: 100_000, seed: 1,
				})
			}()
			size := load[int64](32<<20, 128<<20, 1<<30)
			b.upload(goPort, size)
			b.download(goPort, size)
			<-done
			b.quiet()
			b.unmoved(before, corrupt...)
			b.unmoved(before, "TcpExtBeyondWindow")
			if drops := b.drops(stats); len(drops) > 0 {
				t.Errorf("the dataplane dropped %v", drops)
			}
			for i, w := range b.daemon.Stats().Workers {
				t.Logf("worker %d: %+v", i, w)
				if w.Packets == 0 {
					t.Errorf("worker %d has carried nothing", i)
				}
			}
		})
	}
}
