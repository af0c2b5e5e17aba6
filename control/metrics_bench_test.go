// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"io"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// BenchmarkMetrics carries packets between memory ports, by turns while nobody scrapes the daemon and while somebody does
// ten times a second, which is a hundred times as often as usual: the two share what else the machine does. The times are
// those of the carrying thread on a processor, and the medians of all blocks. Scraping must not add more than 1 ns.
func BenchmarkMetrics(b *testing.B) {
	const block = 1 << 20 // packets; about 200 ms
	_, e, _, address := serveMetrics(b)
	replay(b, e)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var times [2][]float64 // unread and scraped, in nanoseconds a packet
	scrapes := 0
	for i := 0; i < max(b.N/block, 8); i++ {
		stop, done := make(chan struct{}), make(chan int)
		go func() { done <- scrape(address, i%2 == 1, stop) }()
		began, before := threadTime(b), e.Stats().Workers[0].Packets
		sent := uint64(0)
		for now := time.Second; sent < block; now += time.Microsecond {
			for range 100 {
				e.Turn(now)
			}
			sent = e.Stats().Workers[0].Packets - before
		}
		times[i%2] = append(times[i%2], float64(threadTime(b)-began)/float64(sent))
		close(stop)
		scrapes += <-done
	}
	for i, unit := range []string{"unread-ns/packet", "scraped-ns/packet"} {
		slices.Sort(times[i])
		b.ReportMetric(times[i][len(times[i])/2], unit)
	}
	b.ReportMetric(float64(scrapes), "scrapes")
	b.ReportMetric(0, "ns/op")
}

// threadTime is how long the calling thread has run on a processor.
func threadTime(b *testing.B) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		b.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// BenchmarkScrape is one scrape of a daemon with a few objects, over HTTP, the client's side included.
func BenchmarkScrape(b *testing.B) {
	_, _, _, address := serveMetrics(b)
	for b.Loop() {
		fetch(address)
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

// scrape asks for the metrics ten times a second, if at all, until stop is closed. It returns how often it did.
func scrape(address string, ask bool, stop <-chan struct{}) (times int) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return times
		case <-tick.C:
			if ask && fetch(address) {
				times++
			}
		}
	}
}

func fetch(address string) bool {
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}
