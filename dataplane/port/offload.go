// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/binary"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// vnetHdrLen is the size of struct virtio_net_hdr without num_buffers, what the kernel uses unless TUNSETVNETHDRSZ
// says otherwise.
const vnetHdrLen = 10

// putVnetHdr encodes o into h. l2 is the length of the link header between h and the IP header: the kernel's offsets
// count from the start of the frame. All bytes are written, so a header is never stale.
func putVnetHdr(h []byte, o *Offload, l2 uint16) {
	_ = h[vnetHdrLen-1]
	if o.Flags&NeedsCsum == 0 {
		clear(h[:vnetHdrLen])
		return
	}
	h[0], h[1] = NeedsCsum, o.GSOType
	hdrLen := o.HdrLen
	if o.GSOType != GSONone {
		hdrLen += l2
	}
	binary.LittleEndian.PutUint16(h[2:], hdrLen)
	binary.LittleEndian.PutUint16(h[4:], o.GSOSize)
	binary.LittleEndian.PutUint16(h[6:], o.CsumStart+l2)
	binary.LittleEndian.PutUint16(h[8:], o.CsumOffset)
}

// getVnetHdr decodes h. It is false when the checksum starts before the IP header; all other rules are check's.
func getVnetHdr(h []byte, l2 uint16) (Offload, bool) {
	_ = h[vnetHdrLen-1]
	o := Offload{Flags: h[0] & (NeedsCsum | DataValid), GSOType: h[1]}
	if o.GSOType != GSONone {
		o.GSOSize = binary.LittleEndian.Uint16(h[4:])
	}
	if o.Flags&NeedsCsum != 0 {
		start := binary.LittleEndian.Uint16(h[6:])
		if start < l2 {
			return o, false
		}
		o.CsumStart, o.CsumOffset = start-l2, binary.LittleEndian.Uint16(h[8:])
	}
	return o, true
}

// Offsets of checksum fields in their headers.
const (
	tcpCsumOffset = 16
	udpCsumOffset = 6
)

// check makes a packet that came from outside keep the rules the engine relies on, and is false when it cannot:
// the window ends where the IP header says; HdrLen, CsumStart and CsumOffset are right and inside the packet; a GSO
// type fits the headers, has NeedsCsum and stands for more than one segment. HdrLen is computed here because the
// kernel's is a hint, which can cover the first segment of a forwarded packet. A partial checksum of anything but the
// packet's own transport header, an inner one of a tunnel say, is completed: rewriting relies on its place.
func (b *Buffer) check() bool {
	l4, proto, ok := b.trim()
	if !ok {
		return false
	}
	o := &b.Offload
	if o.GSOType != GSONone {
		return b.checkGSO(l4, proto)
	}
	if o.Flags&NeedsCsum == 0 {
		return true
	}
	start, offset := int(o.CsumStart), int(o.CsumOffset)
	if start < wire.IPv4MinLen || start+offset+2 > b.Len() {
		return false
	}
	if start != l4 || offset != csumOffset(proto) {
		Complete(b)
	}
	return true
}

// checkGSO is check for a packet with a GSO type.
func (b *Buffer) checkGSO(l4 int, proto uint8) bool {
	o, p := &b.Offload, b.Bytes()
	if o.Flags&NeedsCsum == 0 || int(o.CsumStart) != l4 || int(o.CsumOffset) != csumOffset(proto) || o.GSOSize == 0 {
		return false
	}
	hdrLen := 0
	switch o.GSOType {
	case GSOTCPv4, GSOTCPv4 | GSOECN, GSOTCPv6, GSOTCPv6 | GSOECN:
		tcp, ok := wire.ParseTCP(p[l4:])
		if !ok || proto != wire.ProtoTCP || (p[0]>>4 == 4) != (o.GSOType&^GSOECN == GSOTCPv4) {
			return false
		}
		hdrLen = l4 + tcp.HeaderLen()
	case GSOUDP:
		if proto != wire.ProtoUDP || len(p) < l4+wire.UDPLen {
			return false
		}
		hdrLen = l4 + wire.UDPLen
	default:
		return false
	}
	o.HdrLen = uint16(hdrLen)
	if len(p)-hdrLen <= int(o.GSOSize) {
		o.GSOType, o.GSOSize, o.HdrLen = GSONone, 0, 0
	}
	return true
}

// csumOffset is where a transport header keeps its checksum, -1 when it has none that can be partial.
func csumOffset(proto uint8) int {
	switch proto {
	case wire.ProtoTCP:
		return tcpCsumOffset
	case wire.ProtoUDP:
		return udpCsumOffset
	}
	return -1
}

// IPv6 header fields (RFC 8200 section 3), as far as this package needs them.
const (
	ipv6Len        = 40
	ipv6PayloadLen = 4
	ipv6NextHeader = 6
	ipv6Src        = 8
	ipv6Dst        = 24
)

// trim ends the window where the IP header says, which removes the padding of short Ethernet frames, and returns the
// offset and protocol of what follows the IP header. It is false when the packet is truncated or not IP. The protocol
// is 0 in all fragments, and that of an extension header where IPv6 has one: neither has a transport header at l4.
func (b *Buffer) trim() (l4 int, proto uint8, ok bool) {
	p := b.Bytes()
	if h, ok := wire.ParseIPv4(p); ok {
		b.SetLen(len(h))
		if h.IsFragment() {
			return h.HeaderLen(), 0, true
		}
		return h.HeaderLen(), h.Protocol(), true
	}
	if len(p) < ipv6Len || p[0]>>4 != 6 {
		return 0, 0, false
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(p[ipv6PayloadLen:]))
	if total > len(p) {
		return 0, 0, false
	}
	b.SetLen(total)
	return ipv6Len, p[ipv6NextHeader], true
}
