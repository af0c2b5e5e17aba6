// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// A GWLB node could be a UDP socket of the kernel's instead of a port. Here both exchange the same GENEVE datagrams with
// the same peer, which stands for an appliance: a socket in another namespace that sends all of them back.
//
//	node: TUN, or socket -- router of the appliances' VPC -- veth -- peer

// Addresses of the rig. The router owns the address of the sockets, nobody that of the TUN's node.
var (
	tunNodeAddr = [4]byte{10, 9, 0, 5}
	udpNodeAddr = [4]byte{10, 9, 1, 1}
	peerAddr    = [4]byte{10, 9, 1, 2}
)

// firstFlowPort is the source port of the first flow; the others follow.
const firstFlowPort = 50000

// gatewayRound is what a node sends in one round: the same to the peer for each flow, and what comes back.
type gatewayRound struct {
	name   string
	inner  int // bytes of each inner packet
	whole  int // datagrams that go out together
	rounds int // how often they do, for each flow
	flows  int // each with a source port of its own
}

var gatewayRounds = []gatewayRound{
	{"8500", 8500, 7, 8, 1},
	{"64", 64, 64, 8, 1},
	{"8500/single", 8500, 1, 1, 64},
	{"64/single", 64, 1, 1, 64},
}

// datagrams is how many of them make a round.
func (x *gatewayRound) datagrams() int { return x.whole * x.rounds * x.flows }

// size is that of one datagram's payload.
func (x *gatewayRound) size() int { return wire.GeneveAWSLen + x.inner }

// pieces are the payloads of the datagrams that go out together, in the pieces that encapsulation makes of them: headers
// and payload of each where a super-packet is cut, and else one.
func (x *gatewayRound) pieces() (pieces [][]byte) {
	for i := range x.whole {
		b := make([]byte, x.size())
		wire.PutGeneveAWS(b, wire.EtherTypeIPv4, 1, 0, 1)
		for j := range b[wire.GeneveAWSLen:] {
			b[wire.GeneveAWSLen+j] = byte(i*7 + j*13 + j>>8)
		}
		if x.inner > 1000 {
			const headers = wire.GeneveAWSLen + 52
			pieces = append(pieces, b[:headers], b[headers:])
		} else {
			pieces = append(pieces, b)
		}
	}
	return pieces
}

// gatewayNode sends and receives GENEVE. It belongs to one goroutine, on a thread of its own.
type gatewayNode interface {
	// send sends all datagrams of a round.
	send() error
	// receive takes what has come, and calls each for every datagram unless it is nil. It returns how many there were.
	receive(each func([]byte)) (int, error)
	// fd is readable when there is something to receive.
	fd() int
}

// gatewayRig is the namespaces, the peer, and the nodes to compare.
type gatewayRig struct {
	x     *gatewayRound
	nodes []gatewayNode
	names []string
	peer  *echoPeer
}

func newGatewayRig(t testing.TB, x *gatewayRound) *gatewayRig {
	t.Helper()
	router, far := newNamespace(t), newNamespace(t)
	p := openTUN(router, Config{Name: "node", Device: "node"}, "10.9.0.1/24")
	if o := p.Offloads(); !o.USO {
		t.Skipf("UDP super-packets are off: %v", o.Reasons)
	}
	joinByVeth(t, router, far)
	router.do(enableForwarding)
	g := &gatewayRig{x: x, names: []string{"tun", "udp", "raw"}}
	router.do(func() error {
		bound, err := newBoundNode(t, x)
		if err != nil {
			return err
		}
		raw, err := newRawNode(t, x, bound.in)
		g.nodes = []gatewayNode{newTUNNode(p, x), bound, raw}
		return err
	})
	far.do(func() (err error) {
		g.peer, err = newEchoPeer(t, x.flows)
		return err
	})
	return g
}

