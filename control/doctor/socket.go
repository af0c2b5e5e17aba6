// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket looks at a daemon's socket, and says whether one listens.
func (e *examination) socket() bool {
	const check = "socket"
	info, err := os.Lstat(e.Socket)
	f := Finding{Severity: Fault, Check: check, Where: e.Socket}
	start := "isthmus daemon --socket " + e.Socket
	switch {
	case errors.Is(err, fs.ErrNotExist) && e.Expected:
		e.checked(check)
		f.Fault, f.Mend = "there is no socket "+e.Socket+", so no daemon listens", start
		e.add(f)
		return false
	case errors.Is(err, fs.ErrNotExist):
		e.note("no daemon listens on %s, so no ports were looked at", e.Socket)
		return false
	case err != nil:
		e.limit(check, "%v; run as root", err)
		return false
	case info.Mode()&fs.ModeSocket == 0:
		e.checked(check)
		f.Fault, f.Mend = e.Socket+" is not a socket, so no daemon can listen there", "rm "+e.Socket
		e.add(f)
		return false
	}
	e.guarded(info)
	conn, err := net.DialTimeout("unix", e.Socket, time.Second)
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.limit(check, "%s may not be used by you, so the daemon's ports were not looked at; run as root, or as a member of its group", e.Socket)
		return false
	case errors.Is(err, syscall.ECONNREFUSED):
		e.checked(check)
		f.Fault, f.Mend = "nobody listens on "+e.Socket+": a daemon has ended without removing it", start+" (it replaces the socket)"
		e.add(f)
		return false
	case err != nil:
		e.checked(check)
		f.Fault, f.Mend = fmt.Sprintf("the daemon behind %s takes no connections: %v", e.Socket, err), "systemctl restart isthmus"
		e.add(f)
		return false
	}
	defer conn.Close()
	e.checked(check)
	if pid := peerOf(conn); pid > 0 {
		e.descriptors(strconv.Itoa(pid))
	}
	return true
}

// guarded looks at who may use the socket, or put another in its place.
func (e *examination) guarded(info fs.FileInfo) {
	if info.Mode().Perm()&0o002 != 0 {
		e.add(Finding{
			Severity: Warning, Check: "socket", Where: e.Socket, Fault: "everybody on this machine may connect to " + e.Socket,
			Mend: "chmod 660 " + e.Socket,
		})
	}
	dir := filepath.Dir(e.Socket)
	if parent, err := os.Stat(dir); err == nil && parent.Mode().Perm()&0o002 != 0 && parent.Mode()&fs.ModeSticky == 0 {
		e.add(Finding{
			Severity: Warning, Check: "socket", Where: dir, Fault: "everybody on this machine may put another socket in place of " + e.Socket,
			Mend: "chmod 755 " + dir,
		})
	}
}

// peerOf is the process at the other end, 0 if that cannot be told.
func peerOf(conn net.Conn) (pid int) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	})
	return pid
}
