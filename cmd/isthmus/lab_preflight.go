// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// labPreflight finds out whether a lab can be built on this machine by making one of everything it consists of, in a
// namespace that goes away again. Each part of the error says what to do.
func labPreflight() error {
	if os.Geteuid() != 0 {
		return errors.New("a lab needs root, for it makes network namespaces and devices; run it with sudo")
	}
	return errors.Join(checkTUN(), checkNamespaces())
}

func checkTUN() error {
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case err == nil:
		return tun.Close()
	case errors.Is(err, os.ErrNotExist):
		return errors.New("/dev/net/tun is missing; load the module (modprobe tun), or give it to the container (--device /dev/net/tun)")
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return errors.New("/dev/net/tun has no driver behind it; load the module (modprobe tun)")
	}
	return fmt.Errorf("/dev/net/tun cannot be opened: %w; give it to the container (--device /dev/net/tun)", err)
}

func checkNamespaces() error {
	const advice = "in a container add --privileged, or --cap-add SYS_ADMIN,NET_ADMIN,NET_RAW and a writable /proc/sys"
	ns, err := netns.Anonymous()
	if err != nil {
		return fmt.Errorf("network namespaces cannot be made: %w; %s", err, advice)
	}
	defer ns.Close()
	if err := netns.Prepare(ns); err != nil {
		return fmt.Errorf("network namespaces cannot be configured: %w; %s", err, advice)
	}
	if err := netns.Forward(ns); err != nil {
		return fmt.Errorf("network namespaces cannot be made to forward: %w; %s", err, advice)
	}
	if err := netns.CreateBridge(ns, "bridge", netns.PortMTU); err != nil {
		return fmt.Errorf("bridges cannot be made: %w; load the module (modprobe bridge)", err)
	}
	if err := netns.CreateVethPair(ns, "one", ns, "other", netns.PortMTU); err != nil {
		return fmt.Errorf("veth pairs cannot be made: %w; load the module (modprobe veth)", err)
	}
	return nil
}
