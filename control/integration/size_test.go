// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

const plainPort = 8080

var plainService = service{port: plainPort}

// TestMTU sends segments of 8500 and of 8501 bytes on a connection of real kernels, both ways.
func TestMTU(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBed(t, options{services: []service{plainService}, off: m.off})
			near, far := watch(t, b.consumer), watch(t, b.provider)
			l := b.listen(plainPort)
			client := b.dial(plainPort)
			server := b.accept(l)
			b.exchange(client, server, 1)
			b.exchange(server, client, 1)

			before, stats := b.counters(), b.daemon.Stats()
			b.oversize(b.consumer, near, far)
			b.oversize(b.provider, far, near)
			if drops := b.drops(stats); drops[dataplane.TooBig.String()] != 2 || len(drops) != 1 {
				t.Errorf("the dataplane dropped %v, want 2 packets too big", drops)
			}
			b.unmoved(before, "IcmpInMsgs", "IcmpOutMsgs", "IpFragCreates", "IpReasmReqds")

			// With timestamps an MSS of 8460 leaves 8448 bytes, and the packet has 8500: from a kernel they pass.
			const full = dataplane.MaxMSS - 12
			b.exchange(client, server, full)
			b.exchange(server, client, full)
			for _, end := range []*capture{near, far} {
				for _, out := range []bool{false, true} {
					end.await(t, "segment of a full 8500 bytes", func(p captured) bool {
						return p.out == out && p.TotalLen() == dataplane.EndpointMTU && p.payload() == full
					})
				}
			}
		})
	}
}

// oversize injects two segments as if the side's socket had sent them, one as long as may pass and one longer by a byte,
// and waits for the one that passes: the other was before it.
func (b *bed) oversize(ns *netns.NS, here, there *capture) {
	b.Helper()
	// The byte that the side has sent says where it stands.
	sent := here.await(b, "segment of one byte", func(p captured) bool { return p.out && p.payload() == 1 })
	tcp := sent.tcp()
	// These have the numbers of old segments: their receiver answers, and goes on as before.
	s := segment{
		from: netip.AddrPortFrom(netip.AddrFrom4(sent.Src()), tcp.SrcPort()),
		to:   netip.AddrPortFrom(netip.AddrFrom4(sent.Dst()), tcp.DstPort()),
		ack:  tcp.Ack(), flags: wire.TCPAck | wire.TCPPsh,
	}
	for _, total := range []int{dataplane.EndpointMTU + 1, dataplane.EndpointMTU} {
		s.payload = total - wire.IPv4MinLen - wire.TCPMinLen
		s.seq = tcp.Seq() - uint32(s.payload) - 1000
		inject(b, ns, s.packet())
	}
	there.await(b, "segment of 8500 bytes", func(p captured) bool { return !p.out && p.TotalLen() == dataplane.EndpointMTU })
	if n := len(there.find(func(p captured) bool { return !p.out && p.TotalLen() > dataplane.EndpointMTU })); n != 0 {
		b.Errorf("%d packets of more than 8500 bytes have passed", n)
	}
}

// exchange sends n bytes from one end to the other in one write.
func (b *bed) exchange(from, to net.Conn, n int) {
	b.Helper()
	if _, err := from.Write(make([]byte, n)); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
		b.Fatal(err)
	}
}

// TestMSS compares what both kernels hold the path's MSS to be with what the endpoint makes of it.
func TestMSS(t *testing.T) {
	tests := []struct {
		name                       string
		proxy                      bool
		consumerMTU, providerMTU   int
		fromConsumer, fromProvider int // largest segment either side sends
	}{
		{"jumbo", false, 9001, 9001, 8460, 8460},
		{"jumbo with header", true, 9001, 9001, 8360, 8460},
		{"Ethernet target", false, 9001, 1500, 1460, 1460},
		{"Ethernet target with header", true, 9001, 1500, 1360, 1460},
		{"Ethernet client", false, 1500, 9001, 1460, 1460},
		{"Ethernet client with header", true, 1500, 9001, 1460, 1460},
		{"exact", false, 8500, 8500, 8460, 8460},
		{"small target with header", true, 9001, 576, 436, 536},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t, options{services: []service{{plainPort, vpc.ProxyProtocol{Enabled: test.proxy}}}})
			for ns, mtu := range map[*netns.NS]int{b.consumer: test.consumerMTU, b.provider: test.providerMTU} {
				if err := netns.SetMTU(ns, "eni0", mtu); err != nil {
					t.Fatal(err)
				}
				// Timestamps would take 12 bytes off every segment.
				if err := netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv4/tcp_timestamps", Value: "0"}); err != nil {
					t.Fatal(err)
				}
			}
			l := b.listen(plainPort)
			client := b.dial(plainPort)
			server := b.accept(l)
			for _, end := range []struct {
				name string
				conn *net.TCPConn
				want int
			}{{"consumer", client, test.fromConsumer}, {"provider", server, test.fromProvider}} {
				maxseg, info := b.segments(end.conn)
				if maxseg != end.want || int(info.Snd_mss) != end.want {
					t.Errorf("%s: TCP_MAXSEG %d, tcpi_snd_mss %d, want %d", end.name, maxseg, info.Snd_mss, end.want)
				}
			}
		})
	}
}

// segments is what the kernel says of the size of a connection's segments.
func (b *bed) segments(c *net.TCPConn) (maxseg int, info *unix.TCPInfo) {
	b.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	var err1, err2 error
	err = raw.Control(func(fd uintptr) {
		maxseg, err1 = unix.GetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_MAXSEG)
		info, err2 = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
	})
	if err != nil || err1 != nil || err2 != nil {
		b.Fatal(err, err1, err2)
	}
	return maxseg, info
}
