// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ID tells namespaces apart for as long as they live: the device and inode number of the namespace file.
type ID struct {
	Device, Inode uint64
}

// String is the kernel's notation, as in the target of /proc/PID/ns/net.
func (id ID) String() string { return fmt.Sprintf("net:[%d]", id.Inode) }

// NS is an open network namespace. The handle keeps the namespace alive, whatever becomes of its path. It is safe for
// concurrent use; a nil *NS stands for the namespace of the process.
type NS struct {
	file *os.File
	path string
	id   ID
}

// Open opens the namespace at path: a bind mount as made by Create or "ip netns add", or /proc/PID/ns/net.
func Open(path string) (*NS, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w (is its maker still running?)", explain(err))
	}
	ns, err := newNS(file, path)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	return ns, nil
}

// Current opens the namespace of the calling thread, which is the process's own outside Do.
func Current() (*NS, error) { return Open(threadPath) }

// Create makes a new namespace and bind mounts it at path, so that it lives until Remove. Missing directories are
// made; a path that exists is refused. Links inside are all down, the loopback included: see Prepare.
func Create(path string) (*NS, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create network namespace: %w", explain(err))
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("create network namespace: %w", explain(err))
	}
	file.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(threadPath, path, "", unix.MS_BIND, "")
	})
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("create network namespace %s: %w", path, explain(err))
	}
	return Open(path)
}

// Anonymous makes a new namespace that lives as long as the handle, or anything inside it, is open. Its Path works
// while this process runs.
func Anonymous() (*NS, error) {
	var ns *NS
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return explain(err)
		}
		file, err := os.Open(threadPath)
		if err != nil {
			return err
		}
		ns, err = newNS(file, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()))
		if err != nil {
			file.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	return ns, nil
}

// Remove takes the namespace at path away from the file system: unmounted and unlinked. The namespace itself ends with
// the last process, handle and open device inside. A path that is gone already is a success.
func Remove(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // no mount there, or no longer
		}
		if err != nil {
			return fmt.Errorf("remove network namespace %s: %w", path, explain(err))
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", explain(err))
	}
	return nil
}

// Lookup returns the ID of the namespace at path without keeping it open, for those who watch whether a path still
// leads to the namespace they know.
func Lookup(path string) (ID, error) {
	ns, err := Open(path)
	if err != nil {
		return ID{}, err
	}
	defer ns.Close()
	return ns.id, nil
}

// newNS takes ownership of file on success.
func newNS(file *os.File, path string) (*NS, error) {
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return nil, errors.New("not a network namespace: its maker removed it, or the path is wrong")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, err
	}
	return &NS{file: file, path: path, id: ID{Device: st.Dev, Inode: st.Ino}}, nil
}

// ID identifies the namespace.
func (ns *NS) ID() ID { return ns.id }

// Path leads to the namespace: the one it was opened by, or for an anonymous one the handle's own under /proc.
func (ns *NS) Path() string { return ns.path }

// String is the path, for messages.
func (ns *NS) String() string {
	if ns == nil {
		return "the process's network namespace"
	}
	return ns.path
}

// Close releases the handle; a namespace that nothing else holds ends with all its links. Closing twice is safe.
func (ns *NS) Close() error {
	if ns == nil {
		return nil
	}
	if err := ns.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// control calls f with the descriptor, which stays open meanwhile.
func (ns *NS) control(f func(fd int) error) error {
	raw, err := ns.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return fmt.Errorf("network namespace %s: %w", ns, err)
	}
	return inner
}

// explain adds what to do to an error that means missing privilege.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: run as root, or inside a user namespace that owns its network (unshare -rmn COMMAND)", err)
	}
	return err
}
