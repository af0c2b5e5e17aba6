// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// TestSlowServer has a server with a window of any size read nothing, not even the PROXY protocol header, until the
// client has filled the window and probes it.
func TestSlowServer(t *testing.T) {
	for _, m := range modes {
		for _, window := range []int{1, 4000, 20_000, 200_000} { // in bytes, as asked of a kernel that has its own minimum
			t.Run(fmt.Sprintf("%s, %d bytes", m.name, window), func(t *testing.T) {
				t.Parallel()
				b := newBed(t, options{services: proxied, off: m.off})
				l := b.listen(goPort)
				setsockopt(t, l.(*net.TCPListener), unix.SO_RCVBUF, window)
				before, stats := b.counters(), b.daemon.Stats()
				client := b.dial(goPort)
				size := load[int64](1<<20, 2<<20, 20<<20)
				sent := make(chan error, 1)
				go func() {
					_, err := io.Copy(client, lab.Pattern(size))
					client.CloseWrite()
					sent <- err
				}()
				eventually(t, patience, func() error {
					if _, info := b.segments(client); info.Probes == 0 {
						return fmt.Errorf("the client does not probe the window: %d bytes unacknowledged", info.Unacked)
					}
					return nil
				})
				server, err := requireHeader(l).Accept()
				if err != nil {
					t.Fatal(err)
				}
				server.SetDeadline(time.Now().Add(patience))
				got, want := sha256.New(), sha256.New()
				n, err := io.Copy(got, server)
				io.Copy(want, lab.Pattern(size))
				if err != nil || n != size || string(got.Sum(nil)) != string(want.Sum(nil)) {
					t.Errorf("%d bytes received, and %v, are not the %d sent", n, err, size)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
				if server.RemoteAddr().String() != client.LocalAddr().String() {
					t.Errorf("the server saw the source %s, the client is %s", server.RemoteAddr(), client.LocalAddr())
				}
				server.Close()
				client.Close()
				b.quiet()
				b.unmoved(before, corrupt...)
				// Probes are out of the window on purpose, and not all of them are answered (TcpExtTCPACKSkippedSeq).
				b.unmoved(before, "TcpExtBeyondWindow", "TcpExtTCPZeroWindowDrop", "TcpExtTCPRcvQDrop", "TcpExtTCPSackDiscard", "TcpInErrs")
				if drops := b.drops(stats); len(drops) > 0 {
					t.Errorf("the dataplane dropped %v", drops)
				}
			})
		}
	}
}

// setsockopt sets an option of a listener's socket, which its connections get.
func setsockopt(t *testing.T, l *net.TCPListener, option, value int) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, value) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}
