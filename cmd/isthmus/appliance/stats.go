// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Traffic counts packets and their bytes: inner packets, without what surrounds them, unless said otherwise.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (t *Traffic) count(packets, size int) {
	t.Packets += uint64(packets)
	t.Bytes += uint64(size)
}

// Stats is a reading of an appliance's counters.
type Stats struct {
	Mode     string `json:"mode"`
	UptimeMS int64  `json:"uptime_ms"`
	// Received counts datagrams from load balancers, GENEVE header included; Sent what went back, or, in tun mode, what the
	// kernel sent to go back.
	Received Traffic `json:"received"`
	Sent     Traffic `json:"sent"`
	// Dropped counts packets that went no further, by Cause; only causes that occurred are there.
	Dropped   map[string]uint64 `json:"dropped"`
	Batches   Batches           `json:"batches"`
	Flows     int               `json:"flows"`
	Endpoints []EndpointStats   `json:"endpoints"`
}

// Batches say how much went at once.
type Batches struct {
	Receives        uint64 `json:"receives"` // system calls that received something
	Sends           uint64 `json:"sends"`    // system calls that sent
	Supers          uint64 `json:"supers"`   // super-packets sent
	SuperDatagrams  uint64 `json:"super_datagrams"`
	SingleDatagrams uint64 `json:"single_datagrams"`
	Sockets         uint64 `json:"sockets"` // bound to source ports, ever
}

// EndpointStats are the counters of the packets that came through one endpoint.
type EndpointStats struct {
	// Endpoint is the endpoint's id, with * for its first digit, which GENEVE's option has no room for.
	Endpoint string  `json:"endpoint"`
	In       Traffic `json:"in"`
	Out      Traffic `json:"out"`
	Dropped  uint64  `json:"dropped"`
}

// FlowStats are the counters of one flow. Source is the sender of its first packet.
type FlowStats struct {
	Protocol    string         `json:"protocol"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	IdleMS      int64          `json:"idle_ms"`
	Forth       WayStats       `json:"forth"`
	Back        WayStats       `json:"back"`
}

// WayStats are the counters of one direction of a flow, and the header that its last packet came under.
type WayStats struct {
	Endpoint   string  `json:"endpoint,omitempty"`
	Attachment uint64  `json:"attachment"`
	Cookie     string  `json:"cookie,omitempty"`
	SourcePort uint16  `json:"source_port"` // outer
	In         Traffic `json:"in"`
	Out        Traffic `json:"out"`
	Dropped    uint64  `json:"dropped"`
}

// endpoint is what is counted of an endpoint, and the device that its packets meet the kernel on.
type endpoint struct {
	number  uint64
	in, out Traffic
	dropped uint64
	tunnel  *tunnel
}

// endpointName is the id of the endpoint that an option names.
func endpointName(number uint64) string { return fmt.Sprintf("vpce-*%016x", number) }

// Stats reads the counters.
func (a *Appliance) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick()
	a.flows.forget(a.now)
	s := Stats{
		Mode: a.opts.Mode.String(), UptimeMS: a.now.Milliseconds(), Received: a.received, Sent: a.sent,
		Dropped: map[string]uint64{}, Flows: a.flows.flows.len(), Endpoints: []EndpointStats{},
		Batches: Batches{Receives: a.receives.Load(), Sends: a.sends.calls.Load(), Supers: a.sends.supers.Load(),
			SuperDatagrams: a.sends.inSupers.Load(), SingleDatagrams: a.sends.singles.Load(), Sockets: a.sends.sockets.Load()},
	}
	dropped := a.dropped
	dropped[NotSent] += a.sends.failed.Load() + a.notTaken.Load()
	for c, n := range dropped {
		if n > 0 {
			s.Dropped[Cause(c).String()] = n
		}
	}
	for _, e := range a.endpoints {
		s.Endpoints = append(s.Endpoints, EndpointStats{endpointName(e.number), e.in, e.out, e.dropped})
	}
	slices.SortFunc(s.Endpoints, func(x, y EndpointStats) int { return strings.Compare(x.Endpoint, y.Endpoint) })
	return s
}

// Flows reads the counters of flows, at most that many, those heard of last first.
func (a *Appliance) Flows(most int) []FlowStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick()
	a.flows.forget(a.now)
	all := []FlowStats{}
	a.flows.flows.each(func(_ flowKey, f *flow) bool {
		if len(all) == most {
			return false
		}
		all = append(all, f.stats(a.now))
		return true
	})
	return all
}

func (f *flow) stats(now time.Duration) FlowStats {
	from := netip.AddrPortFrom(address(&f.key.a), f.key.aPort)
	to := netip.AddrPortFrom(address(&f.key.b), f.key.bPort)
	if f.first == 1 {
		from, to = to, from
	}
	return FlowStats{Protocol: protocolName(f.key.proto), Source: from, Destination: to, IdleMS: (now - f.seen).Milliseconds(),
		Forth: f.ways[f.first].stats(), Back: f.ways[1-f.first].stats()}
}

func (w *way) stats() WayStats {
	if w.endpoint == nil {
		return WayStats{}
	}
	return WayStats{Endpoint: endpointName(w.endpoint.number), Attachment: w.geneve.Attachment,
		Cookie: fmt.Sprintf("%08x", w.geneve.Cookie), SourcePort: w.port, In: w.in, Out: w.out, Dropped: w.dropped}
}

// protocolName is the word for a protocol in rules and output.
func protocolName(proto uint8) string {
	switch proto {
	case wire.ProtoTCP:
		return "tcp"
	case wire.ProtoUDP:
		return "udp"
	case wire.ProtoICMP:
		return "icmp"
	case wire.ProtoICMPv6:
		return "icmp6"
	case wire.ProtoGRE:
		return "gre"
	}
	return fmt.Sprintf("proto %d", proto)
}

// WriteStats writes the counters, and those of the given flows, for people to read.
func WriteStats(w io.Writer, s Stats, flows []FlowStats) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "received %d packets, sent %d; %d flows, %d sockets; %d of %d answers in %d super-packets\n", s.Received.Packets,
		s.Sent.Packets, s.Flows, s.Batches.Sockets, s.Batches.SuperDatagrams, s.Batches.SuperDatagrams+s.Batches.SingleDatagrams, s.Batches.Supers)
	for c := range causes {
		if n := s.Dropped[causes[c]]; n > 0 {
			fmt.Fprintf(t, "dropped %d: %s\n", n, causes[c])
		}
	}
	if len(s.Endpoints) > 0 {
		fmt.Fprintln(t, "ENDPOINT\tPACKETS IN\tBYTES IN\tPACKETS OUT\tBYTES OUT\tDROPPED")
	}
	for _, e := range s.Endpoints {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\n", e.Endpoint, e.In.Packets, e.In.Bytes, e.Out.Packets, e.Out.Bytes, e.Dropped)
	}
	if len(flows) > 0 {
		fmt.Fprintln(t, "FLOW\tFROM\tTO\tIN\tOUT\tBACK IN\tBACK OUT\tDROPPED\tIDLE")
	}
	for _, f := range flows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%v\n", f.Protocol, f.Source, f.Destination, f.Forth.In.Packets,
			f.Forth.Out.Packets, f.Back.In.Packets, f.Back.Out.Packets, f.Forth.Dropped+f.Back.Dropped,
			time.Duration(f.IdleMS)*time.Millisecond)
	}
	return t.Flush()
}
