// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// stream is a connection whose client and target are slow, obvious models, with a network on both sides of the engine
// that loses, duplicates and reorders. Numbers are offsets from the client's first byte, so that nothing wraps in the
// models however close the real numbers are to their end: the client's count its bytes, the target's the header too.
type stream struct {
	*bed
	r       *rand.Rand
	diagram pkttest.Sequence
	isn     uint32
	node    netip.AddrPort
	shift   uint8 // the target's window scale

	// What the client sends, and what the target should read.
	sending, want []byte

	sent, acked, edge int // client: highest number sent, acknowledged, allowed; FIN counts one
	mss               int // client's

	got     map[int]byte // target: what it has received, by its own numbers
	fin     int          // where FIN was, -1 for nowhere
	offered int          // right edge of the window that it has offered

	up   []*port.Buffer // client to engine
	down [][]byte       // engine to target
	back [][]byte       // target to engine, in order
}

// TestStreamThroughLossyNetwork runs random connections to their end: whatever the network does, the target reads the
// header and then the stream, and the client never sees what it could not have caused.
func TestStreamThroughLossyNetwork(t *testing.T) {
	for seed := range uint64(200) {
		s := newStream(t, seed, false)
		s.play()
		if t.Failed() {
			t.Fatalf("seed %d\n%s", seed, &s.diagram)
		}
	}
}

// TestEarlyStreamThroughLossyNetwork does the same with the header alone behind the handshake.
func TestEarlyStreamThroughLossyNetwork(t *testing.T) {
	for seed := range uint64(200) {
		s := newStream(t, seed, true)
		s.play()
		if t.Failed() {
			t.Fatalf("seed %d\n%s", seed, &s.diagram)
		}
	}
}

func (s *stream) play() {
	for range 120 {
		s.anything()
	}
	if s.r.IntN(4) == 0 {
		s.abort()
	} else {
		s.complete()
	}
	for r, n := range s.drops() {
		s.Errorf("%d packets dropped as %v", n, r)
	}
}

func newStream(t *testing.T, seed uint64, early bool) *stream {
	st := newState()
	withProxy(st)
	if early {
		withEarlyProxy(st)
	}
	s := &stream{bed: newBed(t, st, Config{}), r: rand.New(rand.NewPCG(seed, 0)), got: map[int]byte{}, fin: -1}
	s.isn = s.r.Uint32()
	if s.r.IntN(2) == 0 {
		s.isn = -uint32(s.r.IntN(4000))
	}
	s.sending = make([]byte, s.r.IntN(4)*s.r.IntN(2500))
	for i := range s.sending {
		s.sending[i] = byte(s.r.Uint32())
	}
	s.want = s.sending
	if early || len(s.sending) > 0 {
		s.want = append(proxyHeader(), s.sending...)
	}
	s.shift = uint8(s.r.IntN(10))
	s.shake([]uint16{200, 536, 1460, 8960}[s.r.IntN(4)])
	return s
}

// shake opens the connection without losses, but for what follows the client's ACK.
func (s *stream) shake(mss uint16) {
	syn := pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: s.isn, Flags: "S", Window: 60000, Options: []layers.TCPOption{pkttest.WScale(7)}}
	out, _ := s.fromClient(syn.Bytes())
	s.node = netip.AddrPortFrom(nodeAddr, uint16(pkttest.Decode(s, s.one(out)).TCP.SrcPort))
	s.offered = 300 + s.r.IntN(60000)
	answer := pkttest.TCP{Src: targetAddr, Dst: s.node, Seq: targetISN, Ack: s.isn + 1, Flags: "SA", Window: uint16(s.offered),
		Options: []layers.TCPOption{pkttest.MSS(mss), pkttest.WScale(s.shift)}}
	in, _ := s.fromTarget(answer.Bytes())
	p := pkttest.Decode(s, s.one(in))
	s.edge = int(p.TCP.Window)
	s.mss = int(p.TCP.Options[0].OptionData[0])<<8 + int(p.TCP.Options[0].OptionData[1])
	s.enter(full(s.segment(0, "A", nil)))
}

// segment is one of the client's, off bytes into its stream.
func (s *stream) segment(off int, flags string, payload []byte) pkttest.TCP {
	return pkttest.TCP{Src: clientAddr, Dst: endpointAddr, Seq: s.isn + 1 + uint32(off), Ack: targetISN + 1, Flags: flags, Window: 500, Payload: payload}
}

