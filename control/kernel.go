// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// probeDevice is the name of the device that health checks leave by, in a namespace where it is alone.
const probeDevice = "probe"

// kernel opens ports on devices of the kernel.
type kernel struct {
	queues int
	off    port.Switches
}

// offloader is a port that knows its offloads.
type offloader interface {
	port.Port
	Offloads() port.Offloads
}

func (k kernel) open(spec *vpc.Port, transit bool) (device, error) {
	ns, err := netns.Open(spec.Netns)
	if err != nil {
		return device{}, err
	}
	defer ns.Close()
	cfg := port.Config{
		Name: spec.ID, Device: spec.Device, Queues: k.queues, Disable: k.off, Subnet: spec.Subnet, Gateway: spec.Gateway,
	}
	options := netns.PortOptions{Addresses: spec.Addresses, Routes: routesOf(spec), Bridge: spec.Bridge, Transit: transit}
	return openDevice(ns, spec.Kind, cfg, options)
}

func (k kernel) setRoutes(spec *vpc.Port) error {
	ns, err := netns.Open(spec.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	return netns.SetPortRoutes(ns, spec.Device, routesOf(spec))
}

// routesOf are the routes of a port, those in the main table first.
func routesOf(spec *vpc.Port) []netns.PortRoute {
	routes := netns.MainRoutes(spec.Routes)
	for _, r := range spec.TableRoutes {
		routes = append(routes, netns.PortRoute{Destination: r.Destination, Table: int(r.Table)})
	}
	return routes
}

// openDevice makes a device in a namespace and configures it.
func openDevice(ns *netns.NS, kind vpc.PortKind, cfg port.Config, options netns.PortOptions) (device, error) {
	var p offloader
	err := netns.Do(ns, func() (err error) {
		switch kind {
		case vpc.TUN:
			p, err = notNil(port.OpenTUN(cfg))
		case vpc.TAP:
			p, err = notNil(port.OpenTAP(cfg))
		default:
			err = fmt.Errorf("unknown kind of port %d", kind)
		}
		return err
	})
	if err != nil {
		return device{}, err
	}
	if err := netns.ConfigurePort(ns, cfg.Device, options); err != nil {
		p.Close()
		return device{}, err
	}
	return device{port: p, offloads: p.Offloads(), ns: ns.ID()}, nil
}

// notNil keeps the nil pointer of a failed open from becoming an interface that is not nil.
func notNil[P offloader](p P, err error) (offloader, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (k kernel) openProbe() (device, dialFunc, error) {
	ns, err := netns.Anonymous()
	if err != nil {
		return device{}, nil, err
	}
	d, err := k.probeIn(ns)
	if err != nil {
		ns.Close()
		return device{}, nil, err
	}
	d.port = probePort{d.port, ns}
	dialer := netns.Dialer{NS: ns}
	return d, func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp4", to.String())
	}, nil
}

// probeIn opens the probe port in its namespace: all of ProbeNet is on it.
func (k kernel) probeIn(ns *netns.NS) (device, error) {
	if err := netns.Prepare(ns); err != nil {
		return device{}, err
	}
	host := netip.PrefixFrom(dataplane.ProbeNet.Addr().Next(), dataplane.ProbeNet.Bits())
	cfg := port.Config{Name: dataplane.ProbePortID, Device: probeDevice, Queues: k.queues, Disable: k.off}
	return openDevice(ns, vpc.TUN, cfg, netns.PortOptions{Addresses: []netip.Prefix{host}})
}

// probePort closes the namespace of the probe port with it.
type probePort struct {
	port.Port
	ns *netns.NS
}

func (p probePort) Close() error { return errors.Join(p.Port.Close(), p.ns.Close()) }

func (k kernel) lookup(path string) (netns.ID, error) { return netns.Lookup(path) }

// gone asks the port's first queue: the kernel reports an error on the descriptor of a TUN or TAP device that was
// removed (tun_chr_poll).
func (k kernel) gone(p port.Port) bool {
	fds := []unix.PollFd{{Fd: int32(p.FD(0))}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
}
