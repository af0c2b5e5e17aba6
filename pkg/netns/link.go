// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MaxName is the longest name of a link, in bytes.
const MaxName = unix.IFNAMSIZ - 1

// Link is what there is to know about a link without asking again.
type Link struct {
	Index     int
	Name      string
	Alias     string // the tag of its maker, if any
	Kind      string // "veth", "bridge", "tuntap", "device", ...
	MTU       int
	TxQueue   int // txqueuelen, in packets
	MAC       net.HardwareAddr
	Master    int // index of the bridge it belongs to, or 0
	Up        bool
	RxPackets uint64
	TxPackets uint64
	TxDropped uint64
}

// CreateVethPair makes two links that are the ends of one cable, name1 inside ns1 and name2 inside ns2, both with the
// MTU and down. Neither end is ever seen in another namespace.
func CreateVethPair(ns1 *NS, name1 string, ns2 *NS, name2 string, mtu int) error {
	create := func(h *netlink.Handle, peer int) error {
		veth := netlink.NewVeth(netlink.NewLinkAttrs())
		veth.Name, veth.PeerName, veth.MTU = name1, name2, mtu
		if peer >= 0 {
			veth.PeerNamespace = netlink.NsFd(peer)
		}
		return h.LinkAdd(veth)
	}
	err := withHandle(ns1, func(h *netlink.Handle) error {
		if ns2 == nil {
			current, err := Current()
			if err != nil {
				return err
			}
			defer current.Close()
			return current.control(func(fd int) error { return create(h, fd) })
		}
		return ns2.control(func(fd int) error { return create(h, fd) })
	})
	if err != nil {
		return fmt.Errorf("create veth pair %s (%s) to %s (%s): %w", name1, ns1, name2, ns2, explain(err))
	}
	return nil
}

// CreateBridge makes a bridge, down, that forwards every frame and looks at nothing else: no spanning tree and no VLANs,
// which are off by default, and no multicast snooping, which would drop frames of a port that has just joined.
func CreateBridge(ns *NS, name string, mtu int) error {
	err := withHandle(ns, func(h *netlink.Handle) error {
		off := false
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &off}
		bridge.Name = name
		err := h.LinkAdd(bridge)
		if errors.Is(err, unix.EOPNOTSUPP) { // a kernel built without snooping refuses even to turn it off
			bridge.MulticastSnooping = nil
			err = h.LinkAdd(bridge)
		}
		if err != nil {
			return err
		}
		// Set afterwards it is a decision; set at creation only a default that follows the smallest member.
		return h.LinkSetMTU(bridge, mtu)
	})
	if err != nil {
		return fmt.Errorf("create bridge %s in %s: %w", name, ns, explain(err))
	}
	return nil
}

// AddToBridge makes link a port of bridge.
func AddToBridge(ns *NS, link, bridge string) error {
	return onLink(ns, link, "add to bridge "+bridge, func(h *netlink.Handle, l netlink.Link) error {
		return setMaster(h, l, bridge)
	})
}

// SetUp brings link up.
func SetUp(ns *NS, link string) error {
	return onLink(ns, link, "set up", (*netlink.Handle).LinkSetUp)
}

// SetDown takes link down.
func SetDown(ns *NS, link string) error {
	return onLink(ns, link, "set down", (*netlink.Handle).LinkSetDown)
}

// SetMTU sets the MTU of link in bytes of layer 3.
func SetMTU(ns *NS, link string, mtu int) error {
	return onLink(ns, link, "set MTU", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, mtu) })
}

// SetMAC sets the hardware address of link.
func SetMAC(ns *NS, link string, mac net.HardwareAddr) error {
	return onLink(ns, link, "set MAC address", func(h *netlink.Handle, l netlink.Link) error {
		return h.LinkSetHardwareAddr(l, mac)
	})
}

// SetAlias tags link with a text of up to 255 bytes that says who made it and what for.
func SetAlias(ns *NS, link, alias string) error {
	return onLink(ns, link, "set alias", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetAlias(l, alias) })
}

// Delete removes link, and with it the other end of a veth pair. A link that is gone already is a success.
func Delete(ns *NS, link string) error {
	err := onLink(ns, link, "delete", (*netlink.Handle).LinkDel)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return err
}

// Links lists all links of ns.
func Links(ns *NS) ([]Link, error) {
	var links []Link
	err := withHandle(ns, func(h *netlink.Handle) error {
		list, err := h.LinkList()
		for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 10; tries++ {
			list, err = h.LinkList()
		}
		for _, l := range list {
			links = append(links, describe(l))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list links of %s: %w", ns, explain(err))
	}
	return links, nil
}

// LinkByName returns one link of ns.
func LinkByName(ns *NS, name string) (Link, error) {
	var link Link
	err := onLink(ns, name, "look up", func(_ *netlink.Handle, l netlink.Link) error {
		link = describe(l)
		return nil
	})
	return link, err
}

func describe(l netlink.Link) Link {
	a := l.Attrs()
	link := Link{
		Index: a.Index, Name: a.Name, Alias: a.Alias, Kind: l.Type(), MTU: a.MTU, TxQueue: a.TxQLen,
		MAC: a.HardwareAddr, Master: a.MasterIndex, Up: a.Flags&net.FlagUp != 0,
	}
	if s := a.Statistics; s != nil {
		link.RxPackets, link.TxPackets, link.TxDropped = s.RxPackets, s.TxPackets, s.TxDropped
	}
	return link
}

func setMaster(h *netlink.Handle, l netlink.Link, bridge string) error {
	master, err := h.LinkByName(bridge)
	if err != nil {
		return err
	}
	return h.LinkSetMaster(l, master)
}

// withHandle calls f with a netlink socket of ns; f itself runs on the caller's goroutine.
func withHandle(ns *NS, f func(*netlink.Handle) error) error {
	var handle *netlink.Handle
	err := Do(ns, func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	defer handle.Close()
	return f(handle)
}

// onLink calls f with a link of ns; verb says in the error what was to be done.
func onLink(ns *NS, name, verb string, f func(*netlink.Handle, netlink.Link) error) error {
	err := withHandle(ns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return f(h, l)
	})
	if err != nil {
		return fmt.Errorf("%s: link %s in %s: %w", verb, name, ns, explain(err))
	}
	return nil
}
