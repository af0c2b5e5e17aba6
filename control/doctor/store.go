// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/control/store"
)

const (
	// littleSpace is how much must be free beside the store, in bytes. A store that cannot grow refuses changes.
	littleSpace = 64 << 20
	// muchToCopy is the largest store that is read, in bytes.
	muchToCopy = 1 << 30
)

// store looks at the file of a store, and into it where no daemon holds it.
func (e *examination) store() {
	const check = "store"
	info, err := os.Stat(e.Store)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.note("there is no store %s yet", e.Store)
		e.space(e.Store)
		return
	case err != nil:
		e.limit(check, "%v; run as root", err)
		return
	}
	e.checked(check)
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		e.add(Finding{
			Severity: Warning, Check: check, Where: e.Store, Fault: fmt.Sprintf("others than its owner may open the store (mode %04o)", perm),
			Mend: "chmod 600 " + e.Store,
		})
	}
	e.space(e.Store)
	if info.Size() > muchToCopy {
		e.limit(check, "%s has %d MiB, which is too much to read through", e.Store, info.Size()>>20)
		return
	}
	if err := e.read(); errors.Is(err, fs.ErrPermission) {
		e.limit(check, "%v; run as root", err)
	} else if err != nil {
		e.limit(check, "reading %s: %v", e.Store, err)
	}
}

// space looks at the file system of a path, or of the nearest directory above that exists.
func (e *examination) space(path string) {
	dir := filepath.Dir(path)
	var disk unix.Statfs_t
	for err := unix.Statfs(dir, &disk); err != nil; err = unix.Statfs(dir, &disk) {
		if dir == filepath.Dir(dir) {
			e.limit("space", "%s: %v", dir, err)
			return
		}
		dir = filepath.Dir(dir)
	}
	e.checked("space")
	if free := disk.Bavail * uint64(disk.Bsize); free < littleSpace {
		e.add(Finding{
			Severity: Fault, Check: "space", Where: dir,
			Fault: fmt.Sprintf("%d MiB are free on the file system of the store; a store that cannot grow refuses changes", free>>20),
			Mend:  "du -xsh " + dir + "/* | sort -h (then remove what is not needed)",
		})
	}
}

// read judges a copy of the store: judging one means opening it, and opening one may migrate it. A store that a daemon
// holds has been judged by that daemon.
func (e *examination) read() error {
	file, err := os.Open(e.Store)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	copied, err := os.CreateTemp("", "isthmus-doctor-*")
	if err != nil {
		return err
	}
	defer os.Remove(copied.Name())
	_, err = io.Copy(copied, file)
	if err := errors.Join(err, copied.Close()); err != nil {
		return err
	}
	s, err := store.Open(copied.Name(), store.Options{})
	if err == nil {
		return s.Close()
	}
	e.judge(err)
	return nil
}

// judge makes a finding of what is wrong with the store's copy.
func (e *examination) judge(err error) {
	f := Finding{Severity: Fault, Check: "store", Where: e.Store}
	aside := fmt.Sprintf("mv %[1]s %[1]s.bad (then put a copy in its place, or start without one and apply an export)", e.Store)
	var damaged *store.DamagedError
	var version *store.VersionError
	switch {
	case errors.As(err, &damaged):
		f.Fault, f.Mend = fmt.Sprintf("the store is damaged: %v", damaged.What), aside
	case errors.As(err, &version):
		f.Fault = fmt.Sprintf("the store has format version %d, and this program knows version %d", version.File, version.Program)
		f.Mend = "isthmus version (and run the one that wrote the store)"
	case errors.Is(err, store.ErrForeign):
		f.Fault, f.Mend = e.Store+" is a database of another program", "isthmus daemon --store ANOTHER"
	default:
		f.Fault, f.Mend = fmt.Sprintf("the store cannot be opened: %v", err), aside
	}
	e.add(f)
}
