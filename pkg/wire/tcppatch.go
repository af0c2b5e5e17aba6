// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Patch replaces len(new) bytes at off in the header. When full is true the checksum is complete and is repaired (RFC 1624
// equation 3), whatever the parity of offset and length; when it is false the checksum is partial, does not cover the
// bytes and is left alone. The bytes must not include the checksum field itself.
func (t TCP) Patch(off int, new []byte, full bool) {
	old := t[off : off+len(new)]
	if full {
		t.SetChecksum(patched(t.Checksum(), off, Fold(Sum(old, 0)), Fold(Sum(new, 0))))
	}
	copy(old, new)
}

// PatchBlank is Patch with as many NOP options as length says, which removes an option without moving the others.
func (t TCP) PatchBlank(off, length int, full bool) {
	csum := t.Checksum()
	old := Fold(Sum(t[off:off+length], 0))
	t.Blank(off, length)
	if full {
		t.SetChecksum(patched(csum, off, old, Fold(Sum(t[off:off+length], 0))))
	}
}

// patched is csum after bytes at off, whose sum was old when taken as if off were even, have been replaced by others.
func patched(csum uint16, off int, old, new uint16) uint16 {
	if off&1 != 0 {
		old, new = SwapParity(old), SwapParity(new)
	}
	return Update16(csum, old, new)
}

// PatchSrcPort is SetSrcPort that also repairs the checksum when full, see Patch.
func (t TCP) PatchSrcPort(p uint16, full bool) { t.patch16(tcpSrcPort, p, full) }

// PatchDstPort is SetDstPort that also repairs the checksum when full, see Patch.
func (t TCP) PatchDstPort(p uint16, full bool) { t.patch16(tcpDstPort, p, full) }

// PatchSeq is SetSeq that also repairs the checksum when full, see Patch.
func (t TCP) PatchSeq(n uint32, full bool) { t.patch32(tcpSeq, n, full) }

// PatchAck is SetAck that also repairs the checksum when full, see Patch.
func (t TCP) PatchAck(n uint32, full bool) { t.patch32(tcpAck, n, full) }

// PatchWindow is SetWindow that also repairs the checksum when full, see Patch.
func (t TCP) PatchWindow(w uint16, full bool) { t.patch16(tcpWindow, w, full) }

// PatchUrgent is SetUrgent that also repairs the checksum when full, see Patch.
func (t TCP) PatchUrgent(p uint16, full bool) { t.patch16(tcpUrgent, p, full) }

// patch16 is Patch for a word at an even offset.
func (t TCP) patch16(off int, new uint16, full bool) {
	field := t[off : off+2]
	if full {
		t.SetChecksum(Update16(t.Checksum(), binary.BigEndian.Uint16(field), new))
	}
	binary.BigEndian.PutUint16(field, new)
}

// patch32 is Patch for two words at an even offset.
func (t TCP) patch32(off int, new uint32, full bool) {
	field := t[off : off+4]
	if full {
		t.SetChecksum(Update32(t.Checksum(), binary.BigEndian.Uint32(field), new))
	}
	binary.BigEndian.PutUint32(field, new)
}
