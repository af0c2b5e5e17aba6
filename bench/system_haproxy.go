// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
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
	ns, err := b.middle(endpointMTU, false, service, node)
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
	return b.dataplane.awaitSocket(ctx, "tcp", netip.AddrPortFrom(service.Addr(), servicePort))
}
