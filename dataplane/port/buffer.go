// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

// Sizes of a Buffer, in bytes.
const (
	// Headroom is the free space in front of a received packet. It holds the sum of all headers a route can push: the
	// largest PROXY protocol v2 header (124), or GENEVE with its outer headers over IPv6 (88), and Ethernet (14).
	Headroom = 256
	// MaxPacket is the largest packet or super-packet, an IPv4 total length.
	MaxPacket = 65535
	// BufferSize is the size of a Buffer's memory. A read shorter than the packet would truncate it silently, so every
	// read offers room for MaxPacket and an Ethernet header.
	BufferSize = Headroom + 14 + MaxPacket + 3
)

// Flags of Offload.Flags, as in virtio_net_hdr (include/uapi/linux/virtio_net.h).
const (
	// NeedsCsum says that the field at CsumStart+CsumOffset holds the folded, uncomplemented sum of the pseudo-header
	// and that the sum from CsumStart to the end of the packet has still to be added and complemented.
	NeedsCsum = 1
	// DataValid says that the checksum has been verified already.
	DataValid = 2
)

// Values of Offload.GSOType, as in virtio_net_hdr.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDP   = 5    // UDP_L4, one datagram per GSOSize bytes of payload
	GSOECN   = 0x80 // a bit beside the type: the first segment carries CWR
)

// Offload is what a device says of a packet beside its bytes: the fields of virtio_net_hdr in host byte order. Offsets
// count from the start of the IP header, whatever the device's layer. The zero value is a plain packet whose
// checksums are complete.
type Offload struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // bytes of all headers up to the payload of the transport; 0 without GSO
	GSOSize    uint16 // payload bytes of each segment but the last; 0 without GSO
	CsumStart  uint16
	CsumOffset uint16
}

// Buffer is the memory of one packet or super-packet: a fixed array with a window that starts at the IP header. It has
// one owner at a time, see Port. Buffers are made once, by NewBuffer, and reused.
type Buffer struct {
	Offload
	// Via is the ENI that the link layer named, on ports that have one: the owner of a received frame's destination
	// address, and of a sent frame's source address where the packet's own source is no ENI of the port. Zero is none.
	Via      [4]byte
	off, end int
	mem      *[BufferSize]byte
	tail     [][]byte // see AddTail
	tailLen  int
}

// NewBuffer allocates a buffer with an empty window at Headroom.
func NewBuffer() *Buffer { return &Buffer{off: Headroom, end: Headroom, mem: new([BufferSize]byte)} }

// Reset empties the window, restores the headroom and clears the fields beside it.
func (b *Buffer) Reset() {
	b.off, b.end, b.Offload, b.Via = Headroom, Headroom, Offload{}, [4]byte{}
	b.dropTail()
}

// Bytes is the packet. The slice is valid until the window or the owner changes.
func (b *Buffer) Bytes() []byte { return b.mem[b.off:b.end:b.end] }

// Len is the length of the packet in bytes.
func (b *Buffer) Len() int { return b.end - b.off }

// Headroom is how many bytes Push can still add.
func (b *Buffer) Headroom() int { return b.off }

// Tailroom is how many bytes the window can still grow at its end.
func (b *Buffer) Tailroom() int { return len(b.mem) - b.end }

// Push moves the start of the window n bytes towards the front and returns the packet. The new bytes are not cleared.
// It panics when the headroom is exhausted, which is a programming error: Headroom is the sum of all pushes.
func (b *Buffer) Push(n int) []byte {
	b.off -= n
	return b.Bytes()
}

// Pull removes n bytes at the front and returns the packet.
func (b *Buffer) Pull(n int) []byte {
	b.off += n
	return b.Bytes()
}

// SetLen sets the length of the packet to n bytes, keeping its start, and returns it. New bytes are not cleared.
func (b *Buffer) SetLen(n int) []byte {
	b.end = b.off + n
	return b.Bytes()
}

// Set makes a copy of p the packet, at the usual headroom, with the fields beside it cleared.
func (b *Buffer) Set(p []byte) {
	b.Reset()
	copy(b.SetLen(len(p)), p)
}

// CopyFrom makes the buffer a copy of src: bytes, window and the fields beside it, but no tail.
func (b *Buffer) CopyFrom(src *Buffer) {
	b.dropTail()
	b.Offload, b.Via, b.off, b.end = src.Offload, src.Via, src.off, src.end
	copy(b.mem[b.off:b.end], src.mem[src.off:src.end])
}
