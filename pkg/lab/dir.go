// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Root is where the directories of labs are. One lab has one directory, named like the lab:
//
//	lock            held while the lab is changed; its presence says that the directory is a lab's
//	topology.yaml   the completed topology
//	netns/NODE      the node's namespace, a bind mount
//	hosts/NODE      the node's /etc/hosts
//	pids/PROCESS    what is known of a process of the lab
//	log/PROCESS     what it printed
//	store.db        what the daemon keeps: the resources that the topology stands for, as the API has changed them since
//	daemon.sock     the daemon's socket
const Root = "/run/isthmus/lab"

// Dir is the usual directory of a lab.
func Dir(name string) string { return filepath.Join(Root, name) }

// Netns is the path of a node's namespace.
func Netns(dir, node string) string { return filepath.Join(dir, "netns", node) }

// Log is the path of what a process of the lab prints.
func Log(dir, process string) string { return filepath.Join(dir, "log", process) }

// StoreFile is the path of the store of the lab's daemon.
func StoreFile(dir string) string { return filepath.Join(dir, "store.db") }

// Socket is the path of the socket of the lab's daemon.
func Socket(dir string) string { return filepath.Join(dir, "daemon.sock") }

func hostsFile(dir, node string) string { return filepath.Join(dir, "hosts", node) }
func lockFile(dir string) string        { return filepath.Join(dir, "lock") }
func topologyFile(dir string) string    { return filepath.Join(dir, "topology.yaml") }

// Open reads the topology of the lab in dir.
func Open(dir string) (*Topology, error) {
	t, err := Load(topologyFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no lab in %s: %w (isthmus lab up builds one)", dir, os.ErrNotExist)
	}
	return t, err
}

// Info is what List says of a lab.
type Info struct {
	Name, Dir string
	// Topology is nil when a crash left only a part of the lab; Down removes it all the same.
	Topology *Topology
}

// List finds the labs under root, in the order of their names.
func List(root string) ([]Info, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var list []Info
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(root, e.Name())
		t, _ := Open(dir) // what cannot be read is listed as such
		list = append(list, Info{Name: e.Name(), Dir: dir, Topology: t})
	}
	return list, nil
}

// lock waits until nobody else changes the lab in dir and returns what ends the lock; so does the end of the process.
// The error is os.ErrNotExist when there is no lab, or no longer.
func lock(dir string) (unlock func(), err error) {
	file, err := os.OpenFile(lockFile(dir), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return hold(file)
}

// hold locks an open lock file, and closes it if that fails.
func hold(file *os.File) (unlock func(), err error) {
	for {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err == nil {
		// Whoever held the lock may have removed the lab meanwhile.
		var mine, there unix.Stat_t
		if err = unix.Fstat(int(file.Fd()), &mine); err == nil {
			err = unix.Stat(file.Name(), &there)
		}
		if err == nil && mine.Ino != there.Ino {
			err = os.ErrNotExist
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}
