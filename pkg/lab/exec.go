// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"golang.org/x/sys/unix"
)

// Exec runs a command inside a node of the lab in dir and waits for its end. The error is an *exec.ExitError when the
// command itself failed.
func Exec(cmd *exec.Cmd, dir, node string) error {
	if err := Start(cmd, dir, node); err != nil {
		return err
	}
	return cmd.Wait()
}

// Start starts a command inside a node of the lab in dir: in its namespace, where /etc/hosts has the names of instances
// and endpoints, and /sys shows the node's interfaces if it can be mounted. For the rest it sees this machine.
func Start(cmd *exec.Cmd, dir, node string) error {
	ns, err := openNode(dir, node)
	if err != nil {
		return err
	}
	defer ns.Close()
	return netns.Do(ns, func() error {
		// The mounts of this thread become its own: nobody else may run on it, so it ends here. The child keeps both.
		runtime.LockOSThread()
		if err := mountNode(dir, node); err != nil {
			return fmt.Errorf("start %s in %s: %w", cmd.Path, node, err)
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start in %s: %w", node, err)
		}
		return nil
	})
}

// mountNode gives the calling thread a mount namespace of a node's.
func mountNode(dir, node string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// What is unmounted outside goes away here too, but nothing passes outwards.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	if err := unix.Mount(hostsFile(dir, node), "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount hosts file: %w", err)
	}
	// A new mount shows the thread's own network namespace. Where it is not allowed, /sys keeps showing the host's.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}

// openNode opens the namespace of a node, and names those there are when it does not exist.
func openNode(dir, node string) (*netns.NS, error) {
	ns, err := netns.Open(Netns(dir, node))
	if !errors.Is(err, os.ErrNotExist) {
		return ns, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "netns"))
	if err != nil {
		return nil, fmt.Errorf("no lab in %s: %w (isthmus lab up builds one)", dir, os.ErrNotExist)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return nil, fmt.Errorf("the lab in %s has no node %q: choose one of %s", dir, node, strings.Join(names, ", "))
}
