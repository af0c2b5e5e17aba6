// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/pkttest"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// fragmentRig is a bed whose fragments are also followed by the rules written down a second time.
type fragmentRig struct {
	*bed
	kind  vpc.Stickiness
	base  uint16 // of the identifications of this run
	first map[string]time.Duration
}

// datagramKind is one of four kinds of datagrams: UDP and ICMP, UDP of IPv6 and the same behind destination options. It has
// four fragments.
func datagramKind(kind int, id uint16, back bool) [][]byte {
	src, dst, src6, dst6 := clientAddr, serverAddr, client6Addr, server6Addr
	if back {
		src, dst, src6, dst6 = dst, src, dst6, src6
	}
	switch kind {
	case 0, 1:
		whole := pkttest.UDP(src, dst, []byte(long(100)))
		if kind == 1 {
			whole = pkttest.ICMPEcho(src.Addr(), dst.Addr(), 7, 7, []byte(long(100)))
		}
		whole[4], whole[5] = byte(id>>8), byte(id)
		return pkttest.Fragment(whole, 32)
	case 2:
		return pkttest.Fragment6(pkttest.UDP(src6, dst6, []byte(long(100))), 32, uint32(id))
	}
	return pkttest.Fragment6(pkttest.Extend(pkttest.UDP(src6, dst6, []byte(long(100))), pkttest.Extension{Kind: 60}), 32, uint32(id))
}

// FuzzFragments routes fragments in any order on any queue, three workers at a time. Each two bytes of the script are one:
// its kind, direction, datagram, number and queue, and how much time passes before.
func FuzzFragments(f *testing.F) {
	var rigs []*fragmentRig
	for _, kind := range []vpc.Stickiness{vpc.FiveTuple, vpc.ThreeTuple, vpc.TwoTuple} {
		st := gatewayState()
		withStickiness(kind)(st)
		withAppliances(5)(st)
		rigs = append(rigs, &fragmentRig{bed: newBed(f, st, Config{Workers: 3}), kind: kind, first: map[string]time.Duration{}})
	}
	f.Add([]byte{0x00, 0x00, 0x00, 0x10, 0x00, 0x20, 0x00, 0x31}, uint8(0))
	f.Add([]byte{0x02, 0x10, 0x02, 0x00, 0x02, 0x20, 0x02, 0x31, 0x07, 0x10, 0x07, 0x01}, uint8(1))
	f.Add([]byte{0x03, 0x02, 0xe3, 0x12, 0x03, 0x22, 0x01, 0x12, 0x05, 0x12, 0x05, 0x02}, uint8(0))
	f.Fuzz(func(t *testing.T, script []byte, which uint8) {
		r := rigs[int(which)%len(rigs)]
		r.TB = t
		r.step(flow.FragmentTime * time.Millisecond) // those of the script before are forgotten
		clear(r.first)
		r.base += 4
		for ; len(script) >= 2 && !t.Failed(); script = script[2:] {
			r.one(t, script[0], script[1])
		}
	})
}

// one routes one fragment, has it returned if it got to an appliance, and compares with what should become of it.
func (r *fragmentRig) one(t *testing.T, a, b byte) {
	r.step([]time.Duration{0, 1, 10, 15, 29, 30, 31, 125}[a>>5] * time.Second)
	kind, back, id := int(a&3), a&4 != 0, uint16(a>>3&3)
	n, queue := int(b>>4&3), int(b&0xf)%3
	pkt := datagramKind(kind, r.base+id, back)[n]
	key := string([]byte{byte(kind >> 1), byte(kind & 1 * (1 - kind>>1)), byte(id), a & 4}) // both IPv6 kinds are one to receivers
	passes := true
	if needed := r.kind == vpc.FiveTuple && kind != 1 || r.kind == vpc.ThreeTuple && kind >= 2; needed {
		if n == 0 {
			r.first[key] = r.now
		}
		at, ok := r.first[key]
		passes = ok && r.now-at < flow.FragmentTime*time.Millisecond
	}
	orphans := r.dropped(FragmentOrphan)
	r.consumer.Inject(queue, pkt)
	r.step(0)
	out := r.takeAll(r.provider)
	if !passes {
		if len(out) != 0 || r.dropped(FragmentOrphan) != orphans+1 {
			t.Fatalf("%s went on, or vanished otherwise: %v", pkttest.Describe(pkt), r.drops())
		}
		return
	}
	if len(out) != 1 || !bytes.Equal(out[0].Bytes()[innerStart:], pkt) {
		t.Fatalf("%s did not go on: %v", pkttest.Describe(pkt), r.drops())
	}
	whole := pkttest.UDP(clientAddr, serverAddr, nil)
	switch {
	case kind == 1:
		whole = pkttest.ICMPEcho(clientAddr.Addr(), serverAddr.Addr(), 1, 1, nil)
	case kind >= 2:
		whole = pkttest.UDP(client6Addr, server6Addr, nil)
	}
	r.consumer.Inject(int(b&0xf)%2, whole)
	r.step(0)
	if same := r.takeAll(r.provider); len(same) != 1 || cookieOf(same[0].Bytes()) != cookieOf(out[0].Bytes()) {
		t.Fatalf("%s is not of its flow", pkttest.Describe(pkt))
	}
	r.provider.Inject((queue+1)%3, hairpin(out[0].Bytes()))
	r.step(0)
	if in := r.takeAll(r.consumer); len(in) != 1 || !bytes.Equal(in[0].Bytes(), pkt) {
		t.Fatalf("%s did not come back: %v", pkttest.Describe(pkt), r.drops())
	}
}
