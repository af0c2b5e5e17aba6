// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

const (
	// deviceMTU is the longest inner packet in bytes.
	deviceMTU = 8500
	// devicesMost is how many endpoints can have a device of their own.
	devicesMost = 64
	// firstTable is the routing table, and the priority of the rule, of the first device; others count up from it.
	firstTable = 6081
	// lastResort is the priority of the rule for what nothing else routes: behind main (32766) and default (32767).
	lastResort = 33000
)

// The header in front of each packet of a device, in the byte order of the machine (include/uapi/linux/virtio_net.h).
const (
	vnetLen       = 10
	vnetFlags     = 0
	vnetType      = 1
	vnetHdrLen    = 2
	vnetGSOSize   = 4
	vnetCsumStart = 6
	vnetCsumOff   = 8

	vnetNeedsCsum = 1
	vnetNone      = 0
	vnetTCPv4     = 1
	vnetTCPv6     = 4
	vnetECN       = 0x80
)

// device is a TUN device: where inner packets meet the kernel.
type device struct {
	fd   int
	name string
}

// openDevice makes the device in the namespace of the calling thread.
func openDevice(name string, offloads bool) (*device, error) {
	request, err := unix.NewIfreq(name)
	if err != nil || name == "" {
		return nil, fmt.Errorf("device name %q must have 1 to %d bytes", name, unix.IFNAMSIZ-1)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	err = os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	if err == nil && offloads {
		flags := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		err = os.NewSyscallError("TUNSETOFFLOAD", unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	return &device{fd: fd, name: request.Name()}, nil
}

func (d *device) close() { unix.Close(d.fd) }

// setUp makes the device usable: both families, no addresses, up.
func (d *device) setUp(ns *netns.NS) error {
	err := netns.SetSysctls(ns,
		netns.Sysctl{Name: "net/ipv6/conf/" + d.name + "/addr_gen_mode", Value: "1"}, // a link-local address would be announced
		netns.Sysctl{Name: "net/ipv6/conf/" + d.name + "/disable_ipv6", Value: "0"})
	if err != nil {
		return err
	}
	if err := netns.SetMTU(ns, d.name, deviceMTU); err != nil {
		return err
	}
	return netns.SetUp(ns, d.name)
}

// forward makes the namespace a router; devices that are made later do not check where packets come from.
func forward(ns *netns.NS) error {
	if err := netns.Forward(ns); err != nil {
		return err
	}
	return netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv6/conf/all/forwarding", Value: "1"})
}

// routeBack has what comes from the device go back to it, by a table of its own. Where it is the only device, so does what the
// host sends itself and has no other route for: the errors and resets of a firewall.
func (d *device) routeBack(ns *netns.NS, index int, only bool) error {
	table := firstTable + index
	for _, everything := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		v6 := everything.Addr().Is6()
		err := netns.SetRoute(ns, netns.Route{Destination: everything, Link: d.name, Table: table})
		if err == nil {
			err = netns.AddRule(ns, netns.Rule{Priority: firstTable + index, InInterface: d.name, Table: table, IPv6: v6})
		}
		if err == nil && only {
			err = netns.AddRule(ns, netns.Rule{Priority: lastResort, Table: table, IPv6: v6})
		}
		if err != nil && v6 && !hasIPv6(ns) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasIPv6 says whether the kernel knows IPv6.
func hasIPv6(ns *netns.NS) bool {
	_, err := netns.ReadSysctl(ns, "net/ipv6/conf/all/forwarding")
	return err == nil
}

// perEndpoint says whether a device name stands for one device an endpoint.
func perEndpoint(name string) bool { return strings.Contains(name, "%d") }

// offload is the header of a packet that the kernel sends.
type offload struct {
	flags, gsoType              uint8
	gsoSize, csumStart, csumOff int
}

func parseOffload(b []byte) offload {
	return offload{flags: b[vnetFlags], gsoType: b[vnetType] &^ vnetECN,
		gsoSize:   int(binary.NativeEndian.Uint16(b[vnetGSOSize:])),
		csumStart: int(binary.NativeEndian.Uint16(b[vnetCsumStart:])),
		csumOff:   int(binary.NativeEndian.Uint16(b[vnetCsumOff:]))}
}
