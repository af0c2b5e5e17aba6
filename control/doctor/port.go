// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// In is what to put in front of a command, so that it works in the namespace at a path. The empty path is the caller's.
func In(path string) string {
	if path == "" {
		return ""
	}
	return "nsenter --net=" + path + " "
}

// setTo is a finding about a setting of a namespace, and sets it right.
func setTo(path, check, name, right, fault string) Finding {
	return Finding{Severity: Warning, Check: check, Where: path, Fault: fault, Mend: fmt.Sprintf("%ssysctl -w %s=%s", In(path), name, right)}
}

// Device looks at the device of a port, and at the bridge that it is on, if any.
func Device(ns *netns.NS, device, bridge string) (found []Finding) {
	path := ns.Path()
	if link, err := netns.LinkByName(ns, device); err == nil && link.MTU < netns.PortMTU {
		found = append(found, tooSmall(path, device, fmt.Sprintf("somebody gave %s an MTU of %d, which is less than that of an ENI", device, link.MTU), netns.PortMTU))
	}
	if bridge == "" {
		return found
	}
	found = append(found, filtered(ns)...)
	links, err := netns.Links(ns)
	if err != nil {
		return found
	}
	return append(found, uneven(path, links, device, bridge)...)
}

func tooSmall(path, link, fault string, mtu int) Finding {
	return Finding{Severity: Warning, Check: "mtu", Where: path, Fault: fault, Mend: fmt.Sprintf("%sip link set dev %s mtu %d", In(path), link, mtu)}
}

// uneven compares the members of a bridge but for the port's device. A bridge drops in silence what is too long for the
// member that it leaves by.
func uneven(path string, links []netns.Link, device, bridge string) []Finding {
	at := slices.IndexFunc(links, func(l netns.Link) bool { return l.Name == bridge })
	if at < 0 {
		return nil
	}
	var members []netns.Link
	for _, l := range links {
		if l.Master == links[at].Index && l.Up && l.Name != device {
			members = append(members, l)
		}
	}
	if len(members) == 0 {
		return nil
	}
	byMTU := func(a, b netns.Link) int { return a.MTU - b.MTU }
	small, large := slices.MinFunc(members, byMTU), slices.MaxFunc(members, byMTU)
	if small.MTU == large.MTU {
		return nil
	}
	fault := fmt.Sprintf("bridge %s has %s with an MTU of %d beside %s with %d, and drops in silence what is too long for the first",
		bridge, small.Name, small.MTU, large.Name, large.MTU)
	return []Finding{tooSmall(path, small.Name, fault, large.MTU)}
}

// filtered says whether bridged packets take a detour by iptables.
func filtered(ns *netns.NS) []Finding {
	const name = "net/bridge/bridge-nf-call-iptables"
	if v, err := netns.ReadSysctl(ns, name); err != nil || v == "0" {
		return nil
	}
	return []Finding{setTo(ns.Path(), "bridge-nf", name, "0", name+" is on, so the rules of iptables apply to packets that are only bridged")}
}

// NotForwarded says whether a namespace keeps what a node on a TUN sends to targets elsewhere.
func NotForwarded(ns *netns.NS, targets []netip.Addr) []Finding {
	const name = "net/ipv4/ip_forward"
	if v, err := netns.ReadSysctl(ns, name); err != nil || v != "0" {
		return nil
	}
	for _, target := range targets {
		if way, err := netns.PathTo(ns, target); err == nil && !way.Local {
			f := setTo(ns.Path(), "forwarding", name, "1", fmt.Sprintf("%s is 0, so what is sent to target %s goes no further than this namespace", name, target))
			f.Severity = Fault
			return []Finding{f}
		}
	}
	return nil
}

