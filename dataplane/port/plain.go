// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"os"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// openPlain opens all queues of a device without offload headers. It serves where the kernel gets those wrong, and is
// otherwise the same port: one packet a read, all checksums complete.
func (d *device) openPlain(ifname string, kind uint16) error {
	if err := mustBeNew(ifname); err != nil {
		return err
	}
	cfg := water.Config{
		DeviceType: water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{
			Name:       ifname,
			MultiQueue: len(d.queues) > 1,
		},
	}
	if kind == unix.IFF_TAP {
		cfg.DeviceType = water.TAP
	}
	for i := range d.queues {
		fd, err := openPlainQueue(cfg)
		if err != nil {
			return fmt.Errorf("queue %d of %s: %w", i, ifname, err)
		}
		d.queues[i].fd = fd
	}
	return nil
}

// openPlainQueue opens one queue and takes its descriptor out of water's hands: a duplicate, so that no finalizer and
// not the runtime's poller get at it.
func openPlainQueue(cfg water.Config) (int, error) {
	w, err := water.New(cfg)
	if err != nil {
		return -1, explainSetIff(err)
	}
	defer w.Close()
	file, ok := w.ReadWriteCloser.(*os.File)
	if !ok {
		return -1, fmt.Errorf("water opened a %T where a file was expected", w.ReadWriteCloser)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", dupErr)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mustBeNew fails when the device exists, which water would join. Unlike IFF_TUN_EXCL it leaves a moment between the
// question and the creation.
func mustBeNew(ifname string) error {
	ifr, err := unix.NewIfreq(ifname)
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("look for device %s: %w", ifname, err)
	}
	defer unix.Close(s)
	switch err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr); {
	case err == nil:
		return explainSetIff(unix.EBUSY)
	case errors.Is(err, unix.ENODEV):
		return nil
	default:
		return fmt.Errorf("look for device %s: %w", ifname, err)
	}
}
