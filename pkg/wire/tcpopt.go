// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Kinds of TCP options (IANA TCP parameters, option kind numbers).
const (
	OptEnd           = 0
	OptNOP           = 1
	OptMSS           = 2   // RFC 9293 section 3.7.1
	OptWindowScale   = 3   // RFC 7323 section 2
	OptSACKPermitted = 4   // RFC 2018 section 2
	OptSACK          = 5   // RFC 2018 section 3
	OptTimestamps    = 8   // RFC 7323 section 3
	OptMD5           = 19  // RFC 2385
	OptAO            = 29  // RFC 5925 section 2
	OptMPTCP         = 30  // RFC 8684 section 3
	OptFastOpen      = 34  // RFC 7413 section 4.1
	OptExperimental  = 254 // RFC 6994; Fast Open before its number was assigned uses magic 0xF989
)

// Lengths of options in bytes, kind and length included.
const (
	mssLen         = 4
	windowScaleLen = 3
)

// Options steps through the options of a TCP header. The zero value has none.
type Options struct {
	tcp TCP
	off int
	end int
}

// IterOptions starts at the first option. The header must have its fixed 20 bytes; a data offset that says less than 20,
// or more than the view holds, gives no options or those that lie within it.
func (t TCP) IterOptions() Options { return Options{tcp: t, off: TCPMinLen, end: t.optionsEnd()} }

// Next is the next option other than NOP: its kind, the offset of the kind byte within the header, and its length in bytes
// with kind and length included, at least 2. All of it lies within the header. It is not ok at the end of the list, and
// from the first option on that is cut short or claims a length below 2, after which nothing can be trusted.
func (o *Options) Next() (kind uint8, off, length int, ok bool) {
	for o.off < o.end {
		kind, off = o.tcp[o.off], o.off
		if kind == OptNOP {
			o.off++
			continue
		}
		if kind == OptEnd || off+1 >= o.end {
			break
		}
		length = int(o.tcp[off+1])
		if length < 2 || off+length > o.end {
			break
		}
		o.off += length
		return kind, off, length, true
	}
	return 0, 0, 0, false
}

// FindOption is the first option of the kind: its offset within the header and its length in bytes. NOP and the end of
// the list are not found.
func (t TCP) FindOption(kind uint8) (off, length int, ok bool) {
	o := t.IterOptions()
	for {
		k, off, length, ok := o.Next()
		if !ok || k == kind {
			return off, length, ok
		}
	}
}

// findSized is the offset of the first option of the kind that has the length; receivers ignore others of the kind.
func (t TCP) findSized(kind uint8, size int) (off int, ok bool) {
	o := t.IterOptions()
	for {
		k, off, length, ok := o.Next()
		if !ok || k == kind && length == size {
			return off, ok
		}
	}
}

// MSS is the value of the maximum segment size option in bytes. It means something in a segment with SYN; a sender without
// it accepts 536 (RFC 9293 section 3.7.1).
func (t TCP) MSS() (mss uint16, ok bool) {
	off, ok := t.findSized(OptMSS, mssLen)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint16(t[off+2:]), true
}

// SetMSS writes the value of the option that MSS reads and leaves the checksum alone. It returns the former value and the
// offset of the value within the header, which may be odd. Where there is no such option nothing is written.
func (t TCP) SetMSS(mss uint16) (old uint16, off int, ok bool) {
	off, ok = t.findSized(OptMSS, mssLen)
	if !ok {
		return 0, 0, false
	}
	off += 2
	old = binary.BigEndian.Uint16(t[off:])
	binary.BigEndian.PutUint16(t[off:], mss)
	return old, off, true
}

// WindowScale is the shift of the window scale option as sent. A shift above 14 is to be used as 14 (RFC 7323 section 2.3).
func (t TCP) WindowScale() (shift uint8, ok bool) {
	off, ok := t.findSized(OptWindowScale, windowScaleLen)
	if !ok {
		return 0, false
	}
	return t[off+2], true
}

// Blank overwrites length bytes at off, an option that Next or FindOption returned, with NOPs and leaves the checksum
// alone. See PatchBlank for a segment whose checksum is complete.
func (t TCP) Blank(off, length int) {
	option := t[off : off+length]
	for i := range option {
		option[i] = OptNOP
	}
}
