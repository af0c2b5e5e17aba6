// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// machine is an appliance that runs.
type machine struct {
	*appliance.Appliance
	stop context.CancelFunc
	done chan error
}

// flowsMost is how many flows of an appliance are looked at: those of all checks.
const flowsMost = 10_000

// inspect starts the appliance of an instance.
func (b *Bed) inspect(instance string, run *lab.Appliance) error {
	o := appliance.Options{
		Netns: b.spaces[instance], Device: lab.ApplianceDevice, Health: ":" + strconv.Itoa(int(run.HealthPort)),
		NoOffloads: b.options.Offloads.Plain || b.options.Offloads.Offloads,
	}
	if run.Mode == lab.TUN {
		o.Mode = appliance.TUN
	}
	a, err := appliance.New(o)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(b.ctx)
	m := &machine{a, stop, make(chan error, 1)}
	b.fleet[instance] = m
	go func() { m.done <- a.Run(ctx) }()
	return nil
}

// kill ends the appliance of an instance. Nobody listens there any more, neither to GENEVE nor to health checks.
func (b *Bed) kill(instance string) error {
	m := b.fleet[instance]
	delete(b.fleet, instance)
	m.stop()
	return <-m.done
}

// restart starts the appliance of an instance again.
func (b *Bed) restart(instance string) error {
	for _, v := range b.topology.VPCs {
		for _, in := range v.Instances {
			if in.Name == instance {
				return b.inspect(instance, in.Run[0].Appliance)
			}
		}
	}
	return fmt.Errorf("there is no instance %s", instance)
}

// revive is restart, and waits until the checks of the appliance pass.
func (b *Bed) revive(ctx context.Context, instance string) error {
	if err := b.restart(instance); err != nil {
		return err
	}
	return b.awaitHealthy(ctx)
}

// tuple names the two ends of a flow, one in a VPC and one on its internet.
type tuple struct {
	vpc, proto    string
	inside, outer netip.AddrPort
}

// trail is what appliances have seen of a flow: the one that saw it, and what it counted of each direction.
type trail struct {
	instance  string
	out, back appliance.WayStats // out is from inside
}

// trail looks for a flow in all appliances. That two have seen it is an error, as is that none has.
func (b *Bed) trail(t tuple) (found trail, err error) {
	for instance, m := range b.fleet {
		for _, f := range m.Flows(flowsMost) {
			out, back := f.Forth, f.Back
			if f.Source == t.outer {
				out, back = back, out
				f.Source, f.Destination = f.Destination, f.Source
			}
			if f.Protocol != t.proto || f.Source != t.inside || f.Destination != t.outer || !b.through(t.vpc, out, back) {
				continue
			}
			if found.instance != "" && found.instance != instance {
				return found, fmt.Errorf("%s and %s both saw the flow from %s to %s", found.instance, instance, t.inside, t.outer)
			}
			found.instance = instance
			// Each endpoint's part of the flow is counted by itself.
			if out.Endpoint != "" {
				found.out = out
			}
			if back.Endpoint != "" {
				found.back = back
			}
		}
	}
	if found.instance == "" {
		return found, fmt.Errorf("no appliance saw the flow from %s to %s", t.inside, t.outer)
	}
	return found, nil
}

// through says whether what was counted came through endpoints of a VPC.
func (b *Bed) through(vpc string, ways ...appliance.WayStats) bool {
	for _, w := range ways {
		if w.Endpoint == "" {
			continue
		}
		if !slices.ContainsFunc(b.topology.Endpoints, func(e lab.Endpoint) bool { return e.VPC == vpc && shown(e.ID) == w.Endpoint }) {
			return false
		}
	}
	return true
}

// shown is an endpoint's id as appliances show it: GENEVE has no room for its first digit.
func shown(id string) string {
	const prefix = "vpce-"
	return prefix + "*" + strings.TrimPrefix(id, prefix)[1:]
}

// gateway is a GWLB endpoint of demo.yaml.
func (b *Bed) gateway(name string) lab.Endpoint {
	for _, e := range b.topology.Endpoints {
		if e.Name == name {
			return e
		}
	}
	return lab.Endpoint{}
}

// both checks that an appliance saw both directions of a flow through the endpoints that they should take, with no packet
// lost in it.
func (b *Bed) both(t tuple, out, back string) (trail, error) {
	f, err := b.trail(t)
	if err != nil {
		return f, err
	}
	for _, way := range []struct {
		appliance.WayStats
		endpoint string
	}{{f.out, out}, {f.back, back}} {
		switch {
		case way.In.Packets == 0:
			return f, fmt.Errorf("%s saw nothing through %s of the flow from %s to %s", f.instance, way.endpoint, t.inside, t.outer)
		case way.Endpoint != shown(b.gateway(way.endpoint).ID):
			return f, fmt.Errorf("%s saw endpoint %s, %s is %s", f.instance, way.Endpoint, way.endpoint, b.gateway(way.endpoint).ID)
		}
	}
	return f, nil
}

// shares says how many of some flows each of some appliances has, in their order.
func shares(count map[string]int, instances ...string) string {
	var words []string
	for _, in := range instances {
		words = append(words, fmt.Sprintf("%s %d", in, count[in]))
	}
	return strings.Join(words, ", ")
}
