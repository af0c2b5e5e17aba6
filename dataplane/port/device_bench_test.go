// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"net"
	"testing"
)

// BenchmarkTUN sends a batch that the kernel forwards straight back, and receives it. Two of the three costs are ours:
// a write and a read; the third is the kernel's forwarding.
func BenchmarkTUN(b *testing.B) {
	for _, c := range []struct {
		name         string
		gso, payload int
		off          Switches
	}{
		{"small", 0, 18, Switches{}},
		{"8500", 0, 8460, Switches{}},
		{"super", 8460, 59220, Switches{}},
		{"super/offloads=off", 8460, 59220, Switches{Offloads: true}},
		{"small/plain", 0, 18, Switches{Plain: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := newNamespace(b)
			p := openTUN(n, Config{Name: "p", Device: "tun0", Disable: c.off}, "10.0.0.1/24")
			n.do(enableForwarding)
			spec := superSpec{gso: c.gso, payload: make([]byte, c.payload), ttl: 64,
				src: net.IPv4(10, 0, 0, 2), dst: net.IPv4(10, 0, 0, 3)}
			const batch = 8
			in, out := newBuffers(batch*8), make([]*Buffer, batch)
			for i := range out {
				out[i] = spec.super(b)
			}
			b.SetBytes(int64(batch * c.payload))
			b.ReportAllocs()
			for b.Loop() {
				p.Send(0, out)
				for k := -1; k != 0; {
					var err error
					if k, err = p.Receive(0, in); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/packet")
			if s := p.Stats(); s.RxPackets == 0 {
				b.Fatalf("nothing came back: %+v", s)
			}
		})
	}
}
