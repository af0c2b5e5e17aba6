// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dialer connects from inside a namespace. Its DialContext fits http.Transport: however many goroutines the caller
// puts between, the socket is made on a thread that has entered. The zero value dials from the process's own namespace.
type Dialer struct {
	NS *NS
	// Local is the source address and port; an invalid address leaves the choice of both to the kernel, port 0 that
	// of the port.
	Local netip.AddrPort
	// Control, if set, is called with the socket before it is bound and connected. It must not keep the descriptor.
	Control func(fd int) error
}

// Dial connects to address on network ("tcp" or "udp", with or without 4 or 6) from inside ns.
func Dial(ctx context.Context, ns *NS, network, address string) (net.Conn, error) {
	return (&Dialer{NS: ns}).DialContext(ctx, network, address)
}

// DialContext connects to address, an IP address and port: names are not resolved, for there is no resolver in a
// namespace. The context bounds the connect alone. Errors are *net.OpError, as from net.Dialer.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	remote, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w (names are not resolved inside a namespace)", network, err)
	}
	conn, err := d.dial(ctx, network, remote)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &net.OpError{Op: "dial", Net: network, Addr: target(address), Err: err}
	}
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, network string, remote netip.AddrPort) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	kind := unix.SOCK_STREAM
	switch {
	case strings.HasPrefix(network, "udp"):
		kind = unix.SOCK_DGRAM
	case !strings.HasPrefix(network, "tcp"):
		return nil, net.UnknownNetworkError(network)
	}
	var fd int
	err := Do(d.NS, func() (err error) {
		fd, err = unix.Socket(family(remote.Addr()), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	if err := d.start(fd, remote); err != nil {
		unix.Close(fd)
		return nil, err
	}
	// A non-blocking descriptor joins the runtime's poller here, so that waiting holds no thread.
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	if err := await(ctx, file); err != nil {
		return nil, err
	}
	return net.FileConn(file)
}

// start binds the socket and begins to connect it. The thread's namespace does not matter any more.
func (d *Dialer) start(fd int, remote netip.AddrPort) error {
	if d.Control != nil {
		if err := d.Control(fd); err != nil {
			return err
		}
	}
	if d.Local.IsValid() {
		option, level := unix.SO_REUSEADDR, unix.SOL_SOCKET // a port may still be in TIME_WAIT
		if d.Local.Port() == 0 {
			// The port is chosen at connect, where it need be free for this peer only.
			option, level = unix.IP_BIND_ADDRESS_NO_PORT, unix.SOL_IP
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		if err := unix.Bind(fd, sockaddr(d.Local)); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	if err := unix.Connect(fd, sockaddr(remote)); err != nil && err != unix.EINPROGRESS {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

// await returns when the socket's connect has ended, or the context has.
func await(ctx context.Context, file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		status, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = os.NewSyscallError("getsockopt", err)
		case status != 0:
			failed = os.NewSyscallError("connect", syscall.Errno(status))
		default:
			// Writable without an error may be a spurious wake-up: only a peer's name proves the connection.
			_, err := unix.Getpeername(int(fd))
			return err == nil
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

// Listen announces on address ("IP:port", IP may be empty) inside ns. Unlike net.Listen it takes plain TCP, never
// MPTCP: what happens on the wire should not depend on the language of the server.
func Listen(ns *NS, network, address string) (net.Listener, error) {
	var listener net.Listener
	err := Do(ns, func() (err error) {
		config := net.ListenConfig{}
		config.SetMultipathTCP(false)
		listener, err = config.Listen(context.Background(), network, address)
		return err
	})
	return listener, err
}

// ListenPacket opens a datagram socket on address inside ns.
func ListenPacket(ns *NS, network, address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := Do(ns, func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// target is the address of a failed dial.
type target string

func (target) Network() string  { return "ip" }
func (t target) String() string { return string(t) }

func family(addr netip.Addr) int {
	if addr.Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if addr := ap.Addr().Unmap(); addr.Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: addr.As4()}
	}
	return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}
