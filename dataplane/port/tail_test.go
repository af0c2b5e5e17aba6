// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

// tailed is a copy of a packet of which all but the first bytes are in a tail, in parts of at most size bytes each, of
// memory of their own.
func tailed(b *Buffer, head, size int) *Buffer {
	out := NewBuffer()
	p := b.Bytes()
	out.Set(p[:head])
	out.Offload, out.Via = b.Offload, b.Via
	for rest := p[head:]; len(rest) > 0; rest = rest[min(size, len(rest)):] {
		out.AddTail(bytes.Clone(rest[:min(size, len(rest))]))
	}
	return out
}

func TestFlattenJoinsTheTail(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		spec := randomSpec(r)
		whole := spec.super(t)
		hdr := whole.Len() - len(spec.payload)
		b := tailed(whole, hdr+r.IntN(len(spec.payload)+1), 1+r.IntN(700))
		if b.Size() != whole.Len() || b.Len() > b.Size() || !bytes.HasPrefix(whole.Bytes(), b.Bytes()) {
			t.Fatalf("%d bytes, of which the window has %d; want %d", b.Size(), b.Len(), whole.Len())
		}
		b.Flatten()
		if !bytes.Equal(b.Bytes(), whole.Bytes()) || b.Size() != b.Len() || b.Offload != whole.Offload {
			t.Fatalf("got %x, want %x", b.Bytes(), whole.Bytes())
		}
		b.Flatten() // does nothing the second time
		if !bytes.Equal(b.Bytes(), whole.Bytes()) {
			t.Fatal("flattening twice")
		}
	}
}

// TestFlattenMakesRoom flattens packets as long as can be, whose windows have been pulled or pushed.
func TestFlattenMakesRoom(t *testing.T) {
	for _, off := range []int{-Headroom, -68, 0, 1, 17, 18, 68, 1000, 30000} {
		b := NewBuffer()
		b.Set(make([]byte, 40+max(off, 0)))
		if off < 0 {
			b.Push(-off)
			b.SetLen(40)
		} else {
			b.Pull(off)
		}
		want := bytes.Repeat([]byte("head"), 10)
		copy(b.Bytes(), want)
		for len(want) < MaxPacket {
			part := bytes.Repeat([]byte{byte(len(want))}, min(1000, MaxPacket-len(want)))
			b.AddTail(part)
			want = append(want, part...)
		}
		b.Flatten()
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("pulled by %d: %d bytes, want %d", off, b.Len(), len(want))
		}
	}
}

func TestTailIsForgotten(t *testing.T) {
	tail := func() *Buffer {
		b := NewBuffer()
		b.Set([]byte("head"))
		b.AddTail([]byte("tail"))
		return b
	}
	other := NewBuffer()
	other.Set([]byte("other"))
	for name, b := range map[string]*Buffer{
		"Reset":                 func() *Buffer { b := tail(); b.Reset(); return b }(),
		"Set":                   func() *Buffer { b := tail(); b.Set([]byte("x")); return b }(),
		"CopyFrom of the other": func() *Buffer { b := tail(); b.CopyFrom(other); return b }(),
		"CopyFrom":              func() *Buffer { b := NewBuffer(); b.CopyFrom(tail()); return b }(),
	} {
		if b.Size() != b.Len() {
			t.Errorf("%s: %d bytes, of which the window has %d", name, b.Size(), b.Len())
		}
	}
}

