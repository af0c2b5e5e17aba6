// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// inspector answers the Inspect service from what the tasks publish. It changes nothing.
type inspector struct {
	apiv1.UnimplementedInspectServer
	daemon *Daemon
	// visible says of the owners of ENIs, by id, and of target groups and ports, which the caller may see; nil: everything.
	visible func(context.Context) func(id string) bool
}

// sees is visible for one call.
func (i inspector) sees(ctx context.Context) func(id string) bool {
	if i.visible == nil {
		return func(string) bool { return true }
	}
	return i.visible(ctx)
}

// Status describes what runs.
func (i inspector) Status(ctx context.Context, _ *apiv1.StatusRequest) (*apiv1.StatusResponse, error) {
	d, sees := i.daemon, i.sees(ctx)
	rep := d.reconcile.report.Load()
	stats := d.engine.Stats()
	out := &apiv1.StatusResponse{
		Version:         d.opts.Version,
		Uptime:          durationpb.New(d.uptime().Truncate(time.Millisecond)),
		StateFile:       d.opts.StateFile,
		AppliedRevision: stats.Revision,
		DesiredRevision: rep.desired,
		Error:           rep.problem,
		Ports:           portStatuses(rep.ports, stats.Ports, sees),
		Flows:           flowCounters(&stats.Flows),
	}
	for j := range stats.ENIs {
		if sees(stats.ENIs[j].Owner) {
			out.Enis = append(out.Enis, eniStatus(&stats.ENIs[j]))
		}
	}
	for j := range stats.Targets {
		t := &stats.Targets[j]
		if !sees(t.Group) {
			continue
		}
		s := targetStatus(t)
		s.Reason = d.health.problem(t.TargetID)
		out.Targets = append(out.Targets, s)
	}
	for _, w := range stats.Workers {
		out.Workers = append(out.Workers, &apiv1.WorkerStatus{
			Turns: w.Turns, Batches: w.Batches, Packets: w.Packets, Strays: w.Strays, Sleeps: w.Sleeps,
		})
	}
	if rep.state == nil {
		return out, nil
	}
	out.Testing = codec.EncodeTesting(rep.state.Testing)
	for j := range rep.state.LoadBalancers {
		if lb := &rep.state.LoadBalancers[j]; sees(lb.ID) {
			out.LoadBalancers = append(out.LoadBalancers, loadBalancerStatus(lb))
		}
	}
	for _, e := range rep.state.Endpoints {
		if !sees(e.ID) {
			continue
		}
		s := &apiv1.EndpointStatus{Id: e.ID, Type: e.Type.String(), ServiceId: e.Service, VpcId: e.VPC}
		for _, eni := range e.ENIs {
			s.Addresses = append(s.Addresses, eni.Address.String())
		}
		out.Endpoints = append(out.Endpoints, s)
	}
	return out, nil
}

func loadBalancerStatus(lb *vpc.LoadBalancer) *apiv1.LoadBalancerStatus {
	s := &apiv1.LoadBalancerStatus{Id: lb.ID, Type: lb.Type.String(), VpcId: lb.VPC, CrossZone: lb.CrossZone}
	if lb.Type == vpc.Gateway {
		s.Mtu = uint32(cmp.Or(lb.MTU, vpc.MaxGatewayMTU))
		return s
	}
	for _, l := range lb.Listeners {
		s.ListenerPorts = append(s.ListenerPorts, uint32(l.Port))
	}
	return s
}

