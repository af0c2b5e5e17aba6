// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// drawSegment is any segment between two addresses that carries neither SYN nor RST.
func drawSegment(t *rapid.T, src, dst netip.AddrPort) pkttest.TCP {
	return pkttest.TCP{
		Src: src, Dst: dst,
		Seq: rapid.Uint32().Draw(t, "seq"), Ack: rapid.Uint32().Draw(t, "ack"),
		Flags:  rapid.SampledFrom([]string{"A", "PA", "FA", "FPA", "UA", "ECA"}).Draw(t, "flags"),
		Window: rapid.Uint16().Draw(t, "window"), Urgent: rapid.Uint16().Draw(t, "urgent"),
		Options: rapid.SampledFrom([][]layers.TCPOption{nil, timestamps, fortyBytes}).Draw(t, "options"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "payload"),
		TTL:     rapid.Uint8Range(1, 255).Draw(t, "ttl"), ID: rapid.Uint16().Draw(t, "id"),
		NoDF: rapid.Bool().Draw(t, "no df"), TOS: rapid.Uint8().Draw(t, "tos"),
	}
}

// rebuilt is a packet with other addresses and ports, taken apart and put together by gopacket.
func rebuilt(t *rapid.T, pkt []byte, src, dst netip.AddrPort) []byte {
	p := gopacket.NewPacket(pkt, layers.LayerTypeIPv4, gopacket.Default)
	ip, tcp := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4), p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	ip.SrcIP, ip.DstIP = src.Addr().AsSlice(), dst.Addr().AsSlice()
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, ip, tcp, gopacket.Payload(tcp.Payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestTranslateEqualsRebuilding carries any segment of a connection both ways and compares it with one that gopacket has
// rebuilt, with complete and with partial checksums.
func TestTranslateEqualsRebuilding(t *testing.T) {
	b := newBed(t, newState(), Config{})
	node := b.connect(clientAddr, clientISN, 8960)
	rapid.Check(t, func(t *rapid.T) {
		out := drawSegment(t, clientAddr, endpointAddr)
		in := drawSegment(t, targetAddr, node)
		partialSum := rapid.Bool().Draw(t, "partial checksum")
		carry := func(from, to *port.Mem, p pkttest.TCP) []byte {
			if partialSum {
				from.InjectBuffers(0, partial(p))
			} else {
				from.InjectBuffers(0, full(p))
			}
			b.step(0)
			list := to.Take(0)
			if len(list) != 1 {
				t.Fatalf("%d packets sent, drops %v", len(list), b.drops())
			}
			return list[0]
		}
		if d := pkttest.Diff(rebuilt(t, out.Bytes(), node, targetAddr), carry(b.consumer, b.provider, out)); d != "" {
			t.Fatalf("toward the target:\n%s", d)
		}
		if d := pkttest.Diff(rebuilt(t, in.Bytes(), endpointAddr, clientAddr), carry(b.provider, b.consumer, in)); d != "" {
			t.Fatalf("toward the client:\n%s", d)
		}
		b.engine.workers[0].flows.At(0).State = flow.Established // neither FINs nor time end it
		b.engine.workers[0].flows.At(0).Flags &^= flow.FinClient | flow.FinTarget
	})
}

// TestRewriteAnyAddresses rewrites the addresses and ports of a segment to any others.
func TestRewriteAnyAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := func(name string) netip.AddrPort {
			a := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name)
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), rapid.Uint16().Draw(t, name+" port"))
		}
		segment := drawSegment(t, addr("source"), addr("destination"))
		src, dst := addr("new source"), addr("new destination")
		buf := full(segment)
		if rapid.Bool().Draw(t, "partial checksum") {
			buf = partial(segment)
		}
		p := packet{buf: buf, l4: 20}
		p.rewrite(src.Addr().As4(), dst.Addr().As4(), src.Port(), dst.Port())
		port.Complete(buf)
		if d := pkttest.Diff(rebuilt(t, segment.Bytes(), src, dst), buf.Bytes()); d != "" {
			t.Fatal(d)
		}
	})
}
