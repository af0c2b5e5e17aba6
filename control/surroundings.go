// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// encapsulation is how many bytes a gateway load balancer puts in front of a packet: the outer IPv4 and UDP headers, and
// GENEVE's with the three options.
const encapsulation = wire.IPv4MinLen + wire.UDPLen + wire.GeneveAWSLen

// portUse is what a state uses a port for, as far as its namespace has to suit that.
type portUse struct {
	nextHop bool  // a GWLB endpoint is there
	ways    []way // from the nodes of gateway load balancers there
}

// transit says whether the port's device takes all that is routed into it.
func (u portUse) transit(spec *vpc.Port) bool { return u.nextHop && spec.Kind == vpc.TUN }

// way is what the packets of a gateway load balancer's node need on the way to its appliances.
type way struct {
	loadBalancer string
	need         int // bytes of the longest packet
	targets      []netip.Addr
}

// usesOf finds the uses of ports that have to do with gateway load balancers.
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
		if lb.Type != vpc.Gateway {
			continue
		}
		for j := range lb.Nodes {
			w := wayOf(lb, lb.Nodes[j].Zone, groups)
			for _, id := range lb.Nodes[j].Ports {
				use := uses[id]
				use.ways = append(use.ways, w)
				uses[id] = use
			}
		}
	}
	return uses
}

// wayOf is what the node of a zone needs.
func wayOf(lb *vpc.LoadBalancer, zone string, groups map[string]*vpc.TargetGroup) way {
	w := way{loadBalancer: lb.ID, need: vpc.MaxGatewayMTU + encapsulation}
	if lb.MTU > 0 {
		w.need = lb.MTU + encapsulation
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
	place        string // a link, or a route and its link, and their namespace
	mtu, need    int    // bytes
}

// Error says what to do, too.
func (e *narrowError) Error() string {
	text := fmt.Sprintf("load balancer %s: packets to its appliances have up to %d bytes, but %s has an MTU of %d: raise that to %d",
		e.loadBalancer, e.need, e.place, e.mtu, e.need)
	if inner := e.mtu - encapsulation; inner >= vpc.MinGatewayMTU {
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
			if err := compare(ways, link.MTU, "link "+name+" in "+spec.Netns); err != nil {
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
			place := fmt.Sprintf("the route to %s by %s in %s", target, path.Link, spec.Netns)
			if err := compare([]way{w}, path.MTU, place); err != nil {
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

// compare compares an MTU with what the ways need.
func compare(ways []way, mtu int, place string) error {
	for _, w := range ways {
		if mtu < w.need {
			return &narrowError{loadBalancer: w.loadBalancer, place: place, mtu: mtu, need: w.need}
		}
	}
	return nil
}

// warnings reads what can be read simply. On a TUN all that comes back from inspection enters the namespace by the port's
// device; on a TAP it enters by the bridge, if the namespace is a router at all and not only a switch.
func (k kernel) warnings(spec *vpc.Port) (out []string) {
	ns, err := netns.Open(spec.Netns)
	if err != nil {
		return nil
	}
	defer ns.Close()
	entrance := spec.Device
	if spec.Kind == vpc.TAP {
		entrance = spec.Bridge
	}
	if v, err := netns.ReadSysctl(ns, "net/ipv4/ip_forward"); err == nil && v == "0" {
		if spec.Kind == vpc.TAP {
			return nil
		}
		out = append(out, "net.ipv4.ip_forward is 0, so what comes back from inspection is not routed on; set it to 1")
	}
	for _, where := range []string{"all", entrance} {
		for _, setting := range []struct{ name, harm string }{
			{"rp_filter", "what comes back from inspection may be dropped as spoofed"},
			{"send_redirects", "senders are told of ways around the inspection"},
		} {
			name := "net/ipv4/conf/" + where + "/" + setting.name
			if v, err := netns.ReadSysctl(ns, name); err == nil && v != "0" {
				out = append(out, fmt.Sprintf("%s is %s, so %s; set it to 0", name, v, setting.harm))
			}
		}
	}
	return append(out, trackers(ns)...)
}

// trackers warns of what sees a connection before and after inspection and takes the second time for the first.
func trackers(ns *netns.NS) (out []string) {
	if v, err := netns.ReadSysctl(ns, "net/netfilter/nf_conntrack_count"); err == nil && v != "0" {
		out = append(out, "connections are tracked, but what is inspected passes twice; exempt it (notrack)")
	}
	if names, err := netns.Translations(ns); err == nil && len(names) > 0 {
		out = append(out, "addresses may be translated before inspection, and not after it ("+strings.Join(names, ", ")+
			"); do that in a namespace of its own")
	}
	return out
}
