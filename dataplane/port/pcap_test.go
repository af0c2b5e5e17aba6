// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// capture is a file of packets.
func capture(t testing.TB, link layers.LinkType, packets ...[]byte) *bytes.Buffer {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(1<<17, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	return &file
}

func TestPcapReadsAndWrites(t *testing.T) {
	spec := superSpec{gso: 100, payload: bytes.Repeat([]byte("abc"), 100), ttl: 64}
	in := capture(t, layers.LinkTypeRaw, append(spec.plain(t), []byte("no packet"), make([]byte, MaxPacket+1))...)
	var out bytes.Buffer
	at := time.Unix(1000, 0).UTC()
	p, err := OpenPcap("p", in, &out, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	bufs := newBuffers(2)
	var got [][]byte
	for !p.Done() {
		n, err := p.Receive(0, bufs)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bufs[:n] {
			got = append(got, bytes.Clone(b.Bytes()))
		}
	}
	comparePackets(t, got, spec.plain(t))
	if p.Send(0, []*Buffer{spec.super(t)}) != 1 {
		t.Error("refused")
	}
	if s := p.Stats(); s.RxPackets != 3 || s.RxInvalid != 2 || s.TxPackets != 3 || s.TxBytes != 340 {
		t.Errorf("%+v", s)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	r, err := pcapgo.NewReader(&out)
	if err != nil || r.LinkType() != layers.LinkTypeRaw {
		t.Fatal(err)
	}
	got = nil
	for {
		data, info, err := r.ReadPacketData()
		if err != nil {
			break
		}
		if !info.Timestamp.Equal(at) {
			t.Errorf("time %v", info.Timestamp)
		}
		got = append(got, data)
	}
	comparePackets(t, got, spec.plain(t))
}

func TestPcapErrors(t *testing.T) {
	if _, err := OpenPcap("p", capture(t, layers.LinkTypeEthernet), nil, nil); err == nil {
		t.Error("an Ethernet capture is taken")
	}
	if _, err := OpenPcap("p", bytes.NewReader([]byte("no capture")), nil, nil); err == nil {
		t.Error("any file is taken")
	}
	if _, err := OpenPcap("p", nil, full{}, nil); err == nil {
		t.Error("an unwritten header is no error")
	}
	file := capture(t, layers.LinkTypeRaw, []byte("cut off"))
	file.Truncate(file.Len() - 2)
	p, err := OpenPcap("p", file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Receive(0, newBuffers(1)); n != 0 || err != nil || !p.Done() {
		t.Error(n, err)
	}
	if p.Close() == nil {
		t.Error("a damaged file is no error")
	}
	if _, err := p.Receive(0, newBuffers(1)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if p.Send(0, newBuffers(1)) != 0 {
		t.Error("a closed port takes packets")
	}
}

// full is a disk with no room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
