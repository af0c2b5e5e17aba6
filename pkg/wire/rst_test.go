// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/pkttest"
)

func TestPutReset(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    string
		seq, ack uint32
		payload  int
		want     pkttest.TCP
	}{
		{"syn", "S", 1000, 0, 0, pkttest.TCP{Flags: "RA", Ack: 1001}},
		{"syn with data", "S", 1000, 0, 9, pkttest.TCP{Flags: "RA", Ack: 1010}},
		{"syn of ISN -1", "S", 0xffffffff, 0, 0, pkttest.TCP{Flags: "RA", Ack: 0}},
		{"syn ack", "SA", 1000, 77, 0, pkttest.TCP{Flags: "R", Seq: 77}},
		{"ack", "A", 1000, 0xffffffff, 0, pkttest.TCP{Flags: "R", Seq: 0xffffffff}},
		{"data", "PA", 1000, 77, 500, pkttest.TCP{Flags: "R", Seq: 77}},
		{"fin without ack", "F", 1000, 0, 5, pkttest.TCP{Flags: "RA", Ack: 1006}},
		{"no flags, ack field set", "", 1000, 77, 5, pkttest.TCP{Flags: "RA", Ack: 1005}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := pkttest.TCP{
				Src: clientAddr, Dst: serverAddr, Seq: c.seq, Ack: c.ack, Flags: c.flags, Window: 99, ID: 5, TTL: 9, TOS: 1,
				Payload: make([]byte, c.payload),
			}.Bytes()
			c.want.Src, c.want.Dst = serverAddr, clientAddr
			want := c.want.Bytes()

			got := bytes.Repeat([]byte{0xee}, ResetLen+4)
			if n := PutReset(got, in, in[IPv4MinLen:], c.payload); n != ResetLen {
				t.Fatalf("wrote %d bytes", n)
			}
			if d := pkttest.Diff(want, got[:ResetLen]); d != "" {
				t.Error(d)
			}
			pkttest.Verify(t, got[:ResetLen])
			if !bytes.Equal(got[ResetLen:], []byte{0xee, 0xee, 0xee, 0xee}) {
				t.Error("bytes behind the packet were written")
			}
			// In place of the packet it answers.
			PutReset(in, in, in[IPv4MinLen:], c.payload)
			if d := pkttest.Diff(want, in[:ResetLen]); d != "" {
				t.Errorf("in place: %s", d)
			}
		})
	}
}

func TestPutReset6(t *testing.T) {
	for flags, want := range map[string]pkttest.TCP{
		"SF": {Flags: "RA", Ack: 1011},
		"PA": {Flags: "R", Seq: 77},
	} {
		in := pkttest.TCP{
			Src: client6Addr, Dst: server6Addr, Seq: 1000, Ack: 77, Flags: flags, Window: 99, TTL: 9, TOS: 1, Payload: make([]byte, 9),
		}.Bytes()
		want.Src, want.Dst = server6Addr, client6Addr
		got := make([]byte, Reset6Len)
		if n := PutReset6(got, in, in[IPv6Len:], 9); n != Reset6Len {
			t.Fatalf("[%s]: wrote %d bytes", flags, n)
		}
		if d := pkttest.Diff(want.Bytes(), got); d != "" {
			t.Errorf("[%s]: %s", flags, d)
		}
		pkttest.Verify(t, got)
		// In place of the packet it answers.
		PutReset6(in, in, in[IPv6Len:], 9)
		if d := pkttest.Diff(got, in[:Reset6Len]); d != "" {
			t.Errorf("[%s] in place: %s", flags, d)
		}
	}
}

func TestPutResetNeverAnswersReset(t *testing.T) {
	for _, flags := range []string{"R", "RA", "SR"} {
		in := pkttest.TCP{Src: clientAddr, Dst: serverAddr, Flags: flags}.Bytes()
		dst := make([]byte, ResetLen)
		if n := PutReset(dst, in, in[IPv4MinLen:], 0); n != 0 || !bytes.Equal(dst, make([]byte, ResetLen)) {
			t.Errorf("[%s] is answered by %d bytes: % x", flags, n, dst)
		}
		over6 := pkttest.TCP{Src: client6Addr, Dst: server6Addr, Flags: flags}.Bytes()
		if n := PutReset6(make([]byte, Reset6Len), over6, over6[IPv6Len:], 0); n != 0 {
			t.Errorf("[%s] over IPv6 is answered by %d bytes", flags, n)
		}
	}
}
