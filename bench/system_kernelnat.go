// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// upKernelNAT makes a router namespace that does in the kernel what an endpoint does to addresses and to the MSS:
// destination to the server, source to the node, MSS clamped on cables of the same MTU as the dataplane's devices.
// Its work happens in the processes that send and receive, and so has no processor time of its own.
func upKernelNAT(ctx context.Context, b *bed) error {
	router, err := b.middle(netns.PortMTU, true, service, node)
	if err != nil {
		return err
	}
	rules := fmt.Sprintf(`
table ip isthmus_bench {
	chain destination {
		type nat hook prerouting priority dstnat
		ip daddr %s tcp dport %d-%d dnat to %s
	}
	chain source {
		type nat hook postrouting priority srcnat
		oifname "%s" snat to %s
	}
	chain clamp {
		type filter hook forward priority mangle
		tcp flags & (syn | rst) == syn tcp option maxseg size set %d
	}
}
`, service.Addr(), servicePort, servicePort+b.load.Ports-1, target.Addr(), serverLink, node.Addr(), segmentSize)
	return nft(ctx, router, rules)
}

// nft loads rules inside ns.
func nft(ctx context.Context, ns *netns.NS, rules string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin, cmd.Stderr = strings.NewReader(rules), &said
	if err := netns.Do(ns, cmd.Run); err != nil {
		return fmt.Errorf("load nftables rules: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
