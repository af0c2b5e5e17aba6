// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import "encoding/binary"

// addrTable finds the ENI that owns an address on a port: an address means nothing without its port. It is built with
// the view and never changes; open addressing, at most half full.
type addrTable struct {
	mask  uint32
	slots []addrSlot
}

// anyPort stands for the port in a table of addresses alone.
const anyPort = 0

type addrSlot struct {
	addr [16]byte
	port uint16
	used bool
	eni  uint16
}

func newAddrTable(n int) addrTable {
	size := 4
	for size < 2*n {
		size *= 2
	}
	return addrTable{mask: uint32(size - 1), slots: make([]addrSlot, size)}
}

func (t *addrTable) home(port uint16, addr *[16]byte) uint32 {
	h := binary.BigEndian.Uint64(addr[:8]) ^ binary.BigEndian.Uint64(addr[8:])<<16 ^ uint64(port)
	h *= 0x9e3779b97f4a7c15
	return uint32(h>>32) & t.mask
}

// add makes eni the owner of addr on port and says whether nobody was before.
func (t *addrTable) add(port uint16, addr [16]byte, eni uint16) bool {
	for i := t.home(port, &addr); ; i = (i + 1) & t.mask {
		s := &t.slots[i]
		if !s.used {
			*s = addrSlot{addr: addr, port: port, used: true, eni: eni}
			return true
		}
		if s.port == port && s.addr == addr {
			return false
		}
	}
}

// find is the slot of the ENI that owns addr on port, or -1.
func (t *addrTable) find(port uint16, addr [16]byte) int {
	for i := t.home(port, &addr); ; i = (i + 1) & t.mask {
		s := &t.slots[i]
		if !s.used {
			return -1
		}
		if s.port == port && s.addr == addr {
			return int(s.eni)
		}
	}
}
