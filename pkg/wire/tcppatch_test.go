// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// patches are the edits of one field, to a value whose low bits are v.
var patches = []struct {
	name  string
	patch func(t TCP, v uint32, full bool)
	read  func(t TCP) uint32
	mask  uint32
}{
	{"source port", func(t TCP, v uint32, full bool) { t.PatchSrcPort(uint16(v), full) },
		func(t TCP) uint32 { return uint32(t.SrcPort()) }, 0xffff},
	{"destination port", func(t TCP, v uint32, full bool) { t.PatchDstPort(uint16(v), full) },
		func(t TCP) uint32 { return uint32(t.DstPort()) }, 0xffff},
	{"seq", TCP.PatchSeq, TCP.Seq, 0xffffffff},
	{"ack", TCP.PatchAck, TCP.Ack, 0xffffffff},
	{"window", func(t TCP, v uint32, full bool) { t.PatchWindow(uint16(v), full) },
		func(t TCP) uint32 { return uint32(t.Window()) }, 0xffff},
	{"urgent", func(t TCP, v uint32, full bool) { t.PatchUrgent(uint16(v), full) },
		func(t TCP) uint32 { return uint32(t.Urgent()) }, 0xffff},
}

func TestPatchField(t *testing.T) {
	values := []uint32{rand.Uint32(), rand.Uint32()}
	for _, high := range edges {
		for _, low := range edges {
			values = append(values, uint32(high)<<16|uint32(low))
		}
	}
	for _, c := range patches {
		t.Run(c.name, func(t *testing.T) {
			b := segment().Bytes()
			full, partial := TCP(b[IPv4MinLen:]), TCP(pkttest.Partial(b)[IPv4MinLen:])
			seed := partial.Checksum()
			for _, v := range values {
				c.patch(full, v, true)
				c.patch(partial, v, false)
				if c.read(full) != v&c.mask || c.read(partial) != v&c.mask {
					t.Fatalf("%#x, %#x; want %#x", c.read(full), c.read(partial), v&c.mask)
				}
				pkttest.Verify(t, b)
				if partial.Checksum() != seed {
					t.Fatalf("%#x: partial checksum %04x became %04x", v, seed, partial.Checksum())
				}
			}
		})
	}
}

// TestPatch replaces every range of the options, at even and odd offsets and of even and odd lengths.
func TestPatch(t *testing.T) {
	b := segment().Bytes()
	tcp := TCP(b[IPv4MinLen:])
	for off := TCPMinLen; off < tcp.HeaderLen(); off++ {
		for n := 0; off+n <= tcp.HeaderLen(); n++ {
			for _, fill := range []int{0, 0xff, -1} {
				new := make([]byte, n)
				for i := range new {
					if new[i] = byte(fill); fill < 0 {
						new[i] = byte(rand.Uint32())
					}
				}
				tcp.Patch(off, new, true)
				if !bytes.Equal(tcp[off:off+n], new) {
					t.Fatalf("bytes at %d are % x, want % x", off, tcp[off:off+n], new)
				}
				pkttest.Verify(t, b)
			}
		}
	}
	csum := tcp.Checksum()
	if tcp.Patch(21, []byte{1, 2, 3}, false); tcp.Checksum() != csum || tcp[22] != 2 {
		t.Error("an edit under a partial checksum changed the checksum, or changed nothing")
	}
}

func TestPatchBlank(t *testing.T) {
	for _, kind := range []uint8{OptMSS, OptWindowScale, OptSACKPermitted, OptTimestamps} {
		b := segment().Bytes()
		partial := pkttest.Partial(b)
		tcp := TCP(b[IPv4MinLen:])
		seed := TCP(partial[IPv4MinLen:]).Checksum()
		off, length, _ := tcp.FindOption(kind)
		tcp.PatchBlank(off, length, true)
		pkttest.Verify(t, b)
		TCP(partial[IPv4MinLen:]).PatchBlank(off, length, false)
		if TCP(partial[IPv4MinLen:]).Checksum() != seed {
			t.Errorf("kind %d: the partial checksum changed", kind)
		}
		if d := pkttest.Diff(pkttest.Partial(b), partial); d != "" {
			t.Error(d)
		}
		if _, _, ok := tcp.FindOption(kind); ok {
			t.Errorf("kind %d is still there", kind)
		}
	}
}
