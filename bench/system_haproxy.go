// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// haproxyConfig is a TCP proxy as its manual advises: as many threads as processors, splicing in the kernel where that
// pays. A server without a port is reached on the port the client chose.
const haproxyConfig = `
global
	nbthread %d
defaults
	mode tcp
	option splice-auto
	timeout connect 5s
	timeout client 60s
	timeout server 60s
listen bench
	bind %s:%d-%d
	server target %s source %s %s
`

// upHAProxy runs HAProxy in a namespace between client and server.
func upHAProxy(ctx context.Context, b *bed) error {
	ns, err := b.middle(endpointMTU, false)
	if err != nil {
		return err
	}
	header := ""
	if b.load.Header {
		header = "send-proxy-v2 proxy-v2-options crc32c"
	}
	config := fmt.Sprintf(haproxyConfig, runtime.NumCPU(), service.Addr(), servicePort, servicePort+b.load.Ports-1,
		target.Addr(), node.Addr(), header)
	b.dataplane, err = startProcess(ctx, b.self, ns, roleExec, execSpec{
		Command: []string{"haproxy", "-db", "-f", "/dev/stdin"}, Input: config,
	})
	if err != nil {
		return err
	}
	return awaitListener(ctx, b.dataplane.PID)
}

// awaitListener waits until the process listens on the service's first port. Connecting would tell as well, but the
// proxy would go on to a server that is not there yet.
func awaitListener(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	const listening = "0A" // the state's number in the kernel's tcp_states.h
	address := service.Addr().As4()
	local := fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(address[:]), servicePort)
	for {
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
		if err != nil {
			return fmt.Errorf("wait for HAProxy to listen: %w", err)
		}
		for line := range strings.Lines(string(sockets)) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == local && f[3] == listening {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for HAProxy to listen: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
