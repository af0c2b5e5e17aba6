// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance_test

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// balancer stands for a load balancer that a test speaks for: what it sends goes to the appliance as it is.
type balancer struct {
	*testing.T
	host *netns.NS
	port *port.TUN
}

func newBalancer(t *testing.T, o appliance.Options) *balancer {
	t.Helper()
	b := &bed{T: t, host: netnstest.New(t)}
	p := b.openPort(b.host, "node", port.Switches{}, netns.PortOptions{Addresses: []netip.Prefix{netip.PrefixFrom(inspector, 24)}})
	b.runAppliance(o)
	return &balancer{T: t, host: b.host, port: p.(*port.TUN)}
}

const sourcePort = 50123

// encapsulated is the packet to the appliance.
func encapsulated(g pkttest.Geneve) []byte {
	g.Src, g.Dst = netip.AddrPortFrom(node, sourcePort), netip.AddrPortFrom(inspector, wire.GenevePort)
	return g.Bytes()
}

func (b *balancer) send(packets ...[]byte) {
	b.Helper()
	for _, p := range packets {
		buf := port.NewBuffer()
		buf.Set(p)
		if b.port.Send(0, []*port.Buffer{buf}) != 1 {
			b.Fatal("the device takes no packet")
		}
	}
}

// sendSuper sends packets, which differ behind the outer headers alone and are of one length, as one.
func (b *balancer) sendSuper(packets ...[]byte) {
	b.Helper()
	const headers = wire.IPv4MinLen + wire.UDPLen
	all := slices.Clone(packets[0][:headers])
	for _, p := range packets {
		all = append(all, p[headers:]...)
	}
	ip, udp := wire.IPv4(all), wire.UDP(all[wire.IPv4MinLen:])
	ip.RewriteTotalLen(len(all))
	udp.SetLength(uint16(len(udp)))
	udp.SetChecksum(wire.Fold(wire.PseudoSum4(ip.Src(), ip.Dst(), wire.ProtoUDP, uint16(len(udp)))))
	buf := port.NewBuffer()
	buf.Set(all)
	buf.Offload = port.Offload{Flags: port.NeedsCsum, GSOType: port.GSOUDP, HdrLen: headers,
		GSOSize: uint16(len(packets[0]) - headers), CsumStart: wire.IPv4MinLen, CsumOffset: 6}
	if b.port.Send(0, []*port.Buffer{buf}) != 1 {
		b.Fatal("the device takes no super-packet")
	}
}

// receive is the next packet from the appliance, and how many datagrams it stands for.
func (b *balancer) receive() (packet []byte, datagrams int) {
	b.Helper()
	buf := port.NewBuffer()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		n, err := b.port.Receive(0, []*port.Buffer{buf})
		must(b, err)
		if n == 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		ip, ok := wire.ParseIPv4(buf.Bytes())
		if !ok || ip.Protocol() != wire.ProtoUDP || ip.Dst() != node.As4() {
			continue
		}
		if buf.GSOType == port.GSOUDP {
			return ip, (len(ip) - 28 + int(buf.GSOSize) - 1) / int(buf.GSOSize)
		}
		return ip, 1
	}
	b.Fatal("nothing comes back")
	return nil, 0
}

// answered checks that the packet is an answer, and returns what is behind the outer headers.
func (b *balancer) answered(packet []byte) []byte {
	b.Helper()
	ip := wire.IPv4(packet)
	udp := wire.UDP(packet[wire.IPv4MinLen:])
	if ip.Src() != inspector.As4() || udp.SrcPort() != sourcePort || udp.DstPort() != wire.GenevePort {
		b.Fatalf("answered by %s", pkttest.Describe(packet))
	}
	return packet[wire.IPv4MinLen+wire.UDPLen:]
}

var (
	client = netip.MustParseAddrPort("10.1.0.2:1234")
	server = netip.MustParseAddrPort("10.2.0.2:80")
)

// A datagram goes back byte for byte, whatever its options, and with the source port it came with.
func TestHairpinKeepsTheDatagram(t *testing.T) {
	b := newBalancer(t, appliance.Options{})
	reversed := pkttest.AWSOptions(1, 2, 3)
	slices.Reverse(reversed)
	for name, g := range map[string]pkttest.Geneve{
		"as AWS sends it":         {Options: pkttest.AWSOptions(1, 0, 3)},
		"with a checksum":         {Options: pkttest.AWSOptions(1, 0, 3), Checksum: true},
		"other order":             {Options: reversed},
		"VNI and another option":  {Options: append(reversed, pkttest.GeneveOption(1, 2, []byte{1, 2, 3, 4})), VNI: 77},
		"jumbo, inner 8500 bytes": {Options: pkttest.AWSOptions(1, 0, 3), Inner: pkttest.UDP(client, server, make([]byte, 8472))},
	} {
		if g.Inner == nil {
			g.Inner = pkttest.TCP{Src: client, Dst: server, Flags: "S"}.Bytes()
		}
		sent := encapsulated(g)
		b.send(sent)
		got, _ := b.receive()
		pkttest.Verify(t, got)
		if !bytes.Equal(b.answered(got), sent[28:]) {
			t.Errorf("%s: %s", name, pkttest.Diff(sent, got))
		}
	}
}

