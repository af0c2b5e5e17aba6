// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import "golang.org/x/sys/unix"

// TUN is a port on a layer 3 device inside a network namespace.
type TUN struct{ *device }

var _ Port = (*TUN)(nil)

// OpenTUN creates a TUN device in the network namespace of the calling thread and opens all its queues. The device is
// gone when the port is closed. Addresses, routes, MTU and the queueing discipline are its maker's business.
func OpenTUN(cfg Config) (*TUN, error) {
	d, err := openDevice(&cfg, unix.IFF_TUN)
	if err != nil {
		return nil, err
	}
	return &TUN{d}, nil
}