// Inspected looks at a namespace whose traffic is inspected by way of a GWLB endpoint. What comes back enters by the link
// entrance: by the port's device on a TUN; by the bridge on a TAP, if the namespace is a router at all and not only a
// switch, which mayBeSwitch allows for.
func Inspected(ns *netns.NS, entrance string, mayBeSwitch bool) (found []Finding) {
	path := ns.Path()
	if v, err := netns.ReadSysctl(ns, "net/ipv4/ip_forward"); err == nil && v == "0" {
		if mayBeSwitch {
			return nil
		}
		found = append(found, setTo(path, "forwarding", "net/ipv4/ip_forward", "1", "net/ipv4/ip_forward is 0, so what comes back from inspection is not routed on"))
	}
	for _, where := range []string{"all", entrance} {
		found = append(found, turnedBack(ns, where)...)
	}
	return append(found, trackers(ns)...)
}

// turnedBack looks at settings of a link, or of all, that are against packets which pass twice.
func turnedBack(ns *netns.NS, where string) (found []Finding) {
	for _, setting := range []struct{ name, harm string }{
		{"rp_filter", "what comes back from inspection may be dropped as spoofed"},
		{"send_redirects", "senders are told of ways around the inspection"},
	} {
		name := "net/ipv4/conf/" + where + "/" + setting.name
		if v, err := netns.ReadSysctl(ns, name); err == nil && v != "0" {
			found = append(found, setTo(ns.Path(), setting.name, name, "0", fmt.Sprintf("%s is %s, so %s", name, v, setting.harm)))
		}
	}
	return found
}

// trackers looks for what sees a connection before and after inspection and takes the second time for the first.
func trackers(ns *netns.NS) (found []Finding) {
	path := ns.Path()
	if v, err := netns.ReadSysctl(ns, "net/netfilter/nf_conntrack_count"); err == nil && v != "0" {
		found = append(found, Finding{
			Severity: Warning, Check: "conntrack", Where: path, Fault: "connections are tracked, but what is inspected passes twice",
			Mend: In(path) + "nft 'add table inet untracked; add chain inet untracked pre { type filter hook prerouting priority raw; }; add rule inet untracked pre notrack'",
		})
	}
	if names, err := netns.Translations(ns); err == nil && len(names) > 0 {
		found = append(found, Finding{
			Severity: Warning, Check: "nat", Where: path,
			Fault: "addresses may be translated before inspection, and not after it (" + strings.Join(names, ", ") + ")",
			Mend:  In(path) + "nft list ruleset (then translate in a namespace of its own)",
		})
	}
	return found
}

// Port is what a daemon says of one of its ports.
type Port struct {
	ID            string
	Netns, Device string
	Open          bool
	Problem       string   // why it is not open
	Warnings      []string // made by Finding.String
}

// Ports adds what a daemon says of its ports, and what has changed around them since it looked, some seconds ago.
func (r *Report) Ports(ports []Port) {
	r.checked("ports")
	for _, p := range ports {
		if !p.Open {
			r.add(Finding{
				Severity: Fault, Check: "ports", Where: p.ID, Fault: "the port is not open: " + p.Problem,
				Mend: "isthmus status (the daemon tries again by itself, and at once when the namespace comes)",
			})
			continue
		}
		for _, text := range p.Warnings {
			r.add(Parse(Warning, "ports", p.ID, text))
		}
		for _, f := range p.look() {
			if !slices.Contains(p.Warnings, f.String()) {
				r.add(f)
			}
		}
	}
}

// look looks at the device of a port. Whoever may not has to take the daemon's word.
func (p *Port) look() []Finding {
	ns, err := netns.Open(p.Netns)
	if err != nil {
		return nil
	}
	defer ns.Close()
	links, err := netns.Links(ns)
	if err != nil {
		return nil
	}
	bridge := ""
	if at := slices.IndexFunc(links, func(l netns.Link) bool { return l.Name == p.Device }); at >= 0 {
		for _, l := range links {
			if l.Index == links[at].Master {
				bridge = l.Name
			}
		}
	}
	return Device(ns, p.Device, bridge)
}

// Refused adds that a daemon does not run the newest configuration.
func (r *Report) Refused(revision uint64, why string) {
	r.add(Finding{
		Severity: Fault, Check: "configuration", Fault: fmt.Sprintf("revision %d is not in force: %s", revision, why),
		Mend: "isthmus status (then correct what it names; what was in force before still is)",
	})
}
