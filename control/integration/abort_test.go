// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// TestAborts has one side reset its connections at any point while data of its own is lost on the way. Resets themselves
// and what the other side says are not lost, so it must get rid of every connection, though many a reset reaches it
// with a number that it does not expect, whereupon it asks again.
func TestAborts(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		for aborting, farPort := range map[string]string{"client": providerPort, "server": consumerPort} {
			t.Run(fmt.Sprintf("%s, proxy %v", aborting, proxy), func(t *testing.T) {
				b := newBed(t, options{
					services: []service{{plainPort, vpc.ProxyProtocol{Enabled: proxy}}},
					wrap: func(id string, p port.Port) port.Port {
						if id == farPort {
							return loseData(t, p)
						}
						return p
					},
				})
				client, server := aborts, swallows
				if aborting == "server" {
					client, server = swallows, aborts
				}
				b.each(plainPort, server)
				var all sync.WaitGroup
				for worker := range 16 {
					r := rand.New(rand.NewPCG(1, uint64(worker)))
					all.Go(func() {
						for range load(5, 20, 200) {
							c, err := b.tryDial(b.Context(), plainPort, hosts[worker%len(hosts)])
							if err == nil {
								client(c, r)
							} else if !errors.Is(err, unix.ECONNRESET) { // as early as that, a server may abort as well
								t.Error(err)
							}
						}
					})
				}
				all.Wait()
				b.closed()
			})
		}
	}
}

// loseData impairs what is sent to a port, but for handshakes and resets.
func loseData(t *testing.T, p port.Port) port.Port {
	i, err := port.Impair(p, port.ImpairConfig{Seed: 1, Tx: port.Impairment{Loss: 0.3, Filter: func(packet []byte) bool {
		ip := wire.IPv4(packet)
		tcp := wire.TCP(packet[ip.HeaderLen():])
		return tcp.Flags()&(wire.TCPSyn|wire.TCPRst) == 0
	}}})
	if err != nil {
		t.Error(err)
		return p
	}
	return i
}

// each starts a server that has serve do what there is to do with a connection, the closing included.
func (b *bed) each(port uint16, serve func(*net.TCPConn, *rand.Rand)) {
	listener := b.listen(port)
	go func() {
		for i := uint64(0); ; i++ {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(c.(*net.TCPConn), rand.New(rand.NewPCG(2, i)))
		}
	}()
}

// swallows reads until the end and says nothing, not even to find out whether the other side lives.
func swallows(c *net.TCPConn, _ *rand.Rand) {
	defer c.Close()
	c.SetKeepAlive(false)
	c.SetDeadline(time.Time{})
	io.Copy(io.Discard, c)
}

// aborts may write a little, in one piece or two, and resets the connection.
func aborts(c *net.TCPConn, r *rand.Rand) {
	defer c.Close()
	for range r.IntN(3) {
		c.Write(make([]byte, 1+r.IntN(20_000)))
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond) // varies what is under way; nothing waits for it
		}
	}
	c.SetLinger(0) // makes Close send RST
}
