// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// linkTypeIPv4 is a further number under which files of raw IP packets are met (LINKTYPE_IPV4).
const linkTypeIPv4 = layers.LinkType(228)

// Pcap is a port on two capture files of raw IP packets (LINKTYPE_RAW): it receives those of one, and writes what is
// sent to the other, super-packets cut and checksums complete. It has one queue.
type Pcap struct {
	name string
	now  func() time.Time

	mu     sync.Mutex
	in     *pcapgo.Reader // nil at the end of the file
	out    *pcapgo.Writer
	err    error // the first failure, given by Close
	closed bool
	seg    Segmenter
	cut    *Buffer
	counters
}

var _ Port = (*Pcap)(nil)

// OpenPcap reads the file header of in, and writes that of out. Either may be nil: nothing to receive, or nothing kept.
// now stamps what is written, nil is time.Now. Files belong to the caller, who closes them after the port.
func OpenPcap(name string, in io.Reader, out io.Writer, now func() time.Time) (*Pcap, error) {
	p := &Pcap{name: name, now: now, cut: NewBuffer()}
	if now == nil {
		p.now = time.Now
	}
	if in != nil {
		r, err := pcapgo.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("open port %s: read capture: %w", name, err)
		}
		if t := r.LinkType(); t != layers.LinkTypeRaw && t != linkTypeIPv4 {
			return nil, fmt.Errorf("open port %s: capture has link type %v: convert it to raw IP packets (LINKTYPE_RAW)", name, t)
		}
		p.in = r
	}
	if out != nil {
		p.out = pcapgo.NewWriter(out)
		if err := p.out.WriteFileHeader(MaxPacket, layers.LinkTypeRaw); err != nil {
			return nil, fmt.Errorf("open port %s: write capture: %w", name, err)
		}
	}
	return p, nil
}

// Name is part of Port.
func (p *Pcap) Name() string { return p.name }

// Queues is part of Port.
func (p *Pcap) Queues() int { return 1 }

// Done says whether all packets have been received.
func (p *Pcap) Done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in == nil
}

// Receive is part of Port. A file that ends early or is damaged ends there; Close tells.
func (p *Pcap) Receive(_ int, bufs []*Buffer) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, ErrClosed
	}
	n := 0
	for n < len(bufs) && p.in != nil {
		data, _, err := p.in.ZeroCopyReadPacketData()
		if err != nil {
			p.in = nil
			if !errors.Is(err, io.EOF) {
				p.fail(fmt.Errorf("read capture: %w", err))
			}
			break
		}
		b := bufs[n]
		if len(data) > MaxPacket {
			p.rxInvalid.Add(1)
			continue
		}
		b.Set(data)
		if !b.check() {
			p.rxInvalid.Add(1)
			continue
		}
		n++
		p.rxPackets.Add(1)
		p.rxBytes.Add(uint64(b.Len()))
	}
	return n, nil
}

// Send is part of Port.
func (p *Pcap) Send(_ int, bufs []*Buffer) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := 0
	for _, b := range bufs {
		b.Flatten()
		if p.closed || p.err != nil || !p.write(b) {
			p.txRefused.Add(1)
			continue
		}
		taken++
		p.txBytes.Add(uint64(b.Len()))
	}
	return taken
}

// write writes b, cut.
func (p *Pcap) write(b *Buffer) bool {
	p.seg.Start(b)
	for p.seg.Next(p.cut) {
		p.txPackets.Add(1)
		if p.out == nil {
			continue
		}
		info := gopacket.CaptureInfo{Timestamp: p.now(), CaptureLength: p.cut.Len(), Length: p.cut.Len()}
		if err := p.out.WritePacket(info, p.cut.Bytes()); err != nil {
			p.fail(fmt.Errorf("write capture: %w", err))
			return false
		}
	}
	return true
}

// fail keeps the first error.
func (p *Pcap) fail(err error) {
	if p.err == nil {
		p.err = fmt.Errorf("port %s: %w", p.name, err)
	}
}

// FD is part of Port: a file is always readable, and cannot be waited for.
func (p *Pcap) FD(int) int { return -1 }

// Stats is part of Port.
func (p *Pcap) Stats() Stats {
	var s Stats
	p.addTo(&s)
	return s
}

// Close is part of Port. It returns the first failure to read or write the files.
func (p *Pcap) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.in = true, nil
	return p.err
}
