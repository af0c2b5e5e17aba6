// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package null

import "encoding/binary"

// wrapper makes GENEVE datagrams of packets, and UDP super-packets of datagrams that follow each other, are no longer than
// the first, and have its source port.
type wrapper struct {
	outer  [outerLen]byte  // constant but for lengths, checksums and the source port
	geneve [geneveLen]byte // constant but for notes
	serial uint16
	ring   []byte // of headers of segments; those of a run and of the next one's first member fit several times
	used   int

	out    gather
	head   []byte // of the run: room for all outer headers, then the first member
	port   uint16
	size   int // of the first member
	bytes  int
	count  int
	closed bool // the last member is in
}

// room is what a member has before it for the case that it is the first.
const room = vnetHeader + outerLen

func newWrapper(node int, t Tunnel) *wrapper {
	w := &wrapper{ring: make([]byte, 64<<10), out: gather{fd: node}}
	ip, ports := w.outer[:ipLen], w.outer[ipLen:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 255, udp // five words, DF, TTL
	copy(ip[12:], t.Node[:])
	copy(ip[16:], t.Appliance[:])
	binary.BigEndian.PutUint16(ports[2:], genevePort)
	g := w.geneve[:]
	g[0] = (geneveLen - 8) / 4
	copy(g[2:], []byte{0x08, 0x00})              // IPv4
	copy(g[8:], []byte{0x01, 0x08, 1, 2})        // endpoint
	copy(g[20:], []byte{0x01, 0x08, 2, 2})       // attachment
	copy(g[32:], []byte{0x01, 0x08, 3, 1})       // cookie
	copy(g[12:], []byte{0, 0, 0, 0, 0, 0, 0, 1}) // the endpoint's number
	return w
}

// packet takes a packet that begins at start, its virtio_net_hdr before it.
func (w *wrapper) packet(mem []byte, end int) {
	p := mem[start:end]
	if !isIPv4(p) {
		return
	}
	w.serial++
	// Ports make the source port of a flow, or whatever else stands there.
	port := 49152 | (binary.BigEndian.Uint16(p[ipLen:])^binary.BigEndian.Uint16(p[ipLen+2:]))&0x3fff
	vnet := [vnetHeader]byte(mem[start-vnetHeader : start])
	if vnet[1] != 0 {
		w.segments(mem[:end], &vnet, port)
		return
	}
	number := uint16(0)
	if p[9] == udp {
		number = alone
	}
	w.putGeneve(mem[start-geneveLen:], &vnet, number)
	w.add(port, mem[start-geneveLen-room:end], nil)
}

// segments cuts a super-packet. The first segment stays where it is; the others get copies of its headers.
func (w *wrapper) segments(mem []byte, vnet *[vnetHeader]byte, port uint16) {
	p := mem[start:]
	l4 := int(p[0]&0x0f) * 4
	hdr := headersLen(p, l4)
	size := int(binary.NativeEndian.Uint16(vnet[4:]))
	if len(p) <= hdr || size == 0 {
		return
	}
	headers := w.take(hdr)
	copy(headers, p)
	payload := p[hdr:]
	chunk := mem[start-geneveLen-room : start+hdr]
	for i := 0; len(payload) > 0; i++ {
		n := min(size, len(payload))
		if i > 0 {
			chunk = w.take(room + geneveLen + hdr)
			copy(chunk[room+geneveLen:], headers)
		}
		w.putGeneve(chunk[room:], vnet, uint16(i))
		setSegment(chunk[room+geneveLen:], l4, n, i*size, n == len(payload))
		w.add(port, chunk, payload[:n])
		payload = payload[n:]
	}
}

// setSegment makes headers of a super-packet those of a segment of n payload bytes, behind offset others.
func setSegment(h []byte, l4, n, offset int, last bool) {
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+n))
	if h[9] != tcp {
		binary.BigEndian.PutUint16(h[l4+4:], uint16(udpLen+n))
		return
	}
	seq := h[l4+4:]
	binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+uint32(offset))
	if !last {
		h[l4+13] &^= finPsh
	}
}

// putGeneve writes the header that goes before a packet, with what is to be known of it when it is back.
func (w *wrapper) putGeneve(dst []byte, vnet *[vnetHeader]byte, number uint16) {
	copy(dst, w.geneve[:])
	copy(dst[noteVnet:], vnet[:2])
	copy(dst[noteVnet+2:], vnet[4:])
	binary.BigEndian.PutUint16(dst[noteNumber:], number)
	binary.BigEndian.PutUint16(dst[noteSerial:], w.serial)
}

// add puts a datagram behind the run, or begins a new one with it. It consists of the chunk without its room and of the
// payload, both borrowed until flush.
func (w *wrapper) add(port uint16, chunk, payload []byte) {
	n := len(chunk) - room + len(payload)
	if w.count > 0 && (w.closed || port != w.port || n > w.size || w.bytes+n > superMost) {
		w.flush()
	}
	if w.count == 0 {
		w.head, w.port, w.size, w.bytes = chunk, port, n, 0
		w.out.add(chunk)
	} else {
		w.out.add(chunk[room:])
	}
	if len(payload) > 0 {
		w.out.add(payload)
	}
	w.bytes += n
	w.count++
	w.closed = n < w.size || w.count == segmentsMost
}

// flush writes the run under its outer headers.
func (w *wrapper) flush() {
	if w.count == 0 {
		return
	}
	p := w.head[vnetHeader:]
	copy(p, w.outer[:])
	pseudo := setTotal(p, ipLen, outerLen+w.bytes)
	binary.BigEndian.PutUint16(p[ipLen:], w.port)
	binary.BigEndian.PutUint16(p[ipLen+4:], uint16(udpLen+w.bytes))
	if w.count > 1 {
		binary.BigEndian.PutUint16(p[ipLen+6:], pseudo)
		putVnet(w.head, gsoUDP, outerLen, w.size, w.count, ipLen, 6)
	} else {
		clear(w.head[:vnetHeader]) // one datagram's checksum is zero
	}
	w.out.write()
	w.count, w.closed = 0, false
}

func (w *wrapper) take(n int) []byte {
	if w.used+n > len(w.ring) {
		w.used = 0
	}
	w.used += n
	return w.ring[w.used-n : w.used : w.used]
}
