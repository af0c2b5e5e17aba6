// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "github.com/isthmus-net/isthmus/dataplane/port"

// ownerOf is the worker that owns the flow of a packet from the consumer's side.
func (b *bed) ownerOf(pkt []byte) int { return b.ownerAt("consumer", pkt) }

// ownerAt is the worker that owns the flow of a packet received on a port.
func (b *bed) ownerAt(id string, pkt []byte) int {
	b.Helper()
	w := b.engine.workers[0]
	for slot := range w.view.ports {
		if w.view.ports[slot].id == id {
			var p packet
			buf := port.NewBuffer()
			buf.Set(pkt)
			if !w.parse(&p, buf, uint16(slot)) {
				b.Fatalf("packet is refused as %v", p.reason)
			}
			return w.owner(&p)
		}
	}
	b.Fatalf("no port %s", id)
	return 0
}
