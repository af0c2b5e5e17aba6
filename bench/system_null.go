// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/isthmus-net/isthmus/bench/null"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// startNull is the copier's process. For an interface endpoint it translates nothing, so the server owns the service's
// address itself, and it clamps nothing, so the devices have the MTU that leads to the same segments.
func startNull(spec []byte) (*helper, error) {
	var s tunnelSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	consumer := nullDevice{name: device, mtu: endpointMTU, PortOptions: netns.PortOptions{Addresses: clients}}
	provider := nullDevice{name: device, mtu: endpointMTU, PortOptions: netns.PortOptions{Addresses: []netip.Prefix{service}}}
	run := null.Run
	if s.Inspected {
		consumer = nullDevice{name: hop, mtu: netns.PortMTU, PortOptions: netns.PortOptions{Transit: true}}
		provider = nullDevice{name: device, mtu: netns.PortMTU,
			PortOptions: netns.PortOptions{Addresses: []netip.Prefix{appliance}}}
		run = func(a, b []int, pin bool) error {
			return null.RunGeneve(a, b, null.Tunnel{Node: gatewayNode.Addr().As4(), Appliance: appliance.Addr().As4()}, pin)
		}
	}
	a, err := consumer.open(s.Consumer, s.Workers)
	if err != nil {
		return nil, err
	}
	b, err := provider.open(s.Provider, s.Workers)
	if err != nil {
		return nil, err
	}
	go func() {
		fmt.Fprintln(os.Stderr, run(a, b, s.Pin))
		os.Exit(1)
	}()
	return &helper{ready: ready{Offloads: null.Offloads}}, nil
}

// nullDevice is one of the copier's devices, set up as the dataplane's own are but for the MTU.
type nullDevice struct {
	name string
	mtu  int
	netns.PortOptions
}

// open opens the device in a namespace, and returns a descriptor for each of its queues.
func (d *nullDevice) open(path string, workers int) ([]int, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var queues []int
	err = netns.Do(ns, func() (err error) {
		queues, err = null.Open(d.name, workers)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := netns.ConfigurePort(ns, d.name, d.PortOptions); err != nil {
		return nil, err
	}
	return queues, netns.SetMTU(ns, d.name, d.mtu)
}
