// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// TestGatewayWorkers has two workers carry many flows at once through devices with a queue for each. The kernel is told
// which queue a flow's packets go to at either port, so that hardly any of them come to the wrong worker.
func TestGatewayWorkers(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			g := newGatewayBed(t, options{off: m.off, workers: 2})
			before := g.daemon.Stats()
			g.burst()
			g.nothingLost(before)
			if packets, strays := g.received(before); strays*1000 > packets {
				t.Errorf("of %d packets %d came to the wrong worker, want at most one of a thousand", packets, strays)
			}
		})
	}
	// Here every packet comes to the wrong worker, which hands it over.
	t.Run("strays", func(t *testing.T) {
		g := newGatewayBed(t, options{workers: 2, wrap: func(id string, p port.Port) port.Port {
			if id == dataplane.ProbePortID {
				return p
			}
			return crossed{p}
		}})
		before := g.daemon.Stats()
		g.burst()
		drops, full := g.drops(before), dataplane.InboxFull.String()
		if len(drops) > 1 || len(drops) == 1 && drops[full] == 0 {
			t.Errorf("the dataplane dropped %v, want none but %s", drops, full)
		}
		if packets, strays := g.received(before); strays*1000 < packets*999 {
			t.Errorf("of %d packets only %d came to the wrong worker", packets, strays)
		}
	})
}

// burst sends a crowd and a bulk through the appliance at the same time.
func (g *gatewayBed) burst() {
	g.Helper()
	g.startServer()
	counters := g.counters()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.send(crowd{
			visits: load(90, 600, 3000), atOnce: 32, from: hosts[:1], ports: []uint16{sourcePort}, largest: 1_000_000, seed: 1,
		})
	}()
	size := load[int64](32<<20, 128<<20, 1<<30)
	g.upload(sourcePort, size)
	g.download(sourcePort, size)
	<-done
	g.closed()
	g.unmoved(counters, corrupt...)
	g.unmoved(counters, "TcpExtBeyondWindow")
}

// received is how many packets the workers have received since, and how many of them were the other's. Each worker must
// have had enough to do for that to mean something.
func (g *gatewayBed) received(before dataplane.Stats) (packets, strays uint64) {
	g.Helper()
	const enough = 1000
	for i, w := range g.daemon.Stats().Workers {
		n, s := w.Packets-before.Workers[i].Packets, w.Strays-before.Workers[i].Strays
		g.Logf("worker %d: %d packets, %d of them the other's", i, n, s)
		if n < enough {
			g.Errorf("worker %d has received %d packets, want %d at least", i, n, enough)
		}
		packets += n
		strays += s
	}
	return packets, strays
}
