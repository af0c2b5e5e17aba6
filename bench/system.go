// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Addresses, the same for every system as far as client and server can see: the client's are its own, the service's
// is what it dials. The provider's two are a router's or a proxy's way to the server, and seen behind it only.
var (
	clients = []netip.Prefix{
		netip.MustParsePrefix("10.0.1.11/24"), netip.MustParsePrefix("10.0.1.12/24"),
		netip.MustParsePrefix("10.0.1.13/24"), netip.MustParsePrefix("10.0.1.14/24"),
	}
	service = netip.MustParsePrefix("10.0.1.100/24")
	node    = netip.MustParsePrefix("10.0.2.5/24")
	target  = netip.MustParsePrefix("10.0.2.20/24")
)

const (
	// servicePort is the first port of the service; localPorts keeps those the kernel chooses clear of it.
	servicePort = 9000
	localPorts  = "10000 65535"
	// device is the name of the link that client and server have, be it a TUN device or the end of a cable.
	device = "eni"
	// clientLink and serverLink are the names of the links that a namespace between the two has.
	clientLink, serverLink = "client", "server"
	// segmentSize is the MSS of every connection, that of endpoints. Where nothing clamps it, the MTU is chosen so.
	segmentSize = 8460
	// endpointMTU is the MTU that leads to segmentSize by itself.
	endpointMTU = segmentSize + 40
)

// system is one thing to measure: what carries packets between the client's namespace and the server's.
type system struct {
	name string
	// header says that the system writes PROXY protocol headers where a scenario has them. A system that cannot runs
	// such a scenario without: it is there for reference.
	header bool
	// missing says what the machine lacks for it, or is empty.
	missing func() string
	// up builds it in the bed's namespaces and any that it adds, for scenarios of interface endpoints; inspect does so for
	// those of GWLB endpoints. Nil means that it takes no part in such scenarios.
	up, inspect func(context.Context, *bed) error
	// daemon says that it has a control plane to be measured.
	daemon bool
}

// builder is what builds the system for a scenario, nil where it takes no part. What is driven builds its own.
func (s *system) builder(sc *scenario) func(context.Context, *bed) error {
	switch {
	case sc.driven != nil && !s.daemon:
		return nil
	case sc.driven != nil:
		return func(context.Context, *bed) error { return nil }
	case sc.inspected:
		return s.inspect
	}
	return s.up
}

// systems lists all of them, in the order they are shown in.
func systems() []system {
	return []system{
		{name: "isthmus", header: true, missing: nothing, up: betweenTUNs(roleIsthmus), inspect: inspectBy(roleIsthmus), daemon: true},
		{name: "null", missing: nothing, up: betweenTUNs(roleNull), inspect: inspectBy(roleNull)},
		{name: "kernel-nat", missing: needs("nft", "nftables"), up: upKernelNAT},
		{name: "haproxy", header: true, missing: needs("haproxy", "haproxy"), up: upHAProxy},
		{name: "vxlan", missing: needs("ip", "iproute2"), inspect: inspectByVXLAN},
	}
}

func nothing() string { return "" }

// needs says that a program must be there, and which Debian package brings it.
func needs(program, debian string) func() string {
	return func() string {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s is not installed (Debian package %s, or run scripts/setup.sh)", program, debian)
		}
		return ""
	}
}

// bed is where one round of one system happens. It exists for that round only.
type bed struct {
	self   []string // command that runs a role
	cfg    Config
	load   loadSpec
	client *netns.NS
	server *netns.NS
	router *netns.NS // between the two, where a GWLB endpoint is; nil without one
	others []*netns.NS
	// dataplane is the system's process; nil when it lives in the kernel.
	dataplane *process
	appliance *process // nil where there is none, or none but the kernel
}

// newBed makes the client's and the server's namespaces, without links.
func newBed(self []string, cfg Config, load loadSpec) (b *bed, err error) {
	b = &bed{self: self, cfg: cfg, load: load}
	if b.client, err = newNamespace(); err != nil {
		return nil, err
	}
	if b.server, err = newNamespace(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// another adds a namespace, one that forwards or not.
func (b *bed) another(forward bool) (*netns.NS, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	b.others = append(b.others, ns)
	if forward {
		return ns, netns.Forward(ns)
	}
	return ns, nil
}

// middle adds a namespace between client and server, and cables of the MTU to both: it has an address of its own towards
// the client, and one towards the server.
func (b *bed) middle(mtu int, forward bool, toClient, toServer netip.Prefix) (*netns.NS, error) {
	ns, err := b.another(forward)
	if err != nil {
		return nil, err
	}
	err = cable(end{ns, clientLink, []netip.Prefix{toClient}}, end{b.client, device, clients}, mtu)
	if err != nil {
		return nil, err
	}
	return ns, cable(end{ns, serverLink, []netip.Prefix{toServer}}, end{b.server, device, []netip.Prefix{target}}, mtu)
}

// close ends the system and removes all that was made. What is left of the namespaces ends with their last handle.
func (b *bed) close() error {
	var errs []error
	for _, p := range []*process{b.appliance, b.dataplane} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	for _, ns := range append(b.others, b.client, b.server) {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

func newNamespace() (*netns.NS, error) {
	ns, err := netns.Anonymous()
	if err != nil {
		return nil, err
	}
	err = netns.Prepare(ns)
	if err == nil {
		err = netns.SetSysctls(ns, netns.Sysctl{Name: "net/ipv4/ip_local_port_range", Value: localPorts})
	}
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

// end is one end of a cable: a link with addresses.
type end struct {
	ns        *netns.NS
	link      string
	addresses []netip.Prefix
}

// cable connects two namespaces and brings both ends up.
func cable(a, b end, mtu int) error {
	if err := netns.CreateVethPair(a.ns, a.link, b.ns, b.link, mtu); err != nil {
		return err
	}
	for _, e := range []end{a, b} {
		for _, address := range e.addresses {
			if err := netns.AddAddress(e.ns, e.link, address); err != nil {
				return err
			}
		}
		if err := netns.SetUp(e.ns, e.link); err != nil {
			return err
		}
	}
	return nil
}
