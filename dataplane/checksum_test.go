// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"math/rand/v2"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// tcpSum is the complete sum over a TCP segment and its pseudo-header: 0xffff where the checksum is right.
func tcpSum(pkt []byte) uint16 {
	l4 := int(pkt[0]&0xf) * 4
	n := len(pkt) - l4
	pseudo := append(append([]byte(nil), pkt[12:20]...), 0, 6, byte(n>>8), byte(n))
	return slowSum(append(pseudo, pkt[l4:]...))
}

// TestWrongChecksumStaysWrong sends segments with a flipped bit along every path that edits a packet. What comes out must
// be wrong by the same amount: a checksum that the dataplane repaired would hide the damage from the receiver.
func TestWrongChecksumStaysWrong(t *testing.T) {
	mss := []layers.TCPOption{pkttest.NOP(), pkttest.MSS(8961), pkttest.NOP(), pkttest.FastOpen([]byte("12345678"))}
	for _, c := range []struct {
		name   string
		client bool
		p      pkttest.TCP
		cut    bool // the packet would have to be cut, so that it must be dropped
	}{
		{"SYN with options", true, pkttest.TCP{Seq: 7, Flags: "S", Options: mss}, false},
		{"SYN with data", true, pkttest.TCP{Seq: 7, Flags: "S", Options: mss, Payload: []byte("early data!")}, false},
		{"SYN-ACK", false, pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 500, Options: mss}, false},
		{"SYN-ACK without MSS", false, pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 500}, false},
		{"first data", true, data(firstSeq, targetISN+1, "hello"), false},
		{"urgent first data", true, pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "AU", Urgent: 2, Payload: []byte("hello")}, false},
		{"later data", true, data(firstSeq+5, targetISN+1, "world!"), false},
		{"early by an even number", true, data(firstSeq-2, targetISN+1, "world"), false},
		{"early by an odd number", true, data(firstSeq-3, targetISN+1, "worlds"), false},
		{"long first data", true, pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "A", Payload: []byte(long(8461 - 41))}, true},
		{"acknowledgement", false, data(targetISN+1, behindSeq+3, "hi"), false},
		{"acknowledgement of part of the header", false, data(targetISN+1, firstSeq+7, "hi"), false},
		{"SACK", false, sacking(behindSeq, behindSeq+3, behindSeq+4, firstSeq, behindSeq), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			for range 4 {
				for _, proxy := range []bool{false, true} {
					st := newState()
					st.TargetGroups[0].ProxyProtocol.Enabled = proxy
					b := newBed(t, st, Config{})
					node := b.connect(clientAddr, clientISN, 8960)
					b.fromClient(atEndpoint(data(firstSeq, targetISN+1, "hello")).Bytes())
					p := c.p
					if c.client {
						p = atEndpoint(p)
					} else {
						p.Src, p.Dst = targetAddr, node
					}
					pkt := p.Bytes()
					wrong := uint16(1 + r.IntN(0xfffe))
					old := uint32(pkt[36])<<8 | uint32(pkt[37])
					sum := (old + uint32(wrong)) % 0xffff
					pkt[36], pkt[37] = byte(sum>>8), byte(sum)
					b.checkStillWrong(pkt, c.client, c.cut && proxy)
				}
			}
		})
	}
}

// checkStillWrong carries a packet with a wrong checksum and compares how wrong it is afterwards.
func (b *bed) checkStillWrong(pkt []byte, client, cut bool) {
	b.Helper()
	var out [][]byte
	if client {
		out, _ = b.fromClient(pkt)
	} else {
		out, _ = b.fromTarget(pkt)
	}
	if cut {
		if len(out) != 0 || b.dropped(Malformed) != 1 {
			b.Errorf("%d packets sent, drops %v", len(out), b.drops())
		}
		return
	}
	if len(out) != 1 {
		b.Fatalf("%d packets sent, drops %v", len(out), b.drops())
	}
	if got, want := tcpSum(out[0]), tcpSum(pkt); got != want {
		b.Errorf("sum is %04x, was %04x: %s", got, want, pkttest.Describe(out[0]))
	}
}

// TestPartialChecksumOfEditedPackets carries the same packets with complete and with partial checksums. Finished by the
// device, they must be equal.
func TestPartialChecksumOfEditedPackets(t *testing.T) {
	opts := []layers.TCPOption{pkttest.NOP(), pkttest.MSS(8961), pkttest.NOP(), pkttest.FastOpen([]byte("12345678"))}
	for _, c := range []struct {
		name   string
		client bool
		p      pkttest.TCP
	}{
		{"SYN", true, pkttest.TCP{Seq: 7, Flags: "S", Options: opts, Payload: []byte("early data!")}},
		{"SYN-ACK", false, pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 500, Options: opts}},
		{"SYN-ACK without MSS", false, pkttest.TCP{Seq: targetISN, Ack: firstSeq, Flags: "SA", Window: 500}},
		{"first data", true, data(firstSeq, targetISN+1, "hello")},
		{"urgent", true, pkttest.TCP{Seq: firstSeq, Ack: targetISN + 1, Flags: "AU", Urgent: 2, Payload: []byte("hello")}},
		{"later data", true, data(firstSeq+5, targetISN+1, "world!")},
		{"early", true, data(firstSeq-3, targetISN+1, "worlds")},
		{"acknowledgement", false, data(targetISN+1, behindSeq+3, "hi")},
		{"SACK", false, sacking(behindSeq, behindSeq+3, behindSeq+4, firstSeq, behindSeq)},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newState()
			withProxy(st)
			b := newBed(t, st, Config{})
			node := b.connect(clientAddr, clientISN, 8960)
			b.fromClient(atEndpoint(data(firstSeq, targetISN+1, "hello")).Bytes())
			from, to := b.consumer, b.provider
			p := atEndpoint(c.p)
			if !c.client {
				p.Src, p.Dst, from, to = targetAddr, node, b.provider, b.consumer
			}
			carry := func(buf *port.Buffer) []byte {
				from.InjectBuffers(0, buf)
				b.step(0)
				return b.one(to.Take(0))
			}
			want := carry(full(p))
			if p.Flags == "S" { // let the second be a retransmission, not another connection's first
				want = carry(full(p))
			}
			if d := pkttest.Diff(want, carry(partial(p))); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestInsertedMSSKeepsTheBitsBeside inserts the option into a SYN-ACK that negotiates accurate ECN by the bit beside the
// data offset.
func TestInsertedMSSKeepsTheBitsBeside(t *testing.T) {
	st := newState()
	withProxy(st)
	b := newBed(t, st, Config{})
	node := b.connect(clientAddr, clientISN, 8960)
	pkt := pkttest.TCP{Src: targetAddr, Dst: node, Seq: targetISN, Ack: firstSeq, Flags: "SAC", Window: 500}.Bytes()
	pkt[32] |= 1
	complete(pkt)
	in, _ := b.fromTarget(pkt)
	if got := b.one(in); got[32] != 6<<4|1 {
		t.Errorf("data offset and the bits beside it are %#x", got[32])
	}
}
