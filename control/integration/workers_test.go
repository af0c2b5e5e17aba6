// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// TestMultiWorker has two workers, between which the kernel divides packets as the dataplane tells it to, carry many
// connections and a lot of bytes at once.
func TestMultiWorker(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBed(t, options{services: proxied, off: m.off, workers: 2})
			if drops := b.twoWorkers(); len(drops) > 0 {
				t.Errorf("the dataplane dropped %v", drops)
			}
			for i, w := range b.daemon.Stats().Workers {
				if w.Packets == 0 || w.Strays != 0 {
					t.Errorf("worker %d has received %d packets, %d of which were the other's", i, w.Packets, w.Strays)
				}
			}
		})
	}
	// Here every packet comes to the wrong worker, which hands it over.
	t.Run("strays", func(t *testing.T) {
		b := newBed(t, options{services: proxied, workers: 2, wrap: func(id string, p port.Port) port.Port {
			if id == dataplane.ProbePortID {
				return p
			}
			return crossed{p}
		}})
		drops := b.twoWorkers()
		full := dataplane.InboxFull.String()
		if len(drops) > 1 || len(drops) == 1 && drops[full] == 0 {
			t.Errorf("the dataplane dropped %v, want none but %s", drops, full)
		}
		for i, w := range b.daemon.Stats().Workers {
			if w.Packets == 0 || w.Strays != w.Packets {
				t.Errorf("worker %d has received %d packets, %d of which were the other's", i, w.Packets, w.Strays)
			}
		}
	})
}

// twoWorkers sends a crowd and a bulk through the endpoint at the same time, and returns what was dropped.
func (b *bed) twoWorkers() map[string]uint64 {
	b.Helper()
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
	for i, w := range b.daemon.Stats().Workers {
		b.Logf("worker %d: %+v", i, w)
	}
	return b.drops(stats)
}

// crossed gives the packets of two queues to the other's worker.
type crossed struct{ port.Port }

// Receive is part of port.Port.
func (c crossed) Receive(queue int, bufs []*port.Buffer) (int, error) {
	return c.Port.Receive(1-queue, bufs)
}

// FD is part of port.Port.
func (c crossed) FD(queue int) int { return c.Port.FD(1 - queue) }
