// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// setups are the ways to run appliance and dataplane.
var setups = map[string]struct {
	off     port.Switches
	options appliance.Options
}{
	"hairpin":                {port.Switches{}, appliance.Options{}},
	"hairpin, dataplane off": {port.Switches{Offloads: true}, appliance.Options{}},
	"hairpin, all off":       {port.Switches{Offloads: true}, appliance.Options{NoOffloads: true}},
	"tun":                    {port.Switches{}, appliance.Options{Mode: appliance.TUN, Device: "inspect"}},
	"tun, device each":       {port.Switches{}, appliance.Options{Mode: appliance.TUN, Device: "inspect%d"}},
	"tun, all off":           {port.Switches{Offloads: true}, appliance.Options{Mode: appliance.TUN, Device: "inspect", NoOffloads: true}},
}

func TestTraffic(t *testing.T) {
	for name, setup := range setups {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, setup.off, setup.options)
			for _, to := range []netip.Addr{target4, target6} {
				t.Run(to.String(), func(t *testing.T) {
					b.T = t
					at := netip.AddrPortFrom(to, 7)
					b.serve("tcp", at)
					b.serve("udp", at)
					b.echo("tcp", at, random(t, 1), random(t, 100_000), random(t, 3))
					b.echo("udp", at, random(t, 1), random(t, 8000), random(t, 30_000)) // the last in fragments
					b.ping(to, 1)
				})
			}
			b.T = t
			b.gre()
		})
	}
}

// gre sends a packet of a protocol without ports.
func (b *bed) gre() {
	b.Helper()
	here := b.listenIP(b.target, "ip4:47", "0.0.0.0")
	there := b.listenIP(b.source, "ip4:47", "0.0.0.0")
	want := append([]byte{0, 0, 8, 0}, "inner"...)
	_, err := there.WriteTo(want, &net.IPAddr{IP: target4.AsSlice()})
	must(b, err)
	buf := make([]byte, 100)
	n, from, err := here.ReadFrom(buf)
	must(b, err)
	if string(buf[:n]) != string(want) || from.String() != source4.String() {
		b.Fatalf("%q came from %s", buf[:n], from)
	}
}

// Bulk arrives as it was sent. What it cost is printed: processor time of this process, and so of both hosts' programs, the
// dataplane, the appliance, and the kernel on behalf of each.
func TestBulk(t *testing.T) {
	size := 1 << 27
	if testing.Short() {
		size = 1 << 25
	}
	for name, setup := range setups {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, setup.off, setup.options)
			for _, to := range []netip.Addr{target4, target6} {
				before := processorTime(t)
				rate := b.bulk(netip.AddrPortFrom(to, 5001), size)
				cost := (processorTime(t) - before).Seconds() / float64(size) * 1e9
				t.Logf("%s: %.2f Gbit/s, %.2f s of processor time a GB", to, rate, cost)
			}
			t.Logf("%+v, dropped %v", b.appliance.Stats().Batches, b.appliance.Stats().Dropped)
		})
	}
}

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// An appliance that is gone is a black hole: nothing is answered, and what is under way stalls.
func TestKilledApplianceIsABlackHole(t *testing.T) {
	b := newBed(t, port.Switches{}, appliance.Options{})
	at := netip.AddrPortFrom(target4, 7)
	b.serve("tcp", at)
	conn := b.echo("tcp", at, []byte("hello"))
	b.kill()
	_, err := conn.Write([]byte("anyone?"))
	must(t, err)
	if !silent(conn) {
		t.Error("the connection goes on without its appliance")
	}
	if _, err := b.dial("tcp", at, silence); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a new connection: %v, want silence", err)
	}
	// Another in its place knows nothing of the flow and needs not: the load balancer does.
	b.runAppliance(appliance.Options{})
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	if _, err := io.ReadFull(conn, make([]byte, len("anyone?"))); err != nil {
		t.Errorf("with an appliance again: %v", err)
	}
}

func TestDropRule(t *testing.T) {
	for _, mode := range []appliance.Mode{appliance.Hairpin, appliance.TUN} {
		t.Run(mode.String(), func(t *testing.T) {
			rule, err := appliance.ParseRule("tcp dst port 23")
			must(t, err)
			b := newBed(t, port.Switches{}, appliance.Options{Mode: mode, Device: "inspect", Drop: []appliance.Rule{rule}})
			telnet, ssh := netip.AddrPortFrom(target4, 23), netip.AddrPortFrom(target4, 22)
			b.serve("tcp", telnet)
			b.serve("tcp", ssh)
			b.echo("tcp", ssh, []byte("hello"))
			if _, err := b.dial("tcp", telnet, silence); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want silence", err)
			}
			s := b.appliance.Stats()
			if n := s.Dropped["by-rule"]; n < 1 || len(s.Endpoints) != 1 || s.Endpoints[0].Dropped != n {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Both directions of a flow are one flow of the appliance, and every packet is counted.
func TestCountersOfFlows(t *testing.T) {
	for _, mode := range []appliance.Mode{appliance.Hairpin, appliance.TUN} {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBed(t, port.Switches{}, appliance.Options{Mode: mode, Device: "inspect"})
			at := netip.AddrPortFrom(target4, 7)
			b.serve("udp", at)
			conn := b.echo("udp", at, make([]byte, 100), make([]byte, 100), make([]byte, 100))
			want := appliance.Traffic{Packets: 3, Bytes: 3 * 128}
			var flow appliance.FlowStats
			await(t, "three packets each way", func() bool {
				for _, f := range b.appliance.Flows(10) {
					if f.Protocol == "udp" {
						flow = f
					}
				}
				return flow.Back.Out == want
			})
			if flow.Source.String() != conn.LocalAddr().String() || flow.Destination != at || flow.Forth.Endpoint != endpointName ||
				flow.Forth.In != want || flow.Forth.Out != want || flow.Back.In != want {
				t.Errorf("%+v", flow)
			}
			s := b.appliance.Stats()
			e := s.Endpoints[0]
			if len(s.Endpoints) != 1 || e.Endpoint != endpointName || e.In != (appliance.Traffic{Packets: 6, Bytes: 6 * 128}) || e.Out != e.In {
				t.Errorf("%+v", s.Endpoints)
			}
			if s.Received != (appliance.Traffic{Packets: 6, Bytes: 6 * (128 + 40)}) || s.Batches.SingleDatagrams != 6 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// In tun mode the host's firewall decides, and its refusals reach the client.
func TestFirewallOfTheHost(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft(8):", err)
	}
	b := newBed(t, port.Switches{}, appliance.Options{Mode: appliance.TUN, Device: "inspect"})
	const rules = `table inet inspection {
	chain forward {
		type filter hook forward priority filter
		tcp dport 23 reject with tcp reset
		udp dport 53 drop
	}
}`
	err = netns.Do(b.host, func() error {
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if err != nil {
		t.Skip("this kernel's firewall:", err)
	}
	for _, to := range []netip.Addr{target4, target6} {
		for _, p := range []uint16{22, 23} {
			b.serve("tcp", netip.AddrPortFrom(to, p))
		}
		b.echo("tcp", netip.AddrPortFrom(to, 22), []byte("hello"))
		if _, err := b.dial("tcp", netip.AddrPortFrom(to, 23), patience); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, want a reset", to, err)
		}
		at := netip.AddrPortFrom(to, 53)
		b.serve("udp", at)
		conn, err := b.dial("udp", at, patience)
		must(t, err)
		_, err = conn.Write([]byte("hello"))
		must(t, err)
		if !silent(conn) {
			t.Errorf("%s: an answer passed the firewall", to)
		}
	}
}
