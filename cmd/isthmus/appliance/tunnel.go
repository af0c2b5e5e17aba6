// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// inward hands the inner packets that may pass to the kernel, until the alarm rings. It runs in the appliance's namespace.
func (a *Appliance) inward() error {
	return a.receiveAll(func(batch []message) {
		a.mu.Lock()
		a.tick()
		for i := range batch {
			m := &batch[i]
			for {
				datagram, ok := m.next()
				if !ok {
					break
				}
				in := inspected{datagram: datagram}
				if a.inspect(m, &in) {
					in.flow.ways[in.way].endpoint.tunnel.add(in.packet, &in.tuple)
				}
			}
		}
		a.mu.Unlock()
		for _, t := range a.tunnels { // which only this goroutine adds to
			t.flush()
		}
	})
}

// tunnel is a device with both ways through it.
type tunnel struct {
	*device
	*merger
	scope uint64 // of the flows whose packets it carries
}

// openTunnel makes a device for the given scope and carries what the kernel sends into it. It runs in the appliance's namespace.
func (a *Appliance) openTunnel(scope uint64) (*tunnel, error) {
	d, err := openDevice(a.opts.Device, !a.opts.NoOffloads)
	if err != nil {
		return nil, err
	}
	err = d.setUp(a.opts.Netns)
	if err == nil && !a.opts.NoRoutes {
		err = d.routeBack(a.opts.Netns, len(a.tunnels), a.sharedDevice())
	}
	if err != nil {
		d.close()
		return nil, err
	}
	t := &tunnel{device: d, merger: newMerger(d, !a.opts.NoOffloads, &a.notTaken), scope: scope}
	a.tunnels = append(a.tunnels, t)
	return t, nil
}

const (
	outwardBatch = 16       // packets that are read before what they became is sent
	arenaSize    = 64 << 10 // bytes of headers
	geneveMost   = wire.GeneveLen + 63*4
	headersMost  = geneveMost + 60 + 60 // GENEVE, IP and TCP
)

// outward is the way of packets from the kernel back to the load balancer.
type outward struct {
	a       *Appliance
	t       *tunnel
	tx      *sender
	buffers [outwardBatch][]byte
	n       int    // of them in use
	arena   []byte // headers of what tx has not sent yet
	used    int
}

// outward sends back what the kernel sends into the device, until the alarm rings.
func (a *Appliance) outward(t *tunnel) error {
	return netns.Do(a.opts.Netns, func() error {
		tx, err := a.newSender()
		if err != nil {
			return err
		}
		defer tx.close()
		o := &outward{a: a, t: t, tx: tx, arena: make([]byte, arenaSize)}
		for i := range o.buffers {
			o.buffers[i] = make([]byte, vnetLen+maxPacket)
		}
		for {
			more, err := o.read()
			if err != nil {
				return fmt.Errorf("device %s: %w", t.name, err)
			}
			o.flush()
			if more {
				continue
			}
			if more, err := a.alarm.wait(t.device.fd); !more {
				return err
			}
		}
	})
}

// read carries a batch, and says whether the device may have more.
func (o *outward) read() (more bool, err error) {
	for o.n < outwardBatch {
		b := o.buffers[o.n]
		n, err := unix.Read(o.t.device.fd, b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n > vnetLen:
			o.n++
			o.carry(b[:n])
		}
	}
	return true, nil
}

// flush sends what has been carried and frees its memory.
func (o *outward) flush() {
	o.tx.flush()
	o.n, o.used = 0, 0
}

// carry sends one packet, or each segment of a super-packet, back under the header of its flow.
func (o *outward) carry(b []byte) {
	off, packet := parseOffload(b), b[vnetLen:]
	var (
		t   wire.Tuple
		cut cutter
		to  route
	)
	ok := t.Parse(packet)
	if ok && t.Version == 6 && t.Dst[0] == 0xff {
		return // the host reports its multicast groups on a new device
	}
	packets, size := 1, len(packet)
	switch {
	case ok && off.gsoType != vnetNone:
		if ok = cut.start(packet, &t, &off); ok {
			packets, size = cut.total()
		}
	case ok && off.flags&vnetNeedsCsum != 0:
		ok = complete(packet, &off)
	}
	if !ok {
		o.a.drop(BadInner)
		return
	}
	header := o.header(packet, &t, &to, packets, size)
	switch {
	case header == nil:
	case off.gsoType == vnetNone:
		o.tx.add(&to, header, packet)
	default:
		o.segments(&cut, header, &to)
	}
}

// header is a copy of the GENEVE header that the packet goes back under, in the arena, and the way it takes; nil when it
// belongs to no flow. The packets, of size bytes together, that it stands for are counted.
func (o *outward) header(packet []byte, t *wire.Tuple, to *route, packets, size int) []byte {
	o.room(geneveMost, nil)
	a := o.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick()
	w := a.wayBack(o.t.scope, packet, t)
	if w == nil {
		a.dropped[UnknownFlow] += uint64(packets)
		return nil
	}
	a.answered(w, packets, size)
	*to = w.route
	h := o.take(len(w.header))
	copy(h, w.header)
	return h
}

// room makes room for n bytes in the arena, by sending what lies there, all but a header that is still needed.
func (o *outward) room(n int, header []byte) []byte {
	if o.used+n <= len(o.arena) {
		return header
	}
	o.tx.flush()
	o.used = copy(o.arena, header)
	return o.arena[:o.used:o.used]
}

func (o *outward) take(n int) []byte {
	o.used += n
	return o.arena[o.used-n : o.used : o.used]
}

func (o *outward) segments(cut *cutter, header []byte, to *route) {
	for cut.more() {
		header = o.room(headersMost, header)
		h := o.take(len(header) + cut.headers)
		copy(h, header)
		payload := cut.next(h[len(header):])
		o.tx.add(to, h, payload)
	}
}

// wayBack is the direction of a flow whose header a packet goes back under, or nil: the flow is the packet's own, in either
// direction, or the one that it quotes as an error. The caller holds mu.
func (a *Appliance) wayBack(scope uint64, packet []byte, t *wire.Tuple) *way {
	k, direction := keyOf(scope, t)
	f := a.flows.find(&k, a.now)
	if f == nil {
		var quoted wire.Tuple
		if !quoted.ParseQuoted(packet) {
			return nil
		}
		// The error goes to the sender of what it quotes, and so to where that came from.
		k, direction = keyOf(scope, &quoted)
		if f = a.flows.find(&k, a.now); f == nil {
			return nil
		}
	}
	f.seen = a.now
	return f.answering(direction)
}