// TestAddTailDoesNotAllocate once a buffer has had as many parts.
func TestAddTailDoesNotAllocate(t *testing.T) {
	b, part := NewBuffer(), make([]byte, 100)
	use := func() {
		b.Reset()
		for range 128 {
			b.AddTail(part)
		}
	}
	use()
	if n := testing.AllocsPerRun(20, use); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPortsTakeTails sends packets with tails into ports without a device. They arrive as those in one piece do.
func TestPortsTakeTails(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 100 {
		spec := randomSpec(r)
		whole := spec.super(t)
		hdr := whole.Len() - len(spec.payload)
		part := func() []*Buffer { return []*Buffer{tailed(whole, hdr, 1+r.IntN(500))} }

		mem := NewMem(MemConfig{})
		mem.Send(0, part())
		if s := mem.Stats(); s.TxBytes != uint64(whole.Len()) {
			t.Errorf("%d bytes counted, want %d", s.TxBytes, whole.Len())
		}
		comparePackets(t, mem.Take(0), spec.plain(t))

		discard := NewMem(MemConfig{Discard: true})
		discard.Send(0, part())
		if s := discard.Stats(); s.TxBytes != uint64(whole.Len()) || s.TxPackets != 1 {
			t.Errorf("%+v, want %d bytes", s, whole.Len())
		}

		i := newImpaired(t, ImpairConfig{})
		i.port.Send(0, part())
		comparePackets(t, i.mem.Take(0), spec.plain(t))

		var file bytes.Buffer
		p, err := OpenPcap("p", nil, &file, func() time.Time { return time.Unix(0, 0) })
		if err != nil {
			t.Fatal(err)
		}
		p.Send(0, part())
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := OpenPcap("p", &file, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		for bufs := newBuffers(8); !again.Done(); {
			n, err := again.Receive(0, bufs)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range bufs[:n] {
				got = append(got, bytes.Clone(b.Bytes()))
			}
		}
		comparePackets(t, got, spec.plain(t))
	}
}

// tailCases are super-packets in parts as an engine makes them, and in more parts than a gathering write takes.
var tailCases = []struct{ head, part int }{{0, 1 << 20}, {100, 100}, {100, 60}, {0, 7}, {1, 1}}

// TestTailsReachSockets writes super-packets with tails to devices in each mode and reads them with a socket.
func TestTailsReachSockets(t *testing.T) {
	for _, m := range modes {
		for _, tap := range []bool{false, true} {
			name := m.name + "/tun"
			if tap {
				name = m.name + "/tap"
			}
			t.Run(name, func(t *testing.T) {
				n := newNamespace(t)
				var p Port
				if tap {
					port := openTAP(n, Config{Name: "p", Device: "tap0", Disable: m.off}, "10.0.0.1/24")
					port.SetAddresses([]netip.Addr{netip.MustParseAddr("10.0.0.2")})
					p = port
					defer shuttle(t, p, NewMem(MemConfig{Discard: true}))() // whose Receive hears who answers ARP
				} else {
					p = openTUN(n, Config{Name: "p", Device: "tun0", Disable: m.off}, "10.0.0.1/24")
				}
				var c *net.UDPConn
				n.do(func() (err error) {
					c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5000})
					return err
				})
				defer c.Close()
				for _, k := range tailCases {
					sendTail(t, p, c, k.head, k.part)
				}
				if s := p.Stats(); s.TxRefused != 0 || s.NeighbourDropped != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// sendTail sends one super-packet, the first payload bytes in its window and the rest in parts, and reads it.
func sendTail(t *testing.T, p Port, c *net.UDPConn, inWindow, part int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(inWindow), uint64(part)))
	payload := make([]byte, 100*30+37)
	for i := range payload {
		payload[i] = byte(r.Uint32())
	}
	spec := superSpec{udp: true, gso: 100, payload: payload, ttl: 64, src: net.IPv4(10, 0, 0, 2), dst: net.IPv4(10, 0, 0, 1)}
	whole := spec.super(t)
	b := tailed(whole, 28+inWindow, part)
	head := bytes.Clone(b.Bytes())
	if n := p.Send(0, []*Buffer{b}); n != 1 {
		t.Fatalf("refused: %+v", p.Stats())
	}
	if !bytes.HasPrefix(b.Bytes(), head[:20]) {
		t.Error("the window has moved")
	}
	var got []byte
	read := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for len(got) < len(payload) {
		k, err := c.Read(read)
		if err != nil {
			t.Fatalf("after %d bytes: %v (%+v)", len(got), err, p.Stats())
		}
		if k > 100 {
			t.Fatalf("datagram of %d bytes", k)
		}
		got = append(got, read[:k]...)
	}
	if !bytes.Equal(got, payload) {
		t.Errorf("%d bytes in the window, parts of %d: payload differs", inWindow, part)
	}
}
