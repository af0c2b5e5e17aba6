// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

// option is one option as the iterator reports it.
type option struct {
	kind        uint8
	off, length int
}

// withOptions is a header with the option bytes, padded with zeros to a multiple of four, in a view of just its size.
func withOptions(opts ...byte) TCP {
	n := TCPMinLen + (len(opts)+3)/4*4
	t := make(TCP, n)
	t.SetHeaderLen(n)
	copy(t[TCPMinLen:], opts)
	return t[:n:n]
}

// collect is what the iterator reports.
func collect(t TCP) []option {
	var out []option
	for o := t.IterOptions(); ; {
		kind, off, length, ok := o.Next()
		if !ok {
			return out
		}
		out = append(out, option{kind, off, length})
	}
}

// slowOptions is the twin of the iterator: it peels options off a copy, and says whether the list was well formed.
func slowOptions(opts []byte, off int) (out []option, wellFormed bool) {
	switch {
	case len(opts) == 0 || opts[0] == OptEnd:
		return nil, true
	case opts[0] == OptNOP:
		return slowOptions(opts[1:], off+1)
	case len(opts) == 1 || opts[1] < 2 || int(opts[1]) > len(opts):
		return nil, false
	}
	n := int(opts[1])
	rest, wellFormed := slowOptions(opts[n:], off+n)
	return append([]option{{opts[0], off, n}}, rest...), wellFormed
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []byte
		want []option
	}{
		{"none", nil, nil},
		{"one", []byte{2, 4, 1, 2}, []option{{OptMSS, 20, 4}}},
		{"behind padding", []byte{1, 1, 1, 3, 3, 7, 0, 0}, []option{{OptWindowScale, 23, 3}}},
		{"padding alone", []byte{1, 1, 1, 1}, nil},
		{"behind the end", []byte{4, 2, 0, 2, 4, 1, 2, 0}, []option{{OptSACKPermitted, 20, 2}}},
		{"two of a kind", []byte{4, 2, 4, 2}, []option{{OptSACKPermitted, 20, 2}, {OptSACKPermitted, 22, 2}}},
		{"length zero", []byte{4, 2, 8, 0}, []option{{OptSACKPermitted, 20, 2}}},
		{"length one", []byte{8, 1, 4, 2}, nil},
		{"length beyond the header", []byte{4, 2, 8, 3}, []option{{OptSACKPermitted, 20, 2}}},
		{"no length", []byte{1, 1, 1, 8}, nil},
		{"fills the header", []byte{8, 4, 1, 1}, []option{{OptTimestamps, 20, 4}}},
		{"length 255", []byte{8, 255, 1, 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := collect(withOptions(c.opts...)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got := collect(append(withOptions(c.opts...), 4, 2, 4, 2)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("with a payload: got %v, want %v", got, c.want)
			}
		})
	}
}

// TestOptionsStop checks that an iterator that has ended stays ended, for a malformed list too.
func TestOptionsStop(t *testing.T) {
	o := withOptions(8, 0, 4, 2).IterOptions()
	for range 3 {
		if kind, _, _, ok := o.Next(); ok {
			t.Errorf("found kind %d behind a malformed option", kind)
		}
	}
	var zero Options
	if _, _, _, ok := zero.Next(); ok {
		t.Error("the zero value has an option")
	}
}

// TestOptionsBadDataOffset checks that a data offset that lies never reads past the view or into the fixed header.
func TestOptionsBadDataOffset(t *testing.T) {
	for n := 0; n <= 60; n += 4 {
		tcp := withOptions(4, 2, 8, 4)
		tcp.SetHeaderLen(n)
		want := 0
		if n >= 24 {
			want = 1
		}
		tcp = tcp[:22:22]
		if got := collect(tcp); len(got) != want || len(tcp.Options()) != 2*want {
			t.Errorf("header length %d: options %v in % x", n, got, tcp.Options())
		}
	}
}

func TestFindOption(t *testing.T) {
	tcp := withOptions(1, 2, 4, 1, 2, 3, 3, 9, 4, 2, 34, 2)
	for _, c := range []struct {
		kind        uint8
		off, length int
		ok          bool
	}{
		{OptMSS, 21, 4, true},
		{OptWindowScale, 25, 3, true},
		{OptFastOpen, 30, 2, true},
		{OptTimestamps, 0, 0, false},
		{OptNOP, 0, 0, false},
		{OptEnd, 0, 0, false},
	} {
		if off, length, ok := tcp.FindOption(c.kind); off != c.off || length != c.length || ok != c.ok {
			t.Errorf("kind %d: offset %d, length %d, ok %v; want %+v", c.kind, off, length, ok, c)
		}
	}
}

