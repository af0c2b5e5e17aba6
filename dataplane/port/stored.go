// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

// packet is a packet outside a Buffer, in as much memory as its bytes need. Where many packets are kept, a Buffer each
// would cost 64 KiB.
type packet struct {
	data []byte
	Offload
	via [4]byte
}

// packetOf is a view of b, valid as long as b does not change.
func packetOf(b *Buffer) packet { return packet{data: b.Bytes(), Offload: b.Offload, via: b.Via} }

// store makes p a copy of src, in p's own memory.
func (p *packet) store(src packet) {
	p.data = append(p.data[:0], src.data...)
	p.Offload, p.via = src.Offload, src.via
}

// load makes b a copy of p.
func (p *packet) load(b *Buffer) {
	b.Set(p.data)
	b.Offload, b.Via = p.Offload, p.via
}

// ring is a bounded queue of packets. Its slots keep their memory, so that it stops allocating.
type ring struct {
	slots     []packet
	head, len int
}

func (r *ring) push(p packet) bool {
	if r.len == len(r.slots) {
		return false
	}
	r.slots[(r.head+r.len)%len(r.slots)].store(p)
	r.len++
	return true
}

// pop makes b the oldest packet. The ring must not be empty.
func (r *ring) pop(b *Buffer) {
	r.slots[r.head].load(b)
	r.head = (r.head + 1) % len(r.slots)
	r.len--
}
