// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package steady

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Config says where a load is.
type Config struct {
	Client, Server             *netns.NS
	ClientDevice, ServerDevice string // TUN devices, up
	// From is an address that the client's namespace leads nowhere, From the services that are dialled, a flow for each.
	From netip.Addr
	To   []netip.AddrPort
	// Payload of each segment, in bytes.
	Payload int
}

// Load is flows that are open. Its methods are for one goroutine, but for Count.
type Load struct {
	cfg     Config
	client  *socket
	packets [][]byte // one of each flow
	next    int
}

// firstPort is the source port of the first flow.
const firstPort = 20000

// Open opens the flows.
func Open(cfg Config) (*Load, error) {
	client, err := openSocket(cfg.Client, cfg.ClientDevice, true)
	if err != nil {
		return nil, err
	}
	defer client.close()
	server, err := openSocket(cfg.Server, cfg.ServerDevice, true)
	if err != nil {
		return nil, err
	}
	defer server.close()
	l := &Load{cfg: cfg}
	for i, to := range cfg.To {
		p, err := handshake(client, server, netip.AddrPortFrom(cfg.From, uint16(firstPort+i)), to, cfg.Payload)
		if err != nil {
			return nil, fmt.Errorf("open flow %d: %w", i, err)
		}
		l.packets = append(l.packets, p)
	}
	// Those that listen would cost a copy of each packet.
	if l.client, err = openSocket(cfg.Client, cfg.ClientDevice, false); err != nil {
		return nil, err
	}
	return l, nil
}

// Close forgets the flows. The dataplane still has them.
func (l *Load) Close() { l.client.close() }

// Pacing of Run.
const (
	// step is how long Run sleeps when nothing is due.
	step = 100 * time.Microsecond
	// mostLate is how many packets Run sends late, at once. Of a thread that was kept from running longer than that the
	// dataplane is not to blame, nor may it be shown a burst that its load never has: what was due beyond is left out.
	mostLate = 4 * batch
)

// Run sends that many packets a second, flow by flow, until ctx ends, and returns how many it has sent.
func (l *Load) Run(ctx context.Context, rate float64) (sent uint64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun, skipped := time.Now(), uint64(0)
	for ctx.Err() == nil {
		due := uint64(rate*time.Since(begun).Seconds()) - sent - skipped
		if due > mostLate {
			skipped += due - mostLate
			due = mostLate
		}
		if due == 0 {
			pause := unix.NsecToTimespec(step.Nanoseconds())
			unix.Nanosleep(&pause, nil)
			continue
		}
		n := min(int(due), batch)
		if err := l.send(n); err != nil {
			return sent, err
		}
		sent += uint64(n)
	}
	return sent, nil
}

// send sends n packets.
func (l *Load) send(n int) error {
	var packets [batch][]byte
	for i := range n {
		packets[i] = l.packets[l.next]
		l.next = (l.next + 1) % len(l.packets)
	}
	return l.client.send(packets[:n])
}
