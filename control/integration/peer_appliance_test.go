// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// Environment variables that name appliances of others.
const (
	// peerPrograms is a list of programs, as in PATH, that the tests run as appliances, each in turn. A program gets no
	// arguments. It starts in the network namespace of a firewall, which forwards packets of both families; in its
	// environment ISTHMUS_PEER_ADDRESS is the namespace's own address, ISTHMUS_PEER_NODE the load balancer's and
	// ISTHMUS_PEER_DEVICE the device between them. It answers HTTP health checks of / at port 80, returns inner packets to
	// the node, and ends at once at SIGTERM. It may lose what it knows of flows when it ends.
	peerPrograms = "ISTHMUS_PEER_APPLIANCE"
	// peerWithout is what these programs do not take, separated by commas: ipv4, ipv6, tcp, udp, icmp, gre, and
	// super-packets, of UDP: the kernel cuts them for UDP sockets, but not for raw ones and for what reads frames.
	peerWithout = "ISTHMUS_PEER_WITHOUT"
)

// peer is an appliance that does not come from this project.
type peer struct {
	name    string
	health  vpc.CheckProtocol
	without []string
	// start runs it until it is killed or the test ends.
	start func(t testing.TB, f *firewall) (kill func())
}

// takes says whether the peer can be asked to take such packets.
func (p peer) takes(kind string) bool { return !slices.Contains(p.without, kind) }

// eachPeer runs a test with every peer that is there: the kernel's address translation always, and the programs that the
// environment names.
func eachPeer(t *testing.T, test func(t *testing.T, p peer)) {
	t.Run("kernel", func(t *testing.T) {
		find(t, "nft")
		test(t, kernelPeer)
	})
	programs := filepath.SplitList(os.Getenv(peerPrograms))
	if len(programs) == 0 {
		t.Run("program", func(t *testing.T) {
			t.Skipf("%s names no appliance; those of others are not shipped with this project", peerPrograms)
		})
	}
	for _, program := range programs {
		t.Run(strings.ReplaceAll(filepath.Base(program), " ", "_"), func(t *testing.T) { test(t, programPeer(t, program)) })
	}
}

// kernelPeer is the least appliance there is, two rules of address translation: what comes for port 6081 goes back to the
// node, as if it came from the firewall. The kernel knows nothing of GENEVE; of the outer header it lowers the TTL,
// rewrites the addresses, and the checksums if there are any.
var kernelPeer = peer{name: "kernel", health: vpc.CheckTCP, start: func(t testing.TB, f *firewall) func() {
	t.Helper()
	nft := find(t, "nft")
	listener, err := netns.Listen(f.ns, "tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	const empty = "add table ip peer; delete table ip peer; add table ip peer;"
	run(t, f.ns, nft, empty+
		"add chain ip peer there { type nat hook prerouting priority dstnat; };"+
		"add chain ip peer back { type nat hook postrouting priority srcnat; };"+
		"add rule ip peer there udp dport 6081 dnat to "+gatewayNode.String()+":6081;"+
		"add rule ip peer back udp dport 6081 masquerade")
	return func() {
		listener.Close()
		// Without the rules alone the kernel would answer with ICMP errors; one that is dead says nothing.
		run(t, f.ns, nft, empty+
			"add chain ip peer dead { type filter hook prerouting priority raw; };"+
			"add rule ip peer dead udp dport 6081 drop")
	}
}}

// programPeer is a program as an appliance.
func programPeer(t testing.TB, program string) peer {
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s: %v", peerPrograms, err)
	}
	p := peer{name: filepath.Base(path), health: vpc.CheckHTTP, start: func(t testing.TB, f *firewall) func() {
		t.Helper()
		process := &undo{TB: t}
		start(process, f.ns, "/usr/bin/env", "ISTHMUS_PEER_ADDRESS="+f.address.String(),
			"ISTHMUS_PEER_NODE="+gatewayNode.String(), "ISTHMUS_PEER_DEVICE=eni0", path)
		t.Cleanup(process.run)
		return process.run
	}}
	if list := os.Getenv(peerWithout); list != "" {
		p.without = strings.Split(list, ",")
	}
	return p
}

// undo is a test whose cleanups can be run before it ends.
type undo struct {
	testing.TB
	list []func()
}

func (u *undo) Cleanup(f func()) { u.list = append(u.list, f) }

// run runs the cleanups that have not run yet, the last first.
func (u *undo) run() {
	list := u.list
	u.list = nil
	for _, f := range slices.Backward(list) {
		f()
	}
}
