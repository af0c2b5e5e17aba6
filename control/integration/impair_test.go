// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// wires impairs the ports of a bed, and counts what it has done.
type wires struct {
	t testing.TB
	// loss is how likely a segment is lost, on each of the four ways; duplicates are half as likely, and segments that
	// are overtaken twice.
	loss float64
	// coarse loses what a device hands up or takes, super-packets and all, and does nothing else. Otherwise they are cut
	// before the dataplane sees them.
	coarse bool
	// headers loses, of some connections, the first segments with the PROXY protocol header.
	headers *headerLoss

	impaired []*port.Impaired
	coarsed  []*coarse
}

// wrap is control.Options.WrapPort.
func (w *wires) wrap(id string, p port.Port) port.Port {
	if id == dataplane.ProbePortID {
		return p
	}
	seed := uint64(len(w.impaired) + len(w.coarsed) + 1)
	if id == providerPort && w.headers != nil {
		p = w.impair(p, port.ImpairConfig{Seed: seed, Tx: port.Impairment{Loss: 1, Filter: w.headers.lose}})
	}
	if w.coarse {
		c := &coarse{Port: p, loss: w.loss, rng: rand.New(rand.NewPCG(seed, 0))}
		w.coarsed = append(w.coarsed, c)
		return c
	}
	way := port.Impairment{Loss: w.loss, Duplicate: w.loss / 2, Reorder: 2 * w.loss}
	return w.impair(p, port.ImpairConfig{Seed: seed, Rx: way, Tx: way})
}

func (w *wires) impair(p port.Port, c port.ImpairConfig) port.Port {
	i, err := port.Impair(p, c)
	if err != nil {
		w.t.Error(err)
		return p
	}
	w.impaired = append(w.impaired, i)
	return i
}

// report logs what was done, and fails the test if that was nothing.
func (w *wires) report() {
	w.t.Helper()
	var sum port.ImpairCounts
	for _, i := range w.impaired {
		rx, tx := i.Counts()
		for _, c := range []port.ImpairCounts{rx, tx} {
			sum.Packets += c.Packets
			sum.Lost += c.Lost
			sum.Duplicated += c.Duplicated
			sum.Reordered += c.Reordered
		}
	}
	for _, c := range w.coarsed {
		sum.Packets += c.packets.Load()
		sum.Lost += c.lost.Load()
	}
	headers := 0
	if w.headers != nil {
		headers = w.headers.lost
	}
	w.t.Logf("of %d packets %d were lost, %d doubled, %d overtaken; of those lost %d bore a header chosen for that",
		sum.Packets, sum.Lost, sum.Duplicated, sum.Reordered, headers)
	if sum.Lost == 0 || w.headers != nil && headers == 0 {
		w.t.Error("nothing was lost")
	}
}

// headerLoss chooses segments with a PROXY protocol header: the first of every third connection, and the first two of
// every ninth.
type headerLoss struct {
	mu   sync.Mutex
	seen map[[2]uint16]int // by NAT port and target port
	lost int
}

func (h *headerLoss) lose(packet []byte) bool {
	ip := wire.IPv4(packet)
	tcp := wire.TCP(packet[ip.HeaderLen():])
	if !bytes.HasPrefix(tcp[tcp.HeaderLen():], proxySignature) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[[2]uint16]int{}
	}
	flow := [2]uint16{tcp.SrcPort(), tcp.DstPort()}
	h.seen[flow]++
	lose := h.seen[flow] == 1 && flow[0]%3 == 0 || h.seen[flow] == 2 && flow[0]%9 == 0
	if lose {
		h.lost++
	}
	return lose
}

// proxySignature begins a PROXY protocol v2 header.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// coarse loses packets without looking at them.
type coarse struct {
	port.Port
	loss float64

	mu            sync.Mutex // of rng
	rng           *rand.Rand
	packets, lost atomic.Uint64
}

// Receive is part of port.Port.
func (c *coarse) Receive(queue int, bufs []*port.Buffer) (int, error) {
	n, err := c.Port.Receive(queue, bufs)
	kept := 0
	for i := range n {
		if !c.lose() {
			bufs[kept], bufs[i] = bufs[i], bufs[kept]
			kept++
		}
	}
	return kept, err
}

// Send is part of port.Port. What gets lost counts as taken.
func (c *coarse) Send(queue int, bufs []*port.Buffer) int {
	taken := 0
	for i := range bufs {
		if c.lose() {
			taken++
		} else {
			taken += c.Port.Send(queue, bufs[i:i+1])
		}
	}
	return taken
}

func (c *coarse) lose() bool {
	c.packets.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rng.Float64() >= c.loss {
		return false
	}
	c.lost.Add(1)
	return true
}