func TestMSSAndWindowScale(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  []byte
		mss   uint16
		hasM  bool
		shift uint8
		hasW  bool
	}{
		{"both", []byte{2, 4, 0x23, 0, 1, 3, 3, 14}, 8960, true, 14, true},
		{"odd offset", []byte{1, 2, 4, 0x23, 1}, 8961, true, 0, false},
		{"neither", []byte{4, 2}, 0, false, 0, false},
		{"wrong lengths", []byte{2, 3, 9, 3, 4, 1, 1}, 0, false, 0, false},
		{"wrong length first", []byte{2, 2, 3, 2, 2, 4, 0, 9, 3, 3, 5}, 9, true, 5, true},
		{"first of two", []byte{2, 4, 0, 1, 2, 4, 0, 2}, 1, true, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tcp := withOptions(c.opts...)
			mss, hasM := tcp.MSS()
			shift, hasW := tcp.WindowScale()
			if mss != c.mss || hasM != c.hasM || shift != c.shift || hasW != c.hasW {
				t.Errorf("MSS %d %v, shift %d %v; want %+v", mss, hasM, shift, hasW, c)
			}
			old, off, ok := tcp.SetMSS(536)
			if old != c.mss || ok != c.hasM {
				t.Errorf("SetMSS: old %d, ok %v", old, ok)
			}
			if now, has := tcp.MSS(); has && (now != 536 || tcp[off] != 2 || tcp[off+1] != 24) {
				t.Errorf("MSS is %d after SetMSS, which says it wrote at %d", now, off)
			}
		})
	}
}

// FuzzTCPOptions compares the iterator with its twin on every input, and with gopacket where the list is well formed.
func FuzzTCPOptions(f *testing.F) {
	f.Add([]byte(segment().Bytes()[IPv4MinLen:]), uint8(OptMSS))
	f.Add([]byte(withOptions(2, 4, 1, 2, 30, 12, 0, 129, 1, 2, 3, 4, 5, 6, 7, 8)), uint8(OptMPTCP))
	f.Add([]byte(withOptions(1, 34, 2, 254, 4, 0xf9, 0x89, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2)), uint8(OptExperimental))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		if len(b) < TCPMinLen {
			return
		}
		view := TCP(b[:len(b):len(b)])
		want, wellFormed := slowOptions(view.Options(), TCPMinLen)
		got := collect(view)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		checkFind(t, view, want, kind)

		theirs, err := decodeTCP(b)
		tcp, ok := ParseTCP(b)
		if ok != (err == nil) {
			t.Fatalf("parse is %v, gopacket says: %v", ok, err)
		}
		if ok {
			compareTCP(t, tcp, theirs)
			if wellFormed {
				compareOptions(t, tcp, want, theirs)
			}
		}
	})
}

// checkFind checks the finders against the list of options.
func checkFind(t *testing.T, view TCP, list []option, kind uint8) {
	t.Helper()
	var first option
	var mss []byte
	for _, o := range list {
		if o.kind == kind && first.length == 0 {
			first = o
		}
		if o.kind == OptMSS && o.length == 4 && mss == nil {
			mss = view[o.off+2:][:2]
		}
	}
	if off, length, ok := view.FindOption(kind); ok != (first.length > 0) || off != first.off || length != first.length {
		t.Fatalf("kind %d: offset %d, length %d, ok %v; want %v", kind, off, length, ok, first)
	}
	if v, ok := view.MSS(); ok != (mss != nil) || ok && v != uint16(mss[0])<<8|uint16(mss[1]) {
		t.Fatalf("MSS %d, ok %v; want bytes % x", v, ok, mss)
	}
}

func compareTCP(t *testing.T, tcp TCP, want *layers.TCP) {
	t.Helper()
	if tcp.SrcPort() != uint16(want.SrcPort) || tcp.DstPort() != uint16(want.DstPort) || tcp.Seq() != want.Seq ||
		tcp.Ack() != want.Ack || tcp.HeaderLen() != len(want.Contents) || tcp.Window() != want.Window ||
		tcp.Checksum() != want.Checksum || tcp.Urgent() != want.Urgent || tcp.Flags() != tcp[13] {
		t.Fatalf("header % x differs from %+v", tcp[:tcp.HeaderLen()], want)
	}
}

// compareOptions compares a well-formed list with gopacket's, up to a Multipath TCP option that gopacket finds wrong inside.
func compareOptions(t *testing.T, tcp TCP, list []option, want *layers.TCP) {
	t.Helper()
	for _, o := range want.Options {
		if o.OptionType == layers.TCPOptionKindNop || o.OptionType == layers.TCPOptionKindEndList {
			continue
		}
		if len(list) == 0 {
			t.Fatalf("gopacket has one more option: %v", o)
		}
		ours := fmt.Sprintf("%d % x", list[0].kind, tcp[list[0].off+2:list[0].off+list[0].length])
		if theirs := fmt.Sprintf("%d % x", o.OptionType, o.OptionData); ours != theirs {
			t.Fatalf("option %s, gopacket has %s", ours, theirs)
		}
		list = list[1:]
	}
	if len(list) > 0 && list[0].kind != OptMPTCP {
		t.Fatalf("gopacket lacks %v", list)
	}
}

func TestBlank(t *testing.T) {
	b := segment().Bytes()
	tcp := TCP(b[IPv4MinLen:])
	off, length, _ := tcp.FindOption(OptTimestamps)
	tcp.Blank(off, length)
	want := segment()
	want.Options = want.Options[:4]
	for range length {
		want.Options = append(want.Options, pkttest.NOP())
	}
	tcp.SetChecksum(TCP(want.Bytes()[IPv4MinLen:]).Checksum())
	if d := pkttest.Diff(want.Bytes(), b); d != "" {
		t.Error(d)
	}
}
