// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// TAP is a port on a layer 2 device, usually a port of a Linux bridge. It carries IPv4: it answers ARP for the addresses
// given to SetAddresses, and finds next hops by it.
//
// Every address has a link address of its own, made of the byte 0x06, a hash of the port's name and the four bytes of
// the address. So it is stable, needs no table, is not the device's own (whose frames a bridge keeps), and names
// the ENI a frame is for; see Buffer.Via.
type TAP struct {
	*device
	n   *neighbours
	out *frameSender // of n
}

var (
	_ Port      = (*TAP)(nil)
	_ Addresser = (*TAP)(nil)
)

// OpenTAP creates a TAP device in the network namespace of the calling thread and opens all its queues. The device is
// gone when the port is closed. Bridge, MTU and the queueing discipline are its maker's business.
func OpenTAP(cfg Config) (*TAP, error) {
	if !cfg.Subnet.Addr().Is4() {
		return nil, fmt.Errorf("open port %s: subnet %v must be an IPv4 prefix", cfg.Name, cfg.Subnet)
	}
	if cfg.Gateway.IsValid() && !cfg.Subnet.Contains(cfg.Gateway) {
		return nil, fmt.Errorf("open port %s: gateway %v must lie in the subnet %v", cfg.Name, cfg.Gateway, cfg.Subnet)
	}
	d, err := openDevice(&cfg, unix.IFF_TAP)
	if err != nil {
		return nil, err
	}
	// The neighbour table writes by a descriptor of its own, so that it never holds up a worker.
	fd, err := unix.FcntlInt(uintptr(d.queues[0].fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("open port %s: duplicate descriptor: %w", cfg.Name, err)
	}
	t := &TAP{device: d, out: &frameSender{sender: sender{fd: fd, vnet: d.queues[0].vnet, l2: wire.EtherLen,
		csum: d.offloads.Csum, tso: d.offloads.TSO, uso: d.offloads.USO}}}
	t.n = newNeighbours(&cfg, t.out)
	t.out.counters = &t.n.counters
	for i := range d.queues {
		d.queues[i].l2 = wire.EtherLen
		d.queues[i].link = &link{n: t.n}
	}
	go t.n.run()
	return t, nil
}

// SetAddresses is part of Addresser. IPv6 addresses are ignored.
func (t *TAP) SetAddresses(addrs []netip.Addr) { t.n.setAddresses(addrs) }

// Stats is part of Port.
func (t *TAP) Stats() Stats {
	s := t.device.Stats()
	t.n.addTo(&s)
	return s
}

// Close is part of Port. Packets that wait for a next hop are dropped.
func (t *TAP) Close() error {
	if t.n.close() {
		unix.Close(t.out.fd)
	}
	return t.device.Close()
}

// frameSender is a sender for the neighbour table, which has no worker's counters.
type frameSender struct {
	sender
	counters *counters
}

func (f *frameSender) writeFrame(b *Buffer, header *[wire.EtherLen]byte) (sent, refused uint64) {
	f.header = *header
	sent, refused = f.transmit(b)
	f.counters.segmented.Add(f.cut)
	f.cut = 0
	return sent, refused
}
