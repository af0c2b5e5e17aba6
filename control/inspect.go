// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// inspector answers the Inspect service from what the tasks publish. It changes nothing.
type inspector struct {
	apiv1.UnimplementedInspectServer
	daemon *Daemon
}

// Status describes what runs.
func (i inspector) Status(context.Context, *apiv1.StatusRequest) (*apiv1.StatusResponse, error) {
	d := i.daemon
	rep := d.reconcile.report.Load()
	stats := d.engine.Stats()
	out := &apiv1.StatusResponse{
		Version:         d.opts.Version,
		Uptime:          durationpb.New(d.uptime().Truncate(time.Millisecond)),
		StateFile:       d.opts.StateFile,
		AppliedRevision: stats.Revision,
		DesiredRevision: rep.desired,
		Error:           rep.problem,
		Ports:           portStatuses(rep.ports, stats.Ports),
		Flows:           flowCounters(&stats.Flows),
	}
	for j := range stats.ENIs {
		out.Enis = append(out.Enis, eniStatus(&stats.ENIs[j]))
	}
	for j := range stats.Targets {
		t := &stats.Targets[j]
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
	out.Testing = testingToProto(rep.state.Testing)
	for j := range rep.state.LoadBalancers {
		out.LoadBalancers = append(out.LoadBalancers, loadBalancerStatus(&rep.state.LoadBalancers[j]))
	}
	for _, e := range rep.state.Endpoints {
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
func portStatuses(ports []portReport, counters []dataplane.PortStats) []*apiv1.PortStatus {
	byID := make(map[string]*port.Stats, len(counters))
	for i := range counters {
		byID[counters[i].ID] = &counters[i].Stats
	}
	out := make([]*apiv1.PortStatus, len(ports))
	for i, p := range ports {
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
		out[i] = s
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
func (i inspector) Drops(_ context.Context, req *apiv1.DropsRequest) (*apiv1.DropsResponse, error) {
	stats := i.daemon.engine.Stats()
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
			if n > 0 {
				out.Enis = append(out.Enis, &apiv1.ENIDrop{
					Role: e.Role.String(), Owner: e.Owner, VpcId: e.VPC, Address: e.Address.String(),
					Reason: dataplane.Reason(r).String(), Packets: n,
				})
			}
		}
	}
	return out, nil
}
