// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// TestPeer sends packets of both families, and of four protocols, through appliances of others, and compares what
// arrives.
func TestPeer(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			eachPeer(t, func(t *testing.T, p peer) { inspected(t, p, m.off) })
		})
	}
}

func inspected(t *testing.T, p peer, off port.Switches) {
	n := newInspection(t, p, off)
	n.serve()
	asked := 0
	for family, name := range families {
		for _, kind := range kinds {
			t.Run(name+" "+kind, func(t *testing.T) {
				for _, what := range []string{name, kind} {
					if !p.takes(what) {
						t.Skipf("%s does not take %s, says the environment", p.name, what)
					}
				}
				asked += n.talk(t, family, kind)
			})
		}
	}
	n.nothingDropped(t)
	flows := n.stuck(t)
	if len(flows) != asked {
		t.Errorf("the appliances have seen %d flows, want %d", len(flows), asked)
	}
	if off.Offloads {
		n.shaped(t)
	}
	t.Logf("%d flows; %s", len(flows), n.changes(t))
}

// nothingDropped fails the test if the dataplane has dropped anything, what appliances return included, but for what
// befalls health checks: appliances may close their connections with RST, and then segments come late. Inspected flows
// know no such drop. also is what else may have been dropped.
func (n *inspection) nothingDropped(t testing.TB, also ...dataplane.Reason) {
	t.Helper()
	stats := n.daemon.Stats()
	for r, count := range stats.Drops {
		if reason := dataplane.Reason(r); count != 0 && reason != dataplane.FlowReset && !slices.Contains(also, reason) {
			t.Errorf("%d packets were dropped: %s", count, reason)
		}
	}
	for _, target := range stats.Targets {
		if target.PacketsOut > 0 && target.PacketsIn == 0 {
			t.Errorf("appliance %s got %d packets and returned none", target.Address, target.PacketsOut)
		}
	}
}

// shaped fails the test for a packet for an appliance that has another form than AWS's.
func (n *inspection) shaped(t testing.TB) {
	t.Helper()
	for _, f := range n.firewalls {
		for _, c := range f.wire.find(func(c captured) bool { return !c.out && c.geneve() }) {
			if err := awsShape(c.IPv4, gatewayNode, f.address, inspectedEndpoint, true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPeerSticks opens connections until both appliances have some, all of which stay where they are.
func TestPeerSticks(t *testing.T) {
	eachPeer(t, func(t *testing.T, p peer) {
		n := newInspection(t, p, port.Switches{})
		n.echoes(t)
		var open []held
		carriers := map[*firewall]bool{}
		for i := 0; len(open) < 16 || len(carriers) < len(n.firewalls) && len(open) < 100; i++ {
			if family := i % 2; p.takes(families[family]) {
				c := n.hold(t, family)
				open = append(open, c)
				carriers[n.carrier(t, c)] = true
			}
		}
		for round := range 3 {
			for i, c := range open {
				text := fmt.Sprint("round ", round, " of connection ", i)
				c.say(t, text)
				c.hear(t, text)
			}
		}
		n.nothingDropped(t)
		carried := map[string]int{}
		for _, p := range n.stuck(t) {
			for f := range p.firewalls {
				carried[f]++
			}
		}
		if len(carried) != len(n.firewalls) {
			t.Errorf("of %d connections the appliances carried %v", len(open), carried)
		}
	})
}

// TestPeerRestarts kills the appliance that carries a connection and starts it again. The connection waits for it, as
// flows are not moved by default, and goes on with what the new one knows, which is nothing; new connections pass the
// other appliance in the meantime.
func TestPeerRestarts(t *testing.T) {
	eachPeer(t, func(t *testing.T, p peer) {
		n := newInspection(t, p, port.Switches{})
		n.serve()
		n.echoes(t)
		victim, open := n.sameAppliance(t, p)
		victim.kill()
		n.await("the appliance is found dead", func() error { return n.health(victim, dataplane.Unhealthy) })
		n.settle()
		there := len(victim.wire.find(func(c captured) bool { return !c.out && c.geneve() }))
		back := len(victim.wire.find(func(c captured) bool { return c.out && c.geneve() }))
		for _, c := range open {
			c.say(t, "still there?")
		}
		n.await("what is said on the connections, and said again, is sent to the dead appliance", func() error {
			if now := len(victim.wire.find(func(c captured) bool { return !c.out && c.geneve() })); now < there+2*len(open) {
				return fmt.Errorf("%d packets were sent there", now-there)
			}
			return nil
		})
		for _, c := range open {
			for range 2 {
				n.transfer(t, c.family)
			}
		}
		n.settle()
		if now := len(victim.wire.find(func(c captured) bool { return c.out && c.geneve() })); now != back {
			t.Errorf("the dead appliance has returned %d packets", now-back)
		}
		victim.kill = p.start(t, victim)
		n.await("both appliances are healthy again", func() error { return healthy(n.daemon) })
		for _, c := range open {
			c.hear(t, "still there?")
			n.transfer(t, c.family)
		}
		// While nobody listens there, the kernel of the dead one's host says so of every datagram.
		n.nothingDropped(t, dataplane.ICMPUnrelated)
		n.stuck(t)
	})
}

// sameAppliance opens connections, one of each family that the peer takes, that pass the same appliance. Others have
// passed the other one by then: an appliance may need a while for the first, in which it answers no health check.
func (n *inspection) sameAppliance(t *testing.T, p peer) (*firewall, []held) {
	t.Helper()
	by := map[*firewall]*[2]*held{}
	for _, f := range n.firewalls {
		by[f] = &[2]*held{}
	}
	complete := func(list *[2]*held) bool {
		return (list[0] != nil || !p.takes(families[0])) && (list[1] != nil || !p.takes(families[1]))
	}
	for try := 0; !complete(by[n.firewalls[0]]) || !complete(by[n.firewalls[1]]); try++ {
		if try == 200 {
			t.Fatalf("of %d connections none passed one of the appliances", try)
		}
		family := try % 2
		if !p.takes(families[family]) {
			continue
		}
		c := n.hold(t, family)
		c.say(t, "hello")
		c.hear(t, "hello")
		by[n.carrier(t, c)][family] = &c
	}
	n.await("both appliances are healthy with their first connections", func() error { return healthy(n.daemon) })
	var open []held
	for _, c := range by[n.firewalls[0]] {
		if c != nil {
			open = append(open, *c)
		}
	}
	return n.firewalls[0], open
}

// carrier is the firewall that a connection passes.
func (n *inspection) carrier(t *testing.T, c held) *firewall {
	t.Helper()
	var found *firewall
	err := n.daemon.Flows(t.Context(), func(f dataplane.FlowInfo) bool {
		for _, end := range f.Ends {
			if f.Inspected && f.State != flow.Reset && end.Address.String() == c.LocalAddr().String() {
				at := slices.IndexFunc(n.firewalls, func(w *firewall) bool { return w.address == f.Target.Addr() })
				if at >= 0 {
					found = n.firewalls[at]
				}
			}
		}
		return true
	})
	if err != nil || found == nil {
		t.Fatalf("no flow of the dataplane is the connection of %s (%v)", c.LocalAddr(), err)
	}
	return found
}

// health says whether an appliance's health is as wanted.
func (n *inspection) health(f *firewall, want dataplane.Health) error {
	for _, target := range n.daemon.Stats().Targets {
		if target.Address.Addr() == f.address {
			if target.Health == want {
				return nil
			}
			return fmt.Errorf("appliance %s is %s", f.address, target.Health)
		}
	}
	return errors.New("there is no such appliance")
}
