// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

// FragInfo says which part of a datagram a packet is. The zero value is a whole one. An atomic IPv6 fragment, one whose
// fragment header says that it is all there is, counts as whole (RFC 6946).
//
// Fragments belong to one datagram when source, destination and ID agree, over IPv4 the protocol too (RFC 791 section 3.2).
// Over IPv6 the protocol tells nothing: a later fragment may name another than the first (RFC 8200 section 4.5).
type FragInfo struct {
	ID     uint32 // 16 bits of it over IPv4
	Offset uint16 // of the payload in the datagram's, in bytes
	More   bool   // others follow
}

// IsFragment says whether the packet is a part of a datagram.
func (f FragInfo) IsFragment() bool { return f.More || f.Offset != 0 }

// IsFirst says whether the packet is the part that has the transport header, of a datagram with more parts.
func (f FragInfo) IsFirst() bool { return f.More && f.Offset == 0 }

// IsLater says whether the packet is a part without a transport header.
func (f FragInfo) IsLater() bool { return f.Offset != 0 }
