// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// TestAborts has clients that reset their connections at any point while data of theirs is lost on the way. Resets
// themselves and answers are not lost, so the server must get rid of every connection, though many a reset reaches it
// with a number that it does not expect, whereupon it asks the client again.
func TestAborts(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxy %v", proxy), func(t *testing.T) {
			data := port.Impairment{Loss: 0.3, Filter: func(packet []byte) bool {
				ip := wire.IPv4(packet)
				tcp := wire.TCP(packet[ip.HeaderLen():])
				return tcp.Flags()&(wire.TCPSyn|wire.TCPRst) == 0
			}}
			b := newBed(t, options{
				services: []service{{plainPort, vpc.ProxyProtocol{Enabled: proxy}}},
				wrap: func(id string, p port.Port) port.Port {
					if id != providerPort {
						return p
					}
					i, err := port.Impair(p, port.ImpairConfig{Seed: 1, Tx: data})
					if err != nil {
						t.Error(err)
						return p
					}
					return i
				},
			})
			b.swallow(plainPort)
			var all sync.WaitGroup
			for worker := range 16 {
				r := rand.New(rand.NewPCG(1, uint64(worker)))
				all.Go(func() {
					for range load(5, 20, 200) {
						if err := b.abort(r); err != nil {
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

// swallow starts a server that reads until the end and says nothing, not even to find out whether the client lives.
func (b *bed) swallow(port uint16) {
	listener := b.listen(port)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.(*net.TCPConn).SetKeepAlive(false)
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
}

// abort connects, may write a little in one piece or two, and resets the connection.
func (b *bed) abort(r *rand.Rand) error {
	c, err := b.tryDial(b.Context(), plainPort, hosts[r.IntN(len(hosts))])
	if err != nil {
		return err
	}
	defer c.Close()
	for range r.IntN(3) {
		if _, err := c.Write(make([]byte, 1+r.IntN(20_000))); err != nil {
			return err
		}
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond) // varies what is under way; nothing waits for it
		}
	}
	return c.SetLinger(0) // makes Close send RST
}
