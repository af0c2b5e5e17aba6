// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// TestFormerAddress takes frames to an address that has gone, and sends by it, but does not say that it has it.
func TestFormerAddress(t *testing.T) {
	s := newSegment(t)
	s.n.setAddresses([]netip.Addr{eni})
	s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC)
	s.n.setAddresses(nil)
	s.frames = nil
	classify := func() frameClass {
		b := NewBuffer()
		var header [wire.EtherLen]byte
		putHeader(&header, ours(), peerMAC, wire.EtherTypeIPv4)
		copy(b.SetLen(wire.EtherLen+wire.IPv4MinLen), header[:])
		return s.l.classify(b)
	}
	if got := classify(); got != frameOurs {
		t.Errorf("a frame to an address that has gone is of class %v", got)
	}
	if got := s.send(peerIP, "end"); got != hopKnown {
		t.Errorf("a packet from it: %v", got)
	}
	s.want(fmt.Sprintf("ip end to 020000000007 from %x", ours()))
	if got := s.send(gateIP, "far"); got != hopNone {
		t.Errorf("a packet to where nobody is known: %v", got)
	}
	s.arp(wire.ARPRequest, peerIP, peerMAC, eni.As4(), broadcastMAC)
	s.want()
	s.clock += formerTime + 1
	s.n.setAddresses(nil)
	if got := classify(); got != frameForeign {
		t.Errorf("after a long time the frame is of class %v", got)
	}
}
