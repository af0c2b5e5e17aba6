// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConnectionsChurn opens and closes many short connections. None may be reset, and with ISTHMUS_LONG=1 so many
// follow each other, with the rest that their NAT ports need, that a leak of ports would use them up.
func TestConnectionsChurn(t *testing.T) {
	b := newBed(t, options{services: []service{plainService}})
	b.each(plainPort, echoesOnce)
	before, stats := b.counters(), b.daemon.Stats()
	each, rounds := load(300, 5000, 25_000), load(1, 1, 3)
	for range rounds {
		b.churn(each, 64)
		if rounds > 1 {
			b.forgotten()
		}
	}
	b.quiet()
	b.unmoved(before, corrupt...)
	b.unmoved(before, outOfWindow...)
	b.unmoved(before, "TcpEstabResets", "TcpAttemptFails", "TcpExtListenOverflows", "TcpExtListenDrops")
	f := b.daemon.Stats().Flows
	f.New -= stats.Flows.New
	// On a machine so busy that the server sends its FIN again, the second one may find the client's socket gone, whose
	// kernel then answers with a reset: a few are the kernels' affair, none may be ours or the server's.
	if f.New != uint64(each*rounds) || f.OwnResets+f.TargetResets+f.PortAllocationErrors != 0 || f.ClientResets > uint64(each*rounds/500) {
		t.Errorf("%d connections are %+v", each*rounds, f)
	}
	if drops := b.drops(stats); len(drops) > 0 {
		t.Errorf("the dataplane dropped %v", drops)
	}
}

// echoesOnce sends back the first bytes of a connection and closes it.
func echoesOnce(c *net.TCPConn, _ *rand.Rand) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 100)
	if n, err := c.Read(buf); err == nil {
		c.Write(buf[:n])
	}
}

// churn makes n connections to the plain service, some at once.
func (b *bed) churn(n, atOnce int) {
	b.Helper()
	begun := time.Now()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if err := b.brief(i); err != nil && failed.Add(1) < 10 {
					b.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	b.Logf("%d connections, %d failed, %.0f a second", n, failed.Load(), float64(n)/time.Since(begun).Seconds())
}

// brief makes one connection that carries one message each way; the server closes it first.
func (b *bed) brief(i int) error {
	c, err := b.tryDial(b.Context(), plainPort, hosts[i%len(hosts)])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := echo(c, c, fmt.Sprint("connection ", i)); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
		return fmt.Errorf("%d bytes and %v behind the echo", n, err)
	}
	return nil
}

// forgotten waits until the dataplane has no flow any more, whose NAT ports have then had most of their rest.
func (b *bed) forgotten() {
	b.Helper()
	eventually(b, 2*patience, func() error {
		if n := b.daemon.Stats().Flows.Active; n != 0 {
			return fmt.Errorf("%d flows are still there", n)
		}
		return nil
	})
}
