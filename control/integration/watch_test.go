// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// eventually waits until check finds nothing wrong, and fails the test with what is still wrong after the time.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("after %v: %v", limit, err)
			return
		}
	}
}

// counters are the protocol counters of both kernels at one moment.
type counters [2]map[string]uint64

func (b *bed) counters() counters {
	b.Helper()
	var c counters
	for i, ns := range []*netns.NS{b.consumer, b.provider} {
		var err error
		if c[i], err = netns.ReadSNMP(ns); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

// since is how much a counter has grown, in the consumer's and in the provider's kernel.
func (c counters) since(before counters, name string) (consumer, provider uint64) {
	return c[0][name] - before[0][name], c[1][name] - before[1][name]
}

// corrupt are counters that never move while all packets are right, however many of them are lost.
var corrupt = []string{
	"TcpInCsumErrors", "IpInHdrErrors", "IpInAddrErrors", "IpInUnknownProtos", "IpExtInCsumErrors",
	"IcmpInCsumErrors", "IcmpInMsgs", "IcmpOutMsgs", "IpReasmReqds", "IpFragCreates",
}

// outOfWindow are counters that never move while the numbers in segments are right and none is lost or repeated.
var outOfWindow = []string{
	"TcpInErrs", "TcpExtBeyondWindow", "TcpExtOutOfWindowIcmps", "TcpExtPAWSEstab", "TcpExtTSEcrRejected", "TcpExtTCPACKSkippedSeq",
	"TcpExtTCPACKSkippedPAWS", "TcpExtTCPChallengeACK", "TcpExtTCPSYNChallenge", "TcpExtTCPSackDiscard",
	"TcpExtTCPRcvQDrop", "TcpExtTCPZeroWindowDrop",
}

// unmoved fails the test for every counter that has moved.
func (b *bed) unmoved(before counters, names ...string) {
	b.Helper()
	after := b.counters()
	for _, name := range names {
		if c, p := after.since(before, name); c+p != 0 {
			b.Errorf("%s moved: by %d at the consumer, by %d at the provider", name, c, p)
		}
	}
}

// States of a TCP socket in /proc/net/tcp (include/net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpTimeWait    = 6
	tcpListen      = 10
)

// socket is a line of /proc/net/tcp.
type socket struct {
	local, remote netip.AddrPort
	state         uint64
}

func (s socket) String() string { return fmt.Sprintf("%s-%s (state %d)", s.local, s.remote, s.state) }

// sockets lists the TCP sockets over IPv4 of a namespace.
func sockets(ns *netns.NS) ([]socket, error) {
	var content []byte
	err := netns.Do(ns, func() (err error) {
		content, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	})
	if err != nil {
		return nil, err
	}
	var list []socket
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[0] == "sl" {
			continue
		}
		local, err1 := hexAddrPort(f[1])
		remote, err2 := hexAddrPort(f[2])
		state, err3 := strconv.ParseUint(f[3], 16, 8)
		if err1 != nil || err2 != nil || err3 != nil {
			return nil, fmt.Errorf("line of /proc/net/tcp: %q", lines.Text())
		}
		list = append(list, socket{local, remote, state})
	}
	return list, lines.Err()
}

// hexAddrPort reads an address as the kernel prints it, a word in the machine's byte order, which is little endian
// wherever these tests run.
func hexAddrPort(s string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw) != 4 {
		return netip.AddrPort{}, fmt.Errorf("%q is no IPv4 address", address)
	}
	slices.Reverse(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw)), uint16(n)), err
}

// listening waits until something inside ns listens on the port.
func listening(t testing.TB, ns *netns.NS, port uint16) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		list, err := sockets(ns)
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.state == tcpListen && s.local.Port() == port {
				return nil
			}
		}
		return fmt.Errorf("nothing listens on port %d", port)
	})
}

// closed waits until no connection is left in either kernel.
func (b *bed) closed() {
	b.Helper()
	for _, ns := range []*netns.NS{b.consumer, b.provider} {
		eventually(b, patience, func() error {
			list, err := sockets(ns)
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(s socket) bool { return s.state == tcpListen || s.state == tcpTimeWait })
			if len(list) > 0 {
				return fmt.Errorf("%d connections are left behind, the first %v", len(list), list[0])
			}
			return nil
		})
	}
}

// quiet waits until no connection is left in either kernel, and none open in the dataplane.
func (b *bed) quiet() {
	b.Helper()
	b.closed()
	eventually(b, 10*time.Second, func() error {
		open := 0
		var first dataplane.FlowInfo
		err := b.daemon.Flows(b.Context(), func(f dataplane.FlowInfo) bool {
			if f.State != flow.Closing && f.State != flow.Reset {
				open++
				first = f
			}
			return true
		})
		if err == nil && open > 0 {
			err = fmt.Errorf("%d flows are open in the dataplane, one of them %+v", open, first)
		}
		return err
	})
}

// drops are the drop counters that have moved since, by symbol.
func (b *bed) drops(before dataplane.Stats) map[string]uint64 {
	moved := map[string]uint64{}
	for i, n := range b.daemon.Stats().Drops {
		if d := n - before.Drops[i]; d != 0 {
			moved[dataplane.Reason(i).String()] = d
		}
	}
	return moved
}
