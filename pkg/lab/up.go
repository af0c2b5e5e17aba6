// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Up builds the lab of t in dir, which must not exist: namespaces, bridges, cables, addresses, routes, and a hosts file
// for each node. It starts no process; see Processes. When it fails, or ctx ends, it removes what it has built.
func Up(ctx context.Context, t *Topology, dir string) (err error) {
	if err := t.Complete(); err != nil {
		return fmt.Errorf("lab %s: %w", t.Name, err)
	}
	unlock, err := claim(dir)
	if err != nil {
		return fmt.Errorf("lab %s: %w", t.Name, err)
	}
	defer unlock()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lab %s: %w", t.Name, err), remove(dir))
		}
	}()
	content, err := t.YAML()
	if err != nil {
		return err
	}
	if err := os.WriteFile(topologyFile(dir), content, 0o644); err != nil {
		return err
	}
	for _, sub := range []string{"netns", "hosts", "pids", "log"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	for i := range t.VPCs {
		if err := t.build(ctx, dir, &t.VPCs[i]); err != nil {
			return err
		}
	}
	return nil
}

// claim makes the lab's directory and locks it. The order matters to remove: a directory that is not empty and has no
// lock file is not ours.
func claim(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("%s is there already (isthmus lab down removes it): %w", dir, os.ErrExist)
		}
		return nil, err
	}
	file, err := os.OpenFile(lockFile(dir), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	return hold(file)
}

// build makes one VPC: its router, subnets and instances.
func (t *Topology) build(ctx context.Context, dir string, v *VPC) error {
	router, err := t.node(dir, v, v.Name)
	if err != nil {
		return err
	}
	defer router.Close()
	if err := netns.Forward(router); err != nil {
		return err
	}
	if err := t.bridges(router, v); err != nil {
		return err
	}
	for i := range v.Instances {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.instance(dir, router, v, &v.Instances[i]); err != nil {
			return err
		}
	}
	return t.setTables(router, v)
}

// bridges makes the bridges of a VPC, its subnets and internet, in its router.
func (t *Topology) bridges(router *netns.NS, v *VPC) error {
	if v.IPv6CIDR != nil {
		if err := netns.SetSysctls(router, ipv6Router...); err != nil {
			return err
		}
	}
	for _, s := range v.places() {
		bridge := device("br-", s.Name)
		if err := netns.CreateBridge(router, bridge, DefaultMTU); err != nil {
			return err
		}
		if err := netns.SetAlias(router, bridge, t.tag("subnet", v.Name, s.Name)); err != nil {
			return err
		}
		if err := addAddresses(router, bridge, s, s.Gateway); err != nil {
			return err
		}
		if err := netns.SetUp(router, bridge); err != nil {
			return err
		}
	}
	return netns.SetSysctls(router, ipv6Cables...)
}

// addAddresses gives a link the addresses that a has in a subnet.
func addAddresses(ns *netns.NS, link string, s *Subnet, a netip.Addr) error {
	err := netns.AddAddress(ns, link, netip.PrefixFrom(a, s.CIDR.Bits()))
	if err != nil || s.IPv6CIDR == nil {
		return err
	}
	return netns.AddAddress(ns, link, netip.PrefixFrom(s.IPv6(a), ipv6Subnet))
}

// node makes the namespace of a node and its hosts file.
func (t *Topology) node(dir string, v *VPC, name string) (*netns.NS, error) {
	if err := os.WriteFile(hostsFile(dir, name), []byte(t.hosts(v, name)), 0o644); err != nil {
		return nil, err
	}
	ns, err := netns.Create(Netns(dir, name))
	if err != nil {
		return nil, err
	}
	err = netns.Prepare(ns)
	if err == nil && v.IPv6CIDR != nil {
		err = netns.SetSysctls(ns, ipv6Node...)
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// nic is the name of an instance's interface.
const nic = "eth0"

// instance makes an instance and connects it with the bridge of its subnet.
func (t *Topology) instance(dir string, router *netns.NS, v *VPC, in *Instance) error {
	ns, err := t.node(dir, v, in.Name)
	if err != nil {
		return err
	}
	defer ns.Close()
	s := v.Subnet(in.Subnet)
	cable, tag := device("i-", in.Name), t.tag("instance", v.Name, in.Name)
	steps := []func() error{
		func() error { return netns.CreateVethPair(router, cable, ns, nic, in.MTU) },
		func() error { return netns.SetAlias(router, cable, tag) },
		func() error { return netns.SetAlias(ns, nic, tag) },
		func() error { return netns.AddToBridge(router, cable, device("br-", s.Name)) },
		func() error { return addAddresses(ns, nic, s, in.Address) },
		func() error { return netns.SetUp(router, cable) },
		func() error { return netns.SetUp(ns, nic) },
		func() error { return netns.AddDefaultRoute(ns, nic, s.Gateway) },
	}
	if s.IPv6CIDR != nil {
		steps = append(steps, func() error { return netns.AddDefaultRoute(ns, nic, s.IPv6(s.Gateway)) })
	}
	if t.isNextHop(v, in) {
		steps = append(steps, func() error { return netns.Forward(ns) })
		if s.IPv6CIDR != nil {
			steps = append(steps, func() error { return netns.SetSysctls(ns, ipv6Router...) })
		}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("instance %s: %w", in.Name, err)
		}
	}
	return nil
}

// isNextHop says whether a route leads through an instance, which then forwards what is not its own.
func (t *Topology) isNextHop(v *VPC, in *Instance) bool {
	for _, r := range t.RouteTables {
		for _, route := range r.Routes {
			if r.VPC == v.Name && route.Via == in.Name {
				return true
			}
		}
	}
	return false
}

// tag is the alias of an interface, by which whoever finds it knows where it comes from.
func (t *Topology) tag(kind, vpc, name string) string {
	return strings.Join([]string{"isthmus", "lab", t.Name, kind, vpc, name}, ":")
}

// hosts is the hosts file of a node: what a resolver of its VPC would say. The name of an interface endpoint stands for all
// its addresses, those of the node's own zone first; with a zone behind it, for the one there.
func (t *Topology) hosts(v *VPC, node string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	zone := ""
	for _, in := range v.Instances {
		fmt.Fprintf(&b, "%s %s\n", in.Address, in.Name)
		if a := v.Subnet(in.Subnet).IPv6(in.Address); a.IsValid() {
			fmt.Fprintf(&b, "%s %s-ipv6\n", a, in.Name)
		}
		if in.Name == node {
			zone = v.Subnet(in.Subnet).Zone
		}
	}
	for _, e := range t.Endpoints {
		if e.VPC != v.Name || e.gateway() {
			continue
		}
		var near, far []string
		for _, eni := range e.ENIs {
			in := v.Subnet(eni.Subnet).Zone
			line := fmt.Sprintf("%s %s %s-%s\n", eni.Address, e.Name, e.Name, in)
			if in == zone {
				near = append(near, line)
			} else {
				far = append(far, line)
			}
		}
		b.WriteString(strings.Join(append(near, far...), ""))
	}
	return b.String()
}
