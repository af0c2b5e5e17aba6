// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package null

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lengths of what stands before an inner packet, in bytes.
const (
	ipLen     = 20
	udpLen    = 8
	tcpLen    = 20 // at least
	geneveLen = 40 // with the three options
	outerLen  = ipLen + udpLen

	// start is where a packet that is read lies in its memory: behind room for all that is put before it.
	start = vnetHeader + outerLen + geneveLen
)

const (
	tcp = 6
	udp = 17

	genevePort = 6081

	needsCsum = 1 // flag of virtio_net_hdr
	gsoUDP    = 5 // type of virtio_net_hdr

	superMost    = 65507 // payload bytes of a UDP super-packet
	segmentsMost = 64    // datagrams of one

	// batchBytes is about how many bytes are read before what became of them is written, so that they stay in the cache.
	batchBytes = 128 << 10

	finPsh = 0x09 // TCP flags that only the last segment has
)

// Offsets in the GENEVE header of what the copier notes of a packet.
const (
	noteVnet   = 24 // in the attachment: virtio_net_hdr without hdr_len, which is a hint at best
	noteNumber = 36 // in the cookie: the segment's number, or alone
	noteSerial = 38 // in the cookie: the packet's number
	alone      = 0xffff
)

// Tunnel is the constant part of the outer headers, in network byte order.
type Tunnel struct {
	Node, Appliance [4]byte
}

// RunGeneve carries what is routed into the endpoint's device to the appliance behind the node's device, and what comes back
// from there into the endpoint's device; otherwise it is like Run. Of IPv6 it carries nothing.
func RunGeneve(endpoint, node []int, t Tunnel, pin bool) error {
	return each(len(endpoint), pin, func(i int) error {
		b := newBatch()
		w, u := newWrapper(node[i], t), &unwrapper{out: gather{fd: endpoint[i]}}
		return alternate(endpoint[i], node[i],
			func() (int, error) { return b.carry(endpoint[i], w.packet, w.flush) },
			func() (int, error) { return b.carry(node[i], u.packet, u.flush) })
	})
}

// batch is memory for the packets that are read before what became of them is written.
type batch struct {
	mem  [budget][]byte
	ends [budget]int
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.mem {
		b.mem[i] = make([]byte, start+largest)
	}
	return b
}

// carry reads a batch, hands each packet on, with the memory before and behind it, and flushes what became of them. It
// returns how many it read.
func (b *batch) carry(from int, packet func(mem []byte, end int), flush func()) (int, error) {
	n := 0
	for bytes := 0; n < budget && bytes < batchBytes; n++ {
		room := b.mem[n][start-vnetHeader:]
		length, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(from), uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)))
		if errno == unix.EAGAIN {
			break
		}
		if errno != 0 {
			return n, fmt.Errorf("read packet: %w", errno)
		}
		b.ends[n] = start - vnetHeader + int(length)
		bytes += int(length)
	}
	for i := range n {
		packet(b.mem[i], b.ends[i])
	}
	flush()
	return n, nil
}

// gather is a packet in pieces that lie where they were read.
type gather struct {
	fd     int
	pieces []unix.Iovec
}

func (g *gather) add(b []byte) {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	g.pieces = append(g.pieces, v)
}

// write sends the packet. What the device does not take is lost, as on any wire.
func (g *gather) write() {
	if len(g.pieces) == 1 {
		v := &g.pieces[0]
		unix.RawSyscall(unix.SYS_WRITE, uintptr(g.fd), uintptr(unsafe.Pointer(v.Base)), uintptr(v.Len))
	} else {
		unix.RawSyscall(unix.SYS_WRITEV, uintptr(g.fd), uintptr(unsafe.Pointer(&g.pieces[0])), uintptr(len(g.pieces)))
	}
	g.pieces = g.pieces[:0]
}

// isIPv4 says whether p is an IPv4 packet with something in it, as far as is needed to look for its headers' end.
func isIPv4(p []byte) bool {
	return len(p) >= ipLen+udpLen && p[0] >= 0x45 && p[0] <= 0x4f && len(p) >= int(p[0]&0x0f)*4+udpLen
}

// headersLen is the length of the headers of p, whose transport header is at l4, and more than that of p where it is no
// whole TCP segment. What is not TCP counts as UDP.
func headersLen(p []byte, l4 int) int {
	if p[9] != tcp {
		return l4 + udpLen
	}
	if len(p) < l4+tcpLen || p[l4+12]>>4 < tcpLen/4 {
		return len(p) + 1
	}
	return l4 + int(p[l4+12]>>4)*4
}

// putVnet writes a virtio_net_hdr that asks for a checksum and, where there are more segments than one, for segmentation.
func putVnet(v []byte, gso uint8, hdr, size, segments, l4, csum int) {
	clear(v[:vnetHeader])
	v[0] = needsCsum
	if segments > 1 {
		v[1] = gso
		binary.NativeEndian.PutUint16(v[4:], uint16(size))
	}
	binary.NativeEndian.PutUint16(v[2:], uint16(hdr))
	binary.NativeEndian.PutUint16(v[6:], uint16(l4))
	binary.NativeEndian.PutUint16(v[8:], uint16(csum))
}

// setTotal makes the IPv4 header in p, of l4 bytes, one of a packet of total bytes, and returns the folded sum of the
// pseudo-header.
func setTotal(p []byte, l4, total int) uint16 {
	binary.BigEndian.PutUint16(p[2:], uint16(total))
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^fold(sum(p[:l4])))
	return fold(sum(p[12:ipLen]) + uint32(p[9]) + uint32(total-l4))
}

// sum adds up an even number of bytes.
func sum(b []byte) (s uint32) {
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return s
}

func fold(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
