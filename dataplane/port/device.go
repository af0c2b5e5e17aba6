// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Config describes a TUN or TAP port to open.
type Config struct {
	// Name is the port's identifier; Device the name of the interface to create, at most 15 bytes.
	Name, Device string
	// Queues is how many queues to open; 0 is one.
	Queues int
	// Disable leaves offloads off that would be on.
	Disable Switches
	// Capabilities is what may be switched on. Nil is the result of Probe.
	Capabilities *Capabilities

	// Subnet is what is on link, Gateway the next hop for all else. TAP only.
	Subnet  netip.Prefix
	Gateway netip.Addr
	// Now is the clock of the neighbour table, monotonic from any start; nil is the system's. TAP only.
	Now func() time.Duration
}

// Switches leave offloads off. The zero value leaves all on that work.
type Switches struct {
	// Plain opens the device without offload headers: one packet a read, all checksums complete, both ways.
	Plain bool
	// Offloads keeps the offload header and leaves everything it could carry off, as Plain does otherwise.
	Offloads bool
	// TSO and USO leave segmentation offload of TCP, of UDP, off.
	TSO, USO bool
}

// Offloads says what is on at a port: what the device may hand up and takes from us.
type Offloads struct {
	VNetHdr bool // packets carry a virtio_net_hdr
	Csum    bool // partial checksums
	TSO     bool // TCP super-packets
	USO     bool // UDP super-packets
	// Reasons has a sentence for everything that is off.
	Reasons []string
}

// cloneDevice is where TUN and TAP devices come from.
const cloneDevice = "/dev/net/tun"

// device is what TUN and TAP ports share.
type device struct {
	name     string
	offloads Offloads
	queues   []queue
}

// openDevice creates the device in the namespace of the calling thread. kind is unix.IFF_TUN or unix.IFF_TAP.
func openDevice(cfg *Config, kind uint16) (*device, error) {
	switch {
	case cfg.Device == "" || len(cfg.Device) >= unix.IFNAMSIZ:
		return nil, fmt.Errorf("open port %s: device name %q must have 1 to %d bytes", cfg.Name, cfg.Device, unix.IFNAMSIZ-1)
	case cfg.Queues < 0:
		return nil, fmt.Errorf("open port %s: %d queues asked for, at least 1 is needed", cfg.Name, cfg.Queues)
	}
	d := &device{name: cfg.Name, queues: make([]queue, max(1, cfg.Queues))}
	for i := range d.queues {
		d.queues[i].fd = -1
	}
	caps := cfg.Capabilities
	if caps == nil && !cfg.Disable.Plain {
		caps = Probe()
	}
	d.offloads = choose(cfg.Disable, caps)
	if err := d.open(cfg.Device, kind); err != nil {
		d.Close()
		return nil, fmt.Errorf("open port %s: %w", cfg.Name, err)
	}
	for i := range d.queues {
		q := &d.queues[i]
		q.csum, q.tso, q.uso = d.offloads.Csum, d.offloads.TSO, d.offloads.USO
		if d.offloads.VNetHdr {
			q.vnet = vnetHdrLen
		}
	}
	return d, nil
}

// choose is what to switch on, given what is not wanted and what works.
func choose(off Switches, works *Capabilities) Offloads {
	if off.Plain {
		return Offloads{Reasons: []string{"offload header: switched off in the configuration"}}
	}
	o := Offloads{VNetHdr: works.VNetHdr, Csum: works.VNetHdr, TSO: works.TSO, USO: works.USO, Reasons: works.Reasons}
	o.Reasons = o.Reasons[:len(o.Reasons):len(o.Reasons)]
	disable := func(on *bool, off bool, what string) {
		if *on && off {
			*on = false
			o.Reasons = append(o.Reasons, what+": switched off in the configuration")
		}
	}
	disable(&o.Csum, off.Offloads, "partial checksums")
	disable(&o.TSO, off.TSO || off.Offloads, "TCP super-packets")
	disable(&o.USO, off.USO || off.Offloads, "UDP super-packets")
	return o
}

// open opens all queues, in order: the kernel numbers them so, and renumbers them when one is closed.
func (d *device) open(ifname string, kind uint16) error {
	if !d.offloads.VNetHdr {
		return d.openPlain(ifname, kind)
	}
	flags := kind | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if len(d.queues) > 1 {
		// Not for a single queue: the kernel gives such a device 256 transmit queues from the start.
		flags |= unix.IFF_MULTI_QUEUE
	}
	for i := range d.queues {
		fd, err := openQueue(ifname, flags, i == 0)
		if err != nil {
			return fmt.Errorf("queue %d of %s: %w", i, ifname, err)
		}
		d.queues[i].fd = fd
	}
	return d.setOffload()
}

// openQueue opens one queue; first says that the device must be new.
func openQueue(ifname string, flags uint16, first bool) (int, error) {
	ifr, err := unix.NewIfreq(ifname)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Open(cloneDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s (load the tun module, or give the container the device): %w", cloneDevice, err)
	}
	if first {
		// Otherwise an existing device of this name would be joined as a further queue, and traffic shared with its owner.
		flags |= unix.IFF_TUN_EXCL
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return -1, explainSetIff(err)
	}
	return fd, nil
}

func explainSetIff(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("the device exists already: remove it or choose another name: %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("CAP_NET_ADMIN is needed in the user namespace that owns the network namespace: %w", err)
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("too many queues: %w", err)
	}
	return fmt.Errorf("TUNSETIFF: %w", err)
}

// setOffload tells the kernel what it may hand up. What it does not accept is off from then on.
func (d *device) setOffload() error {
	o := &d.offloads
	fd := d.queues[0].fd
	base := 0
	if o.Csum {
		base = unix.TUN_F_CSUM
	}
	if o.TSO {
		base |= unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	}
	if o.USO {
		err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, base|unix.TUN_F_USO4|unix.TUN_F_USO6)
		if err == nil {
			return nil
		}
		o.USO = false
		o.Reasons = append(o.Reasons, fmt.Sprintf("UDP super-packets: the kernel refuses them (%v); Linux 6.2 is needed", err))
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, base); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD %#x: %w", base, err)
	}
	return nil
}

// Name is part of Port.
func (d *device) Name() string { return d.name }

// Queues is part of Port.
func (d *device) Queues() int { return len(d.queues) }

// Offloads says what is on at the port, and why not the rest.
func (d *device) Offloads() Offloads { return d.offloads }

// Receive is part of Port.
func (d *device) Receive(queue int, bufs []*Buffer) (int, error) {
	return d.queues[queue].receive(bufs)
}

// Send is part of Port.
func (d *device) Send(queue int, bufs []*Buffer) int { return d.queues[queue].send(bufs) }

// FD is part of Port. It is -1 when the port is closed.
func (d *device) FD(queue int) int {
	q := &d.queues[queue]
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fd
}

// Stats is part of Port.
func (d *device) Stats() Stats {
	var s Stats
	for i := range d.queues {
		d.queues[i].addTo(&s)
	}
	return s
}

// Close is part of Port.
func (d *device) Close() error {
	for i := range d.queues {
		d.queues[i].close()
	}
	return nil
}