// round has a node send a round and the peer send it back, one after the other, on the calling thread. It returns the
// times on the processor that sending, echoing and receiving took, with what the kernel did inside their calls.
func (g *gatewayRig) round(node gatewayNode, each func([]byte)) (took [3]time.Duration, err error) {
	begun := threadCPU()
	lap := func(i int) {
		now := threadCPU()
		took[i], begun = now-begun, now
	}
	if err := node.send(); err != nil {
		return took, err
	}
	lap(0)
	want := g.x.datagrams()
	if err := awaitDatagrams(g.peer.in.descriptor, want, g.peer.echo); err != nil {
		return took, fmt.Errorf("peer: %w", err)
	}
	lap(1)
	err = awaitDatagrams(node.fd(), want, func() (int, error) { return node.receive(each) })
	lap(2)
	return took, err
}

// awaitDatagrams calls take until it has returned so many.
func awaitDatagrams(fd, want int, take func() (int, error)) error {
	const patience = 2000 // ms
	for got := 0; ; {
		n, err := take()
		if err != nil {
			return err
		}
		if got += n; got >= want {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, patience); n == 0 && err == nil {
			return fmt.Errorf("%d datagrams have come, want %d", got, want)
		}
	}
}

// threadCPU is the time that the calling thread has had on processors.
func threadCPU() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err) // the clock is older than all kernels we run on
	}
	return time.Duration(now.Nano())
}

// TestGatewayNodes has each kind of node get back from the peer what it sent.
func TestGatewayNodes(t *testing.T) {
	for _, x := range gatewayRounds {
		t.Run(x.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			g := newGatewayRig(t, &x)
			var want [][]byte
			whole := slices.Concat(x.pieces()...)
			for at := range slices.Chunk(whole, x.size()) {
				want = append(want, at)
			}
			for i, node := range g.nodes {
				seen := 0
				_, err := g.round(node, func(b []byte) {
					if !bytes.Equal(b, want[seen%x.whole]) {
						t.Errorf("%s: datagram %d of %d bytes is not the one that was sent", g.names[i], seen, len(b))
					}
					seen++
				})
				if err != nil || seen != x.datagrams() {
					t.Errorf("%s: %d datagrams came back of %d: %v", g.names[i], seen, x.datagrams(), err)
				}
			}
		})
	}
}

// BenchmarkGatewayNode takes turns between the nodes, so that what else the machine does hits all alike: an iteration is a
// round of each. Its figures are medians of times on the processor, since a single delay outweighs many rounds.
func BenchmarkGatewayNode(b *testing.B) {
	for _, x := range gatewayRounds {
		b.Run(x.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			g := newGatewayRig(b, &x)
			laps := make([][3][]time.Duration, len(g.nodes))
			for b.Loop() {
				for i, node := range g.nodes {
					took, err := g.round(node, nil)
					if err != nil {
						b.Fatalf("%s: %v", g.names[i], err)
					}
					for j := range took {
						laps[i][j] = append(laps[i][j], took[j])
					}
				}
			}
			for i := range laps {
				g.report(b, g.names[i], &laps[i])
			}
		})
	}
}

// report says what a datagram cost a node, and what the bytes of inner packets did.
func (g *gatewayRig) report(b *testing.B, name string, laps *[3][]time.Duration) {
	var cost [3]float64 // ns a datagram
	for i, l := range laps {
		slices.Sort(l)
		cost[i] = float64(l[len(l)/2].Nanoseconds()) / float64(g.x.datagrams())
	}
	node := cost[0] + cost[2]
	b.ReportMetric(node, name+"-ns/datagram")
	b.Logf("%s: %.0f ns a datagram at the node (%.0f out, %.0f in), %.0f at the peer; %.2f Gbit/s, %.3f CPU s/GB",
		name, node, cost[0], cost[2], cost[1], 8*float64(g.x.inner)/node, node/float64(g.x.inner))
}

// joinByVeth connects the router and the peer's namespace, which has its default route there.
func joinByVeth(t testing.TB, router, far *namespace) {
	t.Helper()
	const near, there = "peer0", "eth0"
	if err := netns.CreateVethPair(router.ns, near, far.ns, there, netns.PortMTU); err != nil {
		t.Fatal(err)
	}
	router.do(func() error { return router.up(near, net.IP(udpNodeAddr[:]).String()+"/24") })
	far.do(func() error {
		if err := far.up(there, net.IP(peerAddr[:]).String()+"/24"); err != nil {
			return err
		}
		return far.routeVia("0.0.0.0/0", net.IP(udpNodeAddr[:]).String())
	})
}