// anything lets something happen to the connection.
func (s *stream) anything() {
	switch s.r.IntN(16) {
	case 0, 1, 2:
		s.send(s.sent, min(s.sent+1+s.r.IntN(3*s.mss), s.edge, len(s.sending)))
	case 3: // a retransmission, with boundaries of its own
		from := s.acked + s.r.IntN(max(s.sent-s.acked, 1))
		s.send(from, min(from+1+s.r.IntN(3*s.mss), s.sent, len(s.sending)))
	case 4:
		s.up = append(s.up, full(s.segment(min(s.sent, len(s.sending)), "A", nil)))
	case 5: // a keepalive repeats the last byte, or garbage
		s.up = append(s.up, full(s.segment(s.acked-1, "A", nil)))
		if 0 < s.acked && s.acked <= len(s.sending) {
			s.up = append(s.up, full(s.segment(s.acked-1, "A", s.sending[s.acked-1:s.acked])))
		}
	case 6, 7, 8, 9:
		if i := s.fate(len(s.up)); i >= 0 {
			s.enter(s.up[i])
			if s.r.IntN(8) != 0 {
				s.up = append(s.up[:i], s.up[i+1:]...)
			}
		}
	case 10, 11, 12:
		if i := s.fate(len(s.down)); i >= 0 {
			pkt := s.down[i]
			if s.r.IntN(8) != 0 {
				s.down = append(s.down[:i], s.down[i+1:]...)
			}
			s.arrive(pkt, s.r.IntN(6) == 0)
		}
	case 13, 14:
		if len(s.back) > 0 {
			pkt := s.back[0]
			s.back = s.back[1:]
			if s.r.IntN(5) != 0 {
				s.reply(pkt)
			}
		}
	case 15:
		s.pass(20 * time.Millisecond)
	}
}

// fate picks one of n packets to go on, and -1 for none.
func (s *stream) fate(n int) int {
	if n == 0 {
		return -1
	}
	return s.r.IntN(n)
}

// send makes the client send bytes [from, to), as one segment or a super-packet, and FIN behind the last byte.
func (s *stream) send(from, to int) {
	flags := "A"
	if to == len(s.sending) && from <= to && (s.sent > to || s.r.IntN(3) == 0) {
		flags = "FA"
	}
	if from > to || from == to && flags == "A" {
		return
	}
	p := s.segment(from, flags, s.sending[from:to])
	switch {
	case to-from > s.mss:
		s.up = append(s.up, super(p, s.mss))
	case s.r.IntN(2) == 0:
		s.up = append(s.up, partial(p))
	default:
		s.up = append(s.up, full(p))
	}
	s.sent = max(s.sent, to)
	if flags == "FA" {
		s.sent = to + 1
	}
}

// enter takes a packet of the client's through the engine.
func (s *stream) enter(buf *port.Buffer) {
	s.diagram.Add("client", "isthmus", buf.Bytes())
	s.consumer.InjectBuffers(0, buf)
	s.pass(0)
	if back := s.consumer.Take(0); len(back) > 0 {
		s.Errorf("the client is answered: %s", pkttest.Describe(back[0]))
	}
}

// pass lets time pass and collects what the engine sends to the target.
func (s *stream) pass(d time.Duration) {
	s.step(d)
	for _, pkt := range s.provider.Take(0) {
		s.diagram.Add("isthmus", "network", pkt)
		s.down = append(s.down, pkt)
	}
}

// reply takes a packet of the target's through the engine to the client.
func (s *stream) reply(pkt []byte) {
	s.diagram.Add("target", "isthmus", pkt)
	in, _ := s.fromTarget(pkt)
	s.diagram.Add("isthmus", "client", s.one(in))
	s.accept(in[0])
}

// complete lets a network without losses finish the connection.
func (s *stream) complete() {
	for range 300 {
		s.up, s.down = nil, nil
		if s.acked <= len(s.sending) {
			s.send(s.acked, min(s.acked+s.mss, max(s.edge, s.acked), len(s.sending)))
		}
		for _, buf := range s.up {
			s.enter(buf)
		}
		s.pass(100 * time.Millisecond)
		for _, pkt := range s.down {
			s.arrive(pkt, false)
		}
		s.back = append(s.back, s.acknowledgement(4000))
		for _, pkt := range s.back {
			s.reply(pkt)
		}
		s.back = nil
		if s.acked == len(s.sending)+1 {
			break
		}
	}
	if read, done := s.read(); !done || !bytes.Equal(read, s.want) || s.acked != len(s.sending)+1 {
		s.Errorf("the target has read %d of %d bytes, end %v; the client has %d of %d acknowledged",
			len(read), len(s.want), done, s.acked, len(s.sending)+1)
	}
}

// abort lets the client abort. Its RST may miss what the target expects by what is in flight; the one that answers the
// target's challenge (RFC 5961) must hit.
func (s *stream) abort() {
	s.up, s.down, s.back = nil, nil, nil
	s.reply(s.acknowledgement(0))
	s.enter(full(s.segment(s.acked, "R", nil)))
	read, done := s.read()
	want := len(read)
	if done {
		want++
	}
	if len(s.down) == 0 {
		s.Fatal("no RST")
	}
	p := pkttest.Decode(s, s.down[len(s.down)-1])
	if got := int(int32(p.TCP.Seq - s.isn - 1)); !p.TCP.RST || got != want {
		s.Errorf("RST has number %d, the target expects %d", got, want)
	}
}
