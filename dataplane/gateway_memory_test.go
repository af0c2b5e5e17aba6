// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// scribbler is a memory port that uses its right to change the buffers that it is lent: when it has taken them there is
// garbage in them, before, in and behind the packet.
type scribbler struct{ *port.Mem }

func (p scribbler) Send(queue int, bufs []*port.Buffer) int {
	n := p.Mem.Send(queue, bufs)
	for _, b := range bufs {
		scribble(b)
	}
	return n
}

func scribble(b *port.Buffer) {
	b.Push(b.Headroom())
	all := b.SetLen(b.Len() + b.Tailroom())
	for i := range all {
		all[i] = 0xee
	}
	b.Pull(port.Headroom)
}

// scribbledBed is a bed with scribblers, whose consumer and provider are the memory ports in them.
func scribbledBed(t *testing.T, workers int) *bed {
	st := gatewayState()
	b := newBed(t, st, Config{Workers: workers})
	for _, id := range []string{"consumer", "provider"} {
		b.ports[id] = scribbler{port.NewMem(port.MemConfig{Name: id, Queues: workers, Depth: 1 << 10})}
	}
	b.apply(clone(st))
	b.consumer, b.provider = b.ports["consumer"].(scribbler).Mem, b.ports["provider"].(scribbler).Mem
	return b
}

// fillMemory fills with garbage what the workers put packets together in.
func (b *bed) fillMemory() {
	for _, w := range b.engine.workers {
		if len(w.runs) != 0 || w.spares != 0 || w.arena.used != 0 || len(w.outDirty) != 0 {
			b.Fatalf("after a turn %d runs, %d spares and %d bytes are in use", len(w.runs), w.spares, w.arena.used)
		}
		for _, buf := range w.bufs {
			buf.Reset()
			scribble(buf)
		}
		for _, buf := range w.spareBufs {
			buf.Reset()
			scribble(buf)
		}
		for i := range w.arena.mem {
			w.arena.mem[i] = 0xee
		}
	}
}

// mixture is a packet of the n-th of some flows, super-packet or not.
func mixture(r *rand.Rand, n int) *port.Buffer {
	src, src6 := netip.AddrPortFrom(clientAddr.Addr(), uint16(3000+n)), netip.AddrPortFrom(client6Addr.Addr(), uint16(3000+n))
	payload := []byte(fmt.Sprintf("%08x", r.Uint32()) + long(r.IntN(60)*r.IntN(60)))
	size := 8 + r.IntN(1400)
	tcp := pkttest.TCP{Seq: r.Uint32(), Ack: 7, Flags: "A", Window: 50, TOS: uint8(r.IntN(2)) << 5, Options: timestamps, Payload: payload}
	switch n % 5 {
	case 0:
		return cuttable(between(tcp, src, serverAddr).Bytes(), len(payload), size)
	case 1:
		return cuttable(between(tcp, src6, server6Addr).Bytes(), len(payload), size)
	case 2:
		return cuttable(pkttest.UDP(src, serverAddr, payload), len(payload), size)
	case 3:
		return plain(pkttest.UDP(src6, server6Addr, payload[:8]))
	}
	return plain(pkttest.ICMPEcho(src.Addr(), serverAddr.Addr(), uint16(n), 1, payload))
}

// cuttable is a packet that is a super-packet if its payload is longer than size.
func cuttable(pkt []byte, payload, size int) *port.Buffer {
	if payload <= size {
		size = 0
	}
	return offloaded(pkt, size)
}

// TestMemoryIsNotUsedAfterTransmit sends mixed batches out and back through ports that spoil every buffer, and spoils all
// memory between turns. What comes out is what went in.
func TestMemoryIsNotUsedAfterTransmit(t *testing.T) {
	for _, workers := range []int{1, 3} {
		b := scribbledBed(t, workers)
		r := rand.New(rand.NewPCG(uint64(workers), 3))
		const flows = 30
		for n := range flows { // TCP has to begin
			syn := pkttest.TCP{Src: netip.AddrPortFrom(clientAddr.Addr(), uint16(3000+n)), Dst: serverAddr, Flags: "S"}
			b.consumer.Inject(0, syn.Bytes())
			syn.Src, syn.Dst = netip.AddrPortFrom(client6Addr.Addr(), uint16(3000+n)), server6Addr
			b.consumer.Inject(0, syn.Bytes())
			b.step(0)
		}
		b.takeAll(b.provider)
		for range 40 {
			var in []*port.Buffer
			for range 1 + r.IntN(20) {
				in = append(in, mixture(r, r.IntN(flows)))
			}
			want := segmented(in...)
			b.injectChunks(b.consumer, r, in)
			var out [][]byte
			var back []*port.Buffer
			for _, run := range b.takeAll(b.provider) {
				list := b.datagramsOf(run)
				out = append(out, list...)
				if r.IntN(3) == 0 {
					for _, d := range list {
						back = append(back, plain(hairpin(d)))
					}
					continue
				}
				copy(run.Bytes(), hairpin(run.Bytes()[:20]))
				back = append(back, run)
			}
			wantInner(t, sorted(out, innerStart), sorted(want, 0))
			b.injectChunks(b.provider, r, back)
			leaves := b.takeAll(b.consumer)
			for _, run := range leaves {
				checkMerged(t, run)
			}
			wantPackets(t, sorted(withoutIDs(segmented(leaves...)), 0), sorted(withoutIDs(want), 0))
			if drops := b.drops(); len(drops) > 0 || t.Failed() {
				t.Fatalf("drops %v", drops)
			}
		}
	}
}

// injectChunks delivers packets in order, each so many on one queue as an inbox has room for, and spoils the memory.
func (b *bed) injectChunks(p *port.Mem, r *rand.Rand, list []*port.Buffer) {
	for chunk := range slices.Chunk(list, inboxSize) {
		p.InjectBuffers(r.IntN(p.Queues()), chunk...)
		b.step(0)
		b.fillMemory()
	}
}

// takeAll takes what was sent on all queues of a port.
func (b *bed) takeAll(p *port.Mem) (out []*port.Buffer) {
	for q := range p.Queues() {
		out = append(out, p.TakeBuffers(q)...)
	}
	return out
}

// sorted sorts packets, which begin at an offset, by source and its port, and keeps the order of those that agree in that.
func sorted(list [][]byte, at int) [][]byte {
	slices.SortStableFunc(list, func(a, b []byte) int { return bytes.Compare(flowOf(a[at:]), flowOf(b[at:])) })
	return list
}

// flowOf are the bytes of a packet that tell its flow: version, protocol and source port, or the identifier of ICMP.
func flowOf(pkt []byte) []byte {
	if pkt[0]>>4 == 6 {
		return []byte{6, pkt[6], pkt[40], pkt[41]}
	}
	if pkt[9] == 1 {
		return []byte{4, 1, pkt[24], pkt[25]}
	}
	return []byte{4, pkt[9], pkt[20], pkt[21]}
}
