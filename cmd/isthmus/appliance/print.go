// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// defaultPrintRate is how many lines a second are printed unless told otherwise.
const defaultPrintRate = 10

// printer writes a line a packet, at most so many a second, and says how many it left out.
type printer struct {
	w       io.Writer
	rate    int
	second  time.Duration // when the one under way began
	left    int           // lines that may still be printed in it
	omitted int
	line    []byte
}

func newPrinter(w io.Writer, rate int) *printer {
	if rate <= 0 {
		rate = defaultPrintRate
	}
	return &printer{w: w, rate: rate, left: rate}
}

// show prints what was found in a datagram, and what becomes of it.
func (p *printer) show(in *inspected, now time.Duration, passes bool, why Cause) {
	if now-p.second >= time.Second {
		p.second, p.left = now, p.rate
		if p.omitted > 0 {
			fmt.Fprintf(p.w, "(%d packets not shown)\n", p.omitted)
			p.omitted = 0
		}
	}
	if p.left == 0 {
		p.omitted++
		return
	}
	p.left--
	p.line = in.describe(p.line[:0])
	switch {
	case passes:
	case in.rule != nil:
		p.line = fmt.Appendf(p.line, ", dropped by rule %q", in.rule)
	default:
		p.line = fmt.Appendf(p.line, ", dropped: %s", why)
	}
	_, _ = p.w.Write(append(p.line, '\n')) // nobody to tell that the lines do not arrive
}

// describe appends all options, and the inner packet's tuple as far as it is known.
func (in *inspected) describe(b []byte) []byte {
	g, ok := wire.ParseGeneve(in.datagram)
	if !ok {
		return fmt.Appendf(b, "%d bytes, not GENEVE", len(in.datagram))
	}
	for list := g.IterOptions(); ; {
		class, typ, data, more := list.Next()
		if !more {
			break
		}
		b = appendOption(b, class, typ, data)
	}
	if g.VNI() != 0 {
		b = fmt.Appendf(b, "vni %d ", g.VNI())
	}
	t := &in.tuple
	if in.flow == nil { // no more is known for certain
		return fmt.Appendf(b, "%d bytes of protocol 0x%04x", len(g.Payload()), g.Protocol())
	}
	b = fmt.Appendf(b, "%s %s > %s", protocolName(t.Proto), end(t, t.Src, t.SrcPort), end(t, t.Dst, t.DstPort))
	if t.Frag.IsFragment() {
		b = fmt.Appendf(b, " fragment at %d", t.Frag.Offset)
	}
	return fmt.Appendf(b, " %d bytes", len(in.packet))
}

// appendOption appends one option: AWS's by their names.
func appendOption(b []byte, class uint16, typ uint8, data []byte) []byte {
	if class == wire.GeneveClassAWS {
		switch {
		case typ == wire.GeneveEndpoint && len(data) == 8:
			return fmt.Appendf(b, "endpoint vpce-*%x ", data)
		case typ == wire.GeneveAttachment && len(data) == 8:
			return fmt.Appendf(b, "attachment %x ", data)
		case typ == wire.GeneveCookie && len(data) == 4:
			return fmt.Appendf(b, "cookie %x ", data)
		}
	}
	return fmt.Appendf(b, "option %04x/%02x %x ", class, typ, data)
}

// end is one end of a tuple: with its port where it has one.
func end(t *wire.Tuple, a [16]byte, port uint16) string {
	if !hasPorts(t) {
		return address(&a).String()
	}
	return netip.AddrPortFrom(address(&a), port).String()
}
