// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/isthmus-net/isthmus/bench/null"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// tunnelSpec is for the two systems that stand between two TUN devices: null and isthmus.
type tunnelSpec struct {
	Client, Server string // paths of the namespaces
	Workers        int
	Pin            bool
	Load           loadSpec
}

func (b *bed) tunnel() tunnelSpec {
	return tunnelSpec{
		Client: b.client.Path(), Server: b.server.Path(), Workers: b.cfg.Workers, Pin: b.cfg.Pin, Load: b.load,
	}
}

// upNull runs the copier between client and server. It translates nothing, so the server owns the service's address
// itself, and it clamps nothing, so the devices have the MTU that leads to the same segments.
func upNull(ctx context.Context, b *bed) (err error) {
	b.dataplane, err = startProcess(ctx, b.self, nil, roleNull, b.tunnel())
	return err
}

// startNull is the copier's process.
func startNull(spec []byte) (*helper, error) {
	var s tunnelSpec
	if err := decode(spec, &s); err != nil {
		return nil, err
	}
	a, err := openNull(s.Client, s.Workers, netns.PortOptions{Addresses: clients})
	if err != nil {
		return nil, err
	}
	b, err := openNull(s.Server, s.Workers, netns.PortOptions{Addresses: []netip.Prefix{service}})
	if err != nil {
		return nil, err
	}
	go func() {
		fmt.Fprintln(os.Stderr, null.Run(a, b, s.Pin))
		os.Exit(1)
	}()
	return &helper{ready: ready{Offloads: null.Offloads}}, nil
}

// openNull opens one of the copier's devices, set up as the dataplane's own are but for the MTU.
func openNull(path string, workers int, options netns.PortOptions) ([]int, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var queues []int
	err = netns.Do(ns, func() (err error) {
		queues, err = null.Open(device, workers)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := netns.ConfigurePort(ns, device, options); err != nil {
		return nil, err
	}
	return queues, netns.SetMTU(ns, device, endpointMTU)
}
