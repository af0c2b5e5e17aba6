// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"net/netip"

	"github.com/isthmus-net/isthmus/dataplane/flow"
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

// Flows calls each for the flows that are open, until it returns false. The workers are asked for some entries at a time,
// so that a long table stops nobody; flows that open or close meanwhile may be seen or not.
func (e *Engine) Flows(ctx context.Context, each func(FlowInfo) bool) error {
	next := make([]uint32, len(e.workers))
	done := make([]bool, len(e.workers))
	for {
		got := make([][]FlowInfo, len(e.workers))
		err := e.do(ctx, func(w *worker) {
			if !done[w.id] {
				next[w.id], done[w.id] = w.flows.Walk(next[w.id], flowChunk, func(_ flow.Handle, f *flow.Entry) {
					got[w.id] = append(got[w.id], w.describe(f))
				})
			}
		})
		if err != nil {
			return err
		}
		finished := true
		for i, infos := range got {
			finished = finished && done[i]
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

// describe resolves what an entry names by slot.
func (w *worker) describe(e *flow.Entry) FlowInfo {
	at := func(a [16]byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
	}
	f := FlowInfo{Worker: w.id, Client: at(e.Client, e.ClientPort), Target: at(e.Target, e.TargetPort), State: e.State,
		Proxy: e.Flags&flow.Proxy != 0, Idle: flow.Elapsed(w.now, e.Seen), BytesOut: e.BytesOut, BytesIn: e.BytesIn}
	if v := w.view; v.hasENI(e.Endpoint) && v.hasENI(e.Node) {
		n := &v.enis[e.Endpoint.Slot]
		if n.role == RoleEndpoint {
			f.Endpoint = n.owner
		}
		f.Zone, f.EndpointAddress = n.zone, at(n.addr, e.ListenerPort)
		node := &v.enis[e.Node.Slot]
		f.LoadBalancer, f.NodeAddress = node.owner, at(node.addr, e.NATPort)
	}
	return f
}
