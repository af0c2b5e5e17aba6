// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Encapsulation is how many bytes a gateway load balancer puts in front of a packet: the outer IPv4 and UDP headers, and
// GENEVE's with the three options.
const Encapsulation = wire.IPv4MinLen + wire.UDPLen + wire.GeneveAWSLen

// namespace looks at a namespace of which nothing is known but its path, and whether its traffic is inspected.
func (e *examination) namespace(path string) {
	ns, err := netns.Open(path)
	if err != nil {
		e.limit("namespace", "%v", err)
		return
	}
	defer ns.Close()
	links, err := netns.Links(ns)
	if err != nil {
		e.limit("namespace", "%v", err)
		return
	}
	links = slices.DeleteFunc(links, func(l netns.Link) bool { return !l.Up || l.Name == "lo" })
	e.checked("namespace " + path)
	e.mtus(path, links)
	if slices.ContainsFunc(links, func(l netns.Link) bool { return l.Kind == "bridge" }) {
		e.add(filtered(ns)...)
	}
	if e.Gateway {
		e.inspected(ns, links)
		return
	}
	e.strict(ns, links)
	e.router(ns, links)
	e.full(ns)
}

// mtus looks at what the links of a namespace carry.
func (e *examination) mtus(path string, links []netns.Link) {
	need, what := vpc.MaxGatewayMTU, "endpoints carry packets of up to 8500 bytes"
	if e.Gateway {
		need, what = need+Encapsulation, "gateway load balancers send appliances packets of up to 8568 bytes"
	}
	for _, l := range links {
		if l.MTU < need {
			fault := fmt.Sprintf("link %s has an MTU of %d, and %s", l.Name, l.MTU, what)
			e.add(tooSmall(path, l.Name, fault, netns.PortMTU))
		}
	}
}

// inspected has every link be where packets come back from inspection.
func (e *examination) inspected(ns *netns.NS, links []netns.Link) {
	if len(links) == 0 {
		return
	}
	e.add(Inspected(ns, links[0].Name, false)...)
	for _, l := range links[1:] {
		e.add(turnedBack(ns, l.Name)...)
	}
}

// strict looks for reverse path filters that drop what enters by another link than answers would leave by. The stricter
// of a link's setting and that of all counts.
func (e *examination) strict(ns *netns.NS, links []netns.Link) {
	names := []string{"all"}
	for _, l := range links {
		names = append(names, l.Name)
	}
	for _, where := range names {
		name := "net/ipv4/conf/" + where + "/rp_filter"
		if v, err := netns.ReadSysctl(ns, name); err == nil && v == "1" {
			e.add(setTo(ns.Path(), "rp_filter", name, "2", name+" is 1 (strict), so packets are dropped that enter by another link than answers to them leave by"))
		}
	}
}

// router looks whether a namespace that seems to lead somewhere does. A pod, with one link beside the daemon's, does not.
func (e *examination) router(ns *netns.NS, links []netns.Link) {
	const name = "net/ipv4/ip_forward"
	others := slices.DeleteFunc(slices.Clone(links), func(l netns.Link) bool { return l.Kind == "tuntap" || l.Master != 0 })
	if v, err := netns.ReadSysctl(ns, name); len(others) > 1 && err == nil && v == "0" {
		e.add(setTo(ns.Path(), "forwarding", name, "1", fmt.Sprintf("%s is 0, so nothing is routed between the %d links of this namespace", name, len(others))))
	}
}

// full looks whether the table of tracked connections has room.
func (e *examination) full(ns *netns.NS) {
	const most = "net/netfilter/nf_conntrack_max"
	var count, limit int
	for name, to := range map[string]*int{"net/netfilter/nf_conntrack_count": &count, most: &limit} {
		v, err := netns.ReadSysctl(ns, name)
		if err != nil {
			return // connections are not tracked
		}
		if _, err := fmt.Sscan(v, to); err != nil {
			return
		}
	}
	if limit > 0 && count > limit*9/10 {
		f := setTo("", "conntrack", most, fmt.Sprint(4*limit), fmt.Sprintf("%d of %d connections are tracked in %s; new ones will be dropped", count, limit, ns.Path()))
		f.Severity, f.Where = Fault, ns.Path()
		e.add(f)
	}
}