// A super-packet reaches the appliance whole and goes back as one; where another has its port, as single datagrams.
func TestHairpinKeepsSuperPackets(t *testing.T) {
	for name, taken := range map[string]bool{"free port": false, "port of another": true} {
		t.Run(name, func(t *testing.T) {
			b := newBalancer(t, appliance.Options{})
			if taken {
				conn, err := netns.ListenPacket(b.host, "udp4", netip.AddrPortFrom(inspector, sourcePort).String())
				must(t, err)
				defer conn.Close()
			}
			var sent [][]byte
			for seq := range uint32(5) {
				inner := pkttest.TCP{Src: client, Dst: server, Flags: "A", Seq: seq * 1000, Payload: bytes.Repeat([]byte{byte(seq)}, 1000)}
				sent = append(sent, encapsulated(pkttest.Geneve{Inner: inner.Bytes(), Options: pkttest.AWSOptions(1, 0, 3)}))
			}
			b.sendSuper(sent...)
			var got []byte
			packets := 0
			for n := 0; n < len(sent); packets++ {
				p, count := b.receive()
				n += count
				got = append(got, b.answered(p)...)
			}
			var want []byte
			for _, p := range sent {
				want = append(want, p[28:]...)
			}
			if !bytes.Equal(got, want) {
				t.Error("what came back is not what was sent")
			}
			if (packets == 1) == taken {
				t.Errorf("it came back in %d packets", packets)
			}
		})
	}
}

// With a device each, endpoints of VPCs with the same addresses do not meet; what has passed the kernel has a hop less.
func TestDeviceOfEachEndpoint(t *testing.T) {
	b := newBalancer(t, appliance.Options{Mode: appliance.TUN, Device: "inspect%d"})
	for _, endpoint := range []uint64{1, 2, 1} {
		options := pkttest.AWSOptions(endpoint, 0, uint32(endpoint)<<8)
		inner := pkttest.TCP{Src: client, Dst: server, Flags: "S", TTL: 64}
		sent := encapsulated(pkttest.Geneve{Inner: inner.Bytes(), Options: options})
		inner.TTL = 63
		want := encapsulated(pkttest.Geneve{Inner: inner.Bytes(), Options: options})
		b.send(sent)
		got, _ := b.receive()
		if !bytes.Equal(b.answered(got), want[28:]) {
			t.Errorf("endpoint %d: %s", endpoint, pkttest.Diff(want, got))
		}
	}
	links, err := netns.Links(b.host)
	must(t, err)
	devices := 0
	for _, l := range links {
		if l.Kind == "tuntap" && l.Name != "node" {
			devices++
		}
	}
	if devices != 2 {
		t.Errorf("%d devices, want one for each of two endpoints", devices)
	}
}

// An error of the host's own goes back under the header of the flow that it quotes.
func TestErrorsGoBackUnderTheirFlow(t *testing.T) {
	b := newBalancer(t, appliance.Options{Mode: appliance.TUN, Device: "inspect"})
	options := pkttest.AWSOptions(1, 0, 99)
	expiring := pkttest.TCP{Src: client, Dst: server, Flags: "S", TTL: 1}.Bytes()
	b.send(encapsulated(pkttest.Geneve{Inner: expiring, Options: options}))
	got, _ := b.receive()
	datagram := b.answered(got)
	inner := pkttest.Decode(t, datagram[wire.GeneveAWSLen:])
	if inner.ICMP == nil || inner.ICMP.TypeCode.Type() != layers.ICMPv4TypeTimeExceeded || !inner.IP.DstIP.Equal(client.Addr().AsSlice()) {
		t.Fatalf("came back: %s", pkttest.Describe(got))
	}
	if want := encapsulated(pkttest.Geneve{Inner: expiring, Options: options})[28:]; !bytes.Equal(datagram[:wire.GeneveAWSLen], want[:wire.GeneveAWSLen]) {
		t.Error("under another header")
	}
}

func TestNewErrors(t *testing.T) {
	netnstest.RequirePrivileged(t)
	ns := netnstest.New(t)
	for name, o := range map[string]appliance.Options{
		"IPv6":             {Listen: netip.MustParseAddrPort("[::]:6081")},
		"no device":        {Mode: appliance.TUN},
		"long device name": {Mode: appliance.TUN, Device: "a-name-of-17-byte"},
		"foreign address":  {Listen: netip.MustParseAddrPort("192.0.2.1:6081")},
		"health":           {Health: "192.0.2.1:80"},
		"flows":            {MaxFlows: -1},
	} {
		o.Netns = ns
		if a, err := appliance.New(o); err == nil {
			t.Errorf("%s: no error", name)
			a.Close()
		}
	}
	first, err := appliance.New(appliance.Options{Netns: ns})
	must(t, err)
	if second, err := appliance.New(appliance.Options{Netns: ns}); err == nil {
		t.Error("two appliances on one port")
		second.Close()
	}
	first.Close()
	again, err := appliance.New(appliance.Options{Netns: ns})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, again.Run(ctx))
}
