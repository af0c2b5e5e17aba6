// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/isthmus-net/isthmus/control/doctor"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// portUse is what a state uses a port for, as far as its namespace has to suit that.
type portUse struct {
	nextHop bool         // a GWLB endpoint is there
	ways    []way        // from the nodes of gateway load balancers there
	targets []netip.Addr // some of those that nodes of network load balancers there send to
}

// transit says whether the port's device takes all that is routed into it.
func (u portUse) transit(spec *vpc.Port) bool { return u.nextHop && spec.Kind == vpc.TUN }

// way is what the packets of a gateway load balancer's node need on the way to its appliances.
type way struct {
	loadBalancer string
	need         int // bytes of the longest packet
	targets      []netip.Addr
}

// fewTargets is how many targets of a port are looked for: what leads to one leads to most.
const fewTargets = 4

// usesOf finds the uses of ports.
func usesOf(s *vpc.State) map[string]portUse {
	uses := map[string]portUse{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Type != vpc.GatewayLoadBalancer {
			continue
		}
		for j := range e.ENIs {
			for _, id := range e.ENIs[j].Ports {
				use := uses[id]
				use.nextHop = true
				uses[id] = use
			}
		}
	}
	groups := make(map[string]*vpc.TargetGroup, len(s.TargetGroups))
	for i := range s.TargetGroups {
		groups[s.TargetGroups[i].ID] = &s.TargetGroups[i]
	}
	for i := range s.LoadBalancers {
		lb := &s.LoadBalancers[i]
		for j := range lb.Nodes {
			w := wayOf(lb, lb.Nodes[j].Zone, groups)
			for _, id := range lb.Nodes[j].Ports {
				use := uses[id]
				if lb.Type == vpc.Gateway {
					use.ways = append(use.ways, w)
				} else {
					use.targets = append(use.targets, w.targets[:min(len(w.targets), fewTargets)]...)
				}
				uses[id] = use
			}
		}
	}
	return uses
}

// wayOf is what the node of a zone needs; need is a gateway load balancer's.
func wayOf(lb *vpc.LoadBalancer, zone string, groups map[string]*vpc.TargetGroup) way {
	w := way{loadBalancer: lb.ID, need: vpc.MaxGatewayMTU + doctor.Encapsulation}
	if lb.MTU > 0 {
		w.need = lb.MTU + doctor.Encapsulation
	}
	for _, l := range lb.Listeners {
		g := groups[l.TargetGroup]
		if g == nil {
			continue
		}
		for _, t := range g.Targets {
			if lb.CrossZone || t.Zone == zone {
				w.targets = append(w.targets, t.Address)
			}
		}
	}
	return w
}

// narrowError says what carries less than a gateway load balancer sends.
type narrowError struct {
	loadBalancer string
	netns, link  string
	target       netip.Addr // of the route by the link; the zero value if it is about the link itself
	mtu, need    int        // bytes
}

// fault says what is wrong.
func (e *narrowError) fault() string {
	place := "link " + e.link
	if e.target.IsValid() {
		place = fmt.Sprintf("the route to %s by %s", e.target, e.link)
	}
	return fmt.Sprintf("load balancer %s: packets to its appliances have up to %d bytes, but %s in %s has an MTU of %d",
		e.loadBalancer, e.need, place, e.netns, e.mtu)
}

// finding has the command that mends it.
func (e *narrowError) finding() doctor.Finding {
	mend := fmt.Sprintf("%sip link set dev %s mtu %d", doctor.In(e.netns), e.link, e.need)
	if e.target.IsValid() {
		mend += " (and take a smaller mtu away from the route)"
	}
	return doctor.Finding{Severity: doctor.Fault, Check: "mtu", Where: e.netns, Fault: e.fault(), Mend: mend}
}

// Error says what to do, too.
func (e *narrowError) Error() string {
	text := fmt.Sprintf("%s: raise that to %d", e.fault(), e.need)
	if inner := e.mtu - doctor.Encapsulation; inner >= vpc.MinGatewayMTU {
		text += fmt.Sprintf(", or lower the limit with mtu: %d on the load balancer", inner)
	}
	return text
}

// narrow looks at the port's device, at its bridge, and at the route to each appliance where the packets follow a route of
// the port's namespace. What is not there is no reason: the port does not open, or the health checks tell.
func (k kernel) narrow(spec *vpc.Port, ways []way) error {
	ns, err := netns.Open(spec.Netns)
	if err != nil {
		return nil
	}
	defer ns.Close()
	links := []string{spec.Device}
	if spec.Kind == vpc.TAP {
		links = append(links, spec.Bridge)
	}
	for _, name := range links {
		if link, err := netns.LinkByName(ns, name); err == nil {
			if err := compare(ways, narrowError{netns: spec.Netns, link: name, mtu: link.MTU}); err != nil {
				return err
			}
		}
	}
	forwards := spec.Kind == vpc.TUN || isLocal(ns, spec.Gateway)
	for _, w := range ways {
		for _, target := range w.targets {
			path, err := netns.PathTo(ns, target)
			onLink := spec.Kind == vpc.TAP && spec.Subnet.Contains(target)
			if err != nil || onLink && path.Link != spec.Bridge || !onLink && !forwards {
				continue
			}
			at := narrowError{netns: spec.Netns, link: path.Link, target: target, mtu: path.MTU}
			if err := compare([]way{w}, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// isLocal says whether an address is the namespace's own, so that its routes are those of what is sent there.
func isLocal(ns *netns.NS, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	path, err := netns.PathTo(ns, a)
	return err == nil && path.Local
}

// compare compares the MTU of a place with what the ways need.
func compare(ways []way, at narrowError) error {
	for _, w := range ways {
		if at.mtu < w.need {
			at.loadBalancer, at.need = w.loadBalancer, w.need
			return &at
		}
	}
	return nil
}

// warnings looks around an open port. What is said is what doctor.Parse takes apart.
func (k kernel) warnings(spec *vpc.Port, use portUse) (out []string) {
	ns, err := netns.Open(spec.Netns)
	if err != nil {
		return nil
	}
	defer ns.Close()
	found := doctor.Device(ns, spec.Device, spec.Bridge)
	if use.nextHop {
		entrance := spec.Device
		if spec.Kind == vpc.TAP {
			entrance = spec.Bridge
		}
		found = append(found, doctor.Inspected(ns, entrance, spec.Kind == vpc.TAP)...)
	}
	if spec.Kind == vpc.TUN {
		targets := use.targets
		for _, w := range use.ways {
			targets = append(targets[:len(targets):len(targets)], w.targets[:min(len(w.targets), fewTargets)]...)
		}
		found = append(found, doctor.NotForwarded(ns, targets)...)
	}
	if len(use.ways) > 0 {
		if narrow := (*narrowError)(nil); errors.As(k.narrow(spec, use.ways), &narrow) {
			found = append(found, narrow.finding())
		}
	}
	for _, f := range found {
		out = append(out, f.String())
	}
	return out
}