// portStatuses joins what the reconciler knows of ports with their counters.
func portStatuses(ports []portReport, counters []dataplane.PortStats, sees func(id string) bool) []*apiv1.PortStatus {
	byID := make(map[string]*port.Stats, len(counters))
	for i := range counters {
		byID[counters[i].ID] = &counters[i].Stats
	}
	out := make([]*apiv1.PortStatus, 0, len(ports))
	for _, p := range ports {
		if !sees(p.spec.ID) {
			continue
		}
		s := &apiv1.PortStatus{
			Id:     p.spec.ID,
			VpcId:  p.spec.VPC,
			Netns:  p.spec.Netns,
			Device: p.spec.Device,
			Kind:   p.spec.Kind.String(),
			Open:   p.open,
			Error:  p.problem,
			Queues: uint32(p.queues),

			Warnings: p.warnings,
		}
		if p.open {
			s.Offloads, s.OffloadsOff = offloadNames(p.offloads), p.offloads.Reasons
		}
		if c := byID[p.spec.ID]; c != nil {
			s.RxPackets, s.RxBytes, s.RxInvalid = c.RxPackets, c.RxBytes, c.RxInvalid
			s.TxPackets, s.TxBytes, s.TxRefused = c.TxPackets, c.TxBytes, c.TxRefused
			s.NeighbourDropped, s.Segmented = c.NeighbourDropped, c.Segmented
		}
		out = append(out, s)
	}
	return out
}

// offloadNames lists the offloads that are on.
func offloadNames(o port.Offloads) (names []string) {
	for _, f := range []struct {
		on   bool
		name string
	}{{o.Csum, "checksum"}, {o.TSO, "tso"}, {o.USO, "uso"}} {
		if f.on {
			names = append(names, f.name)
		}
	}
	return names
}

func traffic(t dataplane.Traffic) *apiv1.Traffic {
	return &apiv1.Traffic{PacketsIn: t.PacketsIn, BytesIn: t.BytesIn, PacketsOut: t.PacketsOut, BytesOut: t.BytesOut}
}

func eniStatus(e *dataplane.ENIStats) *apiv1.ENIStatus {
	s := &apiv1.ENIStatus{
		Role: e.Role.String(), Owner: e.Owner, VpcId: e.VPC, ZoneId: e.Zone, Address: e.Address.String(), Traffic: traffic(e.Traffic),
	}
	for _, n := range e.Drops {
		s.Dropped += n
	}
	return s
}

func targetStatus(t *dataplane.TargetStats) *apiv1.TargetStatus {
	return &apiv1.TargetStatus{
		TargetGroupId:        t.Group,
		Address:              t.Address.String(),
		ZoneId:               t.Zone,
		Health:               t.Health.String(),
		Draining:             t.Draining,
		ActiveFlows:          t.ActiveFlows,
		NewFlows:             t.NewFlows,
		PortAllocationErrors: t.PortAllocationErrors,
		Traffic:              traffic(t.Traffic),
	}
}

func flowCounters(f *dataplane.FlowStats) *apiv1.FlowCounters {
	return &apiv1.FlowCounters{
		Active:               f.Active,
		Max:                  f.Max,
		New:                  f.New,
		Expired:              f.Expired,
		ClientResets:         f.ClientResets,
		TargetResets:         f.TargetResets,
		OwnResets:            f.OwnResets,
		PortAllocationErrors: f.PortAllocationErrors,
		HeadersSent:          f.HeadersSent,
		MssClamped:           f.MSSClamped,
	}
}

// Drops counts packets by the reason why they went no further.
func (i inspector) Drops(ctx context.Context, req *apiv1.DropsRequest) (*apiv1.DropsResponse, error) {
	stats, sees := i.daemon.engine.Stats(), i.sees(ctx)
	out := &apiv1.DropsResponse{}
	for r, n := range stats.Drops {
		reason := dataplane.Reason(r)
		out.Drops = append(out.Drops, &apiv1.Drop{Reason: reason.String(), Sentence: reason.Sentence(), Packets: n})
	}
	if !req.ByEni {
		return out, nil
	}
	for j := range stats.ENIs {
		e := &stats.ENIs[j]
		for r, n := range e.Drops {
			if n > 0 && sees(e.Owner) {
				out.Enis = append(out.Enis, &apiv1.ENIDrop{
					Role: e.Role.String(), Owner: e.Owner, VpcId: e.VPC, Address: e.Address.String(),
					Reason: dataplane.Reason(r).String(), Packets: n,
				})
			}
		}
	}
	return out, nil
}
