// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Down ends the lab in dir: its processes, its namespaces and all links in them, its directory. It works on any part
// of a lab that a crash has left, and a lab that is gone is a success. It waits for another Up or Down of the same lab.
// Processes that were started by Exec are not the lab's and go on in a namespace without a name.
func Down(dir string) error {
	unlock, err := lock(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return removeUnclaimed(dir)
	case err != nil:
		return fmt.Errorf("remove lab: %w", err)
	}
	defer unlock()
	if err := remove(dir); err != nil {
		return fmt.Errorf("remove lab in %s: %w", dir, err)
	}
	return nil
}

// removeUnclaimed removes a directory that Up had made and not yet locked, and refuses any other.
func removeUnclaimed(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("remove lab: %w (is %s the directory of a lab?)", err, dir)
}

// remove takes a lab away, whose lock the caller holds. The lock file goes last: as long as anything is left, the
// directory can be told from others.
func remove(dir string) error {
	if err := stopAll(dir); err != nil {
		return err
	}
	nodes, err := os.ReadDir(filepath.Join(dir, "netns"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, node := range nodes {
		if err := netns.Remove(Netns(dir, node.Name())); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if path == lockFile(dir) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := os.Remove(lockFile(dir)); err != nil {
		return err
	}
	return os.Remove(dir)
}
