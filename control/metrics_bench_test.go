// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// BenchmarkMetrics carries packets between memory ports while nobody scrapes the daemon, and while somebody does ten times
// a second, which is a hundred times as often as usual. What a scrape costs must not be above 1 ns a packet.
func BenchmarkMetrics(b *testing.B) {
	for _, c := range []struct {
		name  string
		every time.Duration
	}{{"unread", 0}, {"scraped", 100 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			_, e, _, address := serveMetrics(b)
			replay(b, e)
			stop := make(chan struct{})
			done := make(chan int)
			go func() { done <- scrape(address, c.every, stop) }()
			b.ResetTimer()
			for now, sent := time.Second, uint64(0); sent < uint64(b.N); now += time.Microsecond {
				for range 100 {
					e.Turn(now)
				}
				sent = e.Stats().Workers[0].Packets
			}
			b.StopTimer()
			close(stop)
			b.ReportMetric(float64(<-done)/b.Elapsed().Seconds(), "scrapes/s")
		})
	}
}

// replay gives the engine ports that never run dry.
func replay(b *testing.B, e steppedEngine) {
	var packets []*port.Buffer
	for i := range 64 {
		buf := port.NewBuffer()
		buf.Set(syn(uint16(2000 + i)))
		packets = append(packets, buf)
	}
	ports := map[string]port.Port{dataplane.ProbePortID: port.NewMem(port.MemConfig{Name: dataplane.ProbePortID})}
	for _, p := range reference().Ports {
		cfg := port.MemConfig{Name: p.ID, Discard: true}
		if p.ID == "consumer-a" {
			cfg.Replay = packets
		}
		ports[p.ID] = port.NewMem(cfg)
	}
	if err := e.Apply(reference(), ports); err != nil {
		b.Fatal(err)
	}
}

// scrape asks for the metrics until stop is closed, and returns how often. With every 0 it never does.
func scrape(address string, every time.Duration, stop <-chan struct{}) (times int) {
	if every == 0 {
		<-stop
		return 0
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return times
		case <-tick.C:
			if r, err := http.Get("http://" + address + "/metrics"); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body.Close()
				times++
			}
		}
	}
}
