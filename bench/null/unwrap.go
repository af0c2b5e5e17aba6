// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package null

import "encoding/binary"

// unwrapper takes packets out of GENEVE datagrams and joins the segments of what was a super-packet, by their numbers, and
// UDP packets that follow each other, by their length and the outer source port alone.
type unwrapper struct {
	out    gather
	head   []byte // of the run: room for a virtio_net_hdr, then the first member
	note   note   // of the first member
	port   uint16
	l4     int
	hdr    int
	size   int // payload bytes of the first member
	bytes  int // payload bytes of all
	count  int
	closed bool // the last member is in
}

// note is what the wrapper has noted of a packet.
type note struct {
	vnet   [vnetHeader - 2]byte // flags, type, segment size, and where the checksum is
	number uint16
	serial uint16
}

// packet takes the datagrams out of a packet that begins at start, its virtio_net_hdr before it.
func (u *unwrapper) packet(mem []byte, end int) {
	p := mem[start:end]
	if !isIPv4(p) || p[0] != 0x45 || p[9] != udp {
		return
	}
	size := len(p) - outerLen
	if vnet := mem[start-vnetHeader:]; vnet[1] == gsoUDP {
		size = int(binary.NativeEndian.Uint16(vnet[4:]))
	}
	port := binary.BigEndian.Uint16(p[ipLen:])
	for d := p[outerLen:]; len(d) > 0; {
		n := min(size, len(d))
		if n < geneveLen || !isIPv4(d[geneveLen:n]) {
			return
		}
		u.datagram(d[:n:n], port)
		d = d[n:]
	}
}

func (u *unwrapper) datagram(d []byte, port uint16) {
	k := note{vnet: [vnetHeader - 2]byte(d[noteVnet:]), number: binary.BigEndian.Uint16(d[noteNumber:]),
		serial: binary.BigEndian.Uint16(d[noteSerial:])}
	p := d[geneveLen:]
	l4 := int(p[0]&0x0f) * 4
	hdr := headersLen(p, l4)
	n := len(p) - hdr
	if n < 0 {
		return
	}
	if u.continued(&k, port, n) {
		if p[9] == tcp {
			u.head[vnetHeader+l4+13] |= p[l4+13]
		}
		u.out.add(p[hdr:])
	} else {
		u.flush()
		u.head, u.note, u.port, u.l4, u.hdr, u.size = d[geneveLen-vnetHeader:], k, port, l4, hdr, n
		u.out.add(u.head)
	}
	u.bytes += n
	u.count++
	u.closed = n < u.size || u.count == segmentsMost
}

// continued says whether a packet of n payload bytes is the next member of the run.
func (u *unwrapper) continued(k *note, port uint16, n int) bool {
	if u.count == 0 || u.closed || n == 0 || n > u.size || port != u.port || k.vnet != u.note.vnet || u.hdr+u.bytes+n > 65535 {
		return false
	}
	if k.number == alone {
		return u.note.number == alone
	}
	return k.number > 0 && k.serial == u.note.serial && k.number == u.note.number+uint16(u.count)
}

// flush writes the run: as it was where that is a packet that was never cut, and else as a super-packet.
func (u *unwrapper) flush() {
	if u.count == 0 {
		return
	}
	gso := u.note.vnet[1]
	if u.count == 1 && gso == 0 {
		copy(u.head, u.note.vnet[:2])
		copy(u.head[2:4], []byte{0, 0})
		copy(u.head[4:], u.note.vnet[2:])
	} else {
		p := u.head[vnetHeader:]
		pseudo, csum := setTotal(p, u.l4, u.hdr+u.bytes), 16
		if p[9] != tcp {
			gso, csum = gsoUDP, 6
			binary.BigEndian.PutUint16(p[u.l4+4:], uint16(udpLen+u.bytes))
		}
		binary.BigEndian.PutUint16(p[u.l4+csum:], pseudo)
		putVnet(u.head, gso, u.hdr, u.size, u.count, u.l4, csum)
	}
	u.out.write()
	u.count, u.bytes, u.closed = 0, 0, false
}
