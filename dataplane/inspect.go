// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"net/netip"

	"github.com/isthmus-net/isthmus/dataplane/flow"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// Stats reads all counters. It stops no worker.
func (e *Engine) Stats() Stats {
	v := e.view.Load()
	s := Stats{Revision: v.revision}
	for i := range v.ports {
		if p := &v.ports[i]; p.gen != 0 && p.port != nil {
			s.Ports = append(s.Ports, PortStats{ID: p.id, Stats: p.port.Stats()})
		}
	}
	for i := range v.enis {
		if n := &v.enis[i]; n.gen != 0 && n.role != RoleNone && !n.gone {
			s.ENIs = append(s.ENIs, n.stats())
		}
	}
	for i := range v.targets {
		if t := &v.targets[i]; t.counters != nil {
			s.Targets = append(s.Targets, t.stats())
		}
	}
	for _, w := range e.workers {
		s.add(w)
	}
	s.Flows.Max = uint64(e.cfg.MaxFlows)
	return s
}

func (n *viewENI) stats() ENIStats {
	s := ENIStats{Role: n.role, Owner: n.owner, VPC: n.vpc, Zone: n.zone, Address: netip.AddrFrom16(n.addr).Unmap()}
	s.Traffic = Traffic{PacketsIn: sum(n.counters, eniPacketsIn), BytesIn: sum(n.counters, eniBytesIn),
		PacketsOut: sum(n.counters, eniPacketsOut), BytesOut: sum(n.counters, eniBytesOut)}
	for r := range s.Drops {
		s.Drops[r] = sum(n.counters, eniDrops+r)
	}
	return s
}

func (t *viewTarget) stats() TargetStats {
	s := TargetStats{TargetID: t.id, Zone: t.zone, Health: t.health, Draining: t.draining}
	s.Traffic = Traffic{PacketsIn: sum(t.counters, targetPacketsIn), BytesIn: sum(t.counters, targetBytesIn),
		PacketsOut: sum(t.counters, targetPacketsOut), BytesOut: sum(t.counters, targetBytesOut)}
	s.ActiveFlows, s.NewFlows = sum(t.counters, targetActive), sum(t.counters, targetNew)
	s.PortAllocationErrors = sum(t.counters, targetPortErrors)
	return s
}

// add adds the counters of one worker.
func (s *Stats) add(w *worker) {
	n := func(i int) uint64 { return w.total.shared[i].Load() }
	for r := range s.Drops {
		s.Drops[r] += n(totalDrops + r)
	}
	f := &s.Flows
	f.Active += n(totalActive)
	f.New += n(totalNew)
	f.Expired += n(totalExpired)
	f.ClientResets += n(totalClientResets)
	f.TargetResets += n(totalTargetResets)
	f.OwnResets += n(totalOwnResets)
	f.PortAllocationErrors += n(totalPortErrors)
	f.HeadersSent += n(totalHeaders)
	f.MSSClamped += n(totalClamped)
	s.Workers = append(s.Workers, WorkerStats{Turns: n(totalTurns), Batches: n(totalBatches), Packets: n(totalPackets),
		Strays: n(totalStrays), Sleeps: n(totalSleeps)})
}

// flowChunk is how many entries a worker looks at for Flows between two turns.
const flowChunk = 1024

// flowCursor is how far Flows has come in the tables of one worker.
type flowCursor struct {
	next        uint32
	inspections bool // the connections are through
	done        bool
}

// Flows calls each for the flows that are open, until it returns false: connections, then inspected flows. The workers are
// asked for some entries at a time, so that a long table stops nobody; flows that open or close meanwhile may be seen or
// not.
func (e *Engine) Flows(ctx context.Context, each func(FlowInfo) bool) error {
	cursors := make([]flowCursor, len(e.workers))
	for {
		got := make([][]FlowInfo, len(e.workers))
		if err := e.do(ctx, func(w *worker) { got[w.id] = w.listFlows(&cursors[w.id]) }); err != nil {
			return err
		}
		finished := true
		for i, infos := range got {
			finished = finished && cursors[i].done
			for _, f := range infos {
				if !each(f) {
					return nil
				}
			}
		}
		if finished {
			return nil
		}
	}
}

// listFlows describes the flows of the next chunk.
func (w *worker) listFlows(c *flowCursor) (infos []FlowInfo) {
	if c.done {
		return nil
	}
	if c.inspections {
		c.next, c.done = w.inspections.Walk(c.next, flowChunk, func(_ flow.Handle, e *flow.StickyEntry) {
			infos = append(infos, w.describeInspection(e))
		})
		return infos
	}
	through := false
	c.next, through = w.flows.Walk(c.next, flowChunk, func(_ flow.Handle, e *flow.Entry) {
		infos = append(infos, w.describe(e))
	})
	if through {
		c.next, c.inspections = 0, true
	}
	return infos
}

// addrPort is an address of an entry with a port.
func addrPort(a [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
}

// describe resolves what an entry names by slot. A flow that has been ended, or will be when its next packet comes, is told
// as reset.
func (w *worker) describe(e *flow.Entry) FlowInfo {
	f := FlowInfo{Worker: w.id, Client: addrPort(e.Client, e.ClientPort), Target: addrPort(e.Target, e.TargetPort), State: e.State,
		Protocol: wire.ProtoTCP, Proxy: e.Flags&flow.Proxy != 0, Idle: flow.Elapsed(w.now, e.Seen), BytesOut: e.BytesOut, BytesIn: e.BytesIn}
	if e.Ended != 0 || w.view.verdict(e) != Unexplained {
		f.State = flow.Reset
	}
	if v := w.view; v.hasENI(e.Endpoint) && v.hasENI(e.Node) {
		n := &v.enis[e.Endpoint.Slot]
		if n.role == RoleEndpoint {
			f.Endpoint = n.owner
		}
		f.Zone, f.EndpointAddress = n.zone, addrPort(n.addr, e.ListenerPort)
		node := &v.enis[e.Node.Slot]
		f.LoadBalancer, f.NodeAddress = node.owner, addrPort(node.addr, e.NATPort)
	}
	return f
}

// describeInspection is describe for an inspected flow. One that has been ended is told as reset.
func (w *worker) describeInspection(e *flow.StickyEntry) FlowInfo {
	k := &e.Key
	f := FlowInfo{Worker: w.id, State: e.State, Protocol: k.Proto, Idle: flow.Elapsed(w.now, e.Seen), Inspected: true,
		Kind:   [...]vpc.Stickiness{flow.FiveTuple: vpc.FiveTuple, flow.ThreeTuple: vpc.ThreeTuple, flow.TwoTuple: vpc.TwoTuple}[k.Kind],
		Cookie: e.Cookie, Ends: [2]FlowEnd{
			{Address: addrPort(k.A, k.APort), Bytes: e.Bytes[0]},
			{Address: addrPort(k.B, k.BPort), Bytes: e.Bytes[1]},
		}}
	if e.Ended != 0 {
		f.State = flow.Reset
	}
	v := w.view
	for d, ref := range e.Ends {
		if v.hasENI(ref) {
			f.Ends[d].Endpoint = v.enis[ref.Slot].owner
		}
	}
	if v.hasENI(e.Node) {
		node := &v.enis[e.Node.Slot]
		f.LoadBalancer, f.Zone, f.NodeAddress = node.owner, node.zone, addrPort(node.addr, e.SourcePort)
	}
	if t := v.target(e.Target); t != nil {
		f.Target = addrPort(t.addr, t.port)
	}
	return f
}
