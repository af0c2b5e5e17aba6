// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

const (
	// shownFlows is how many connections are shown of an endpoint, and countedFlows how many are counted.
	shownFlows   = 10
	countedFlows = 10000
)

// story tells what the daemon knows of a resource beside what that says of itself.
type story struct {
	ctx    context.Context
	w      io.Writer
	caller *caller
	live   *apiv1.StatusResponse
}

// status is what runs now; asked for once.
func (s *story) status() (*apiv1.StatusResponse, error) {
	if s.live == nil {
		live, err := s.caller.inspect().Status(s.ctx, &apiv1.StatusRequest{})
		if err != nil {
			return nil, err
		}
		s.live = live
	}
	return s.live, nil
}

// section begins a table below a title.
func (s *story) section(title string, columns ...any) table {
	fmt.Fprintf(s.w, "\n%s\n", title)
	return newTable(s.w, columns...)
}

// sentence is a section without a table.
func (s *story) sentence(title, format string, args ...any) {
	fmt.Fprintf(s.w, "\n%s\n  %s\n", title, fmt.Sprintf(format, args...))
}

// endpoint tells whose service it leads to, by which nodes and targets, and what passes.
func (s *story) endpoint(e *apiv1.Endpoint) error {
	if err := s.offer(e); err != nil {
		return err
	}
	if err := s.behind(e); err != nil {
		return err
	}
	if err := s.traffic(e.Metadata.GetUid()); err != nil {
		return err
	}
	if err := s.flows(e.Metadata.GetUid()); err != nil {
		return err
	}
	return s.drops(e.Metadata.GetUid())
}

// offer tells what a consumer may know of the service.
func (s *story) offer(e *apiv1.Endpoint) error {
	offers, err := s.caller.offers(s.ctx, "accounts/"+accountOf(e.Name), e.ServiceName)
	if err != nil {
		return err
	}
	if len(offers) == 0 {
		s.sentence("Service", "%s is not there, or its provider does not allow this account any more", e.ServiceName)
		return nil
	}
	t := s.section("Service", "OWNER", "TYPE", "ACCEPTANCE", "COMMON ZONES")
	t.row(offers[0].Owner, enumText(offers[0].Type), offers[0].AcceptanceRequired, strings.Join(offers[0].ZoneIds, ","))
	t.done()
	return nil
}

// behind tells of the load balancers in the endpoint's zones and their targets, which only the provider and operators see.
func (s *story) behind(e *apiv1.Endpoint) error {
	service, err := s.serviceOf(e)
	if err != nil {
		return err
	}
	if service == nil {
		s.sentence("Nodes and targets", "are the provider's to see")
		return nil
	}
	var zones []string
	for _, eni := range e.Enis {
		zones = append(zones, eni.ZoneId)
	}
	var groups []*apiv1.TargetGroup
	nodes := s.section("Nodes", "LOAD BALANCER", "ZONE", "ADDRESS", "CROSS ZONE", "LISTENERS")
	for _, name := range service.LoadBalancers {
		balancer, err := s.lookup("load-balancer", name)
		if err != nil {
			return err
		}
		lb, ok := balancer.(*apiv1.LoadBalancer)
		if !ok || !nodesIn(nodes, lb, zones) {
			continue
		}
		for _, l := range lb.Listeners {
			if group, err := s.lookup("target-group", l.TargetGroup); err != nil {
				return err
			} else if g, ok := group.(*apiv1.TargetGroup); ok {
				groups = append(groups, g)
			}
		}
	}
	nodes.done()
	return s.targets("Targets", groups...)
}

// nodesIn writes the nodes of a load balancer that are in some zones, and says whether there are any.
func nodesIn(t table, lb *apiv1.LoadBalancer, zones []string) (any bool) {
	var ports []string
	for _, l := range lb.Listeners {
		if l.Port == 0 {
			ports = append(ports, "all to "+idOf(l.TargetGroup))
			continue
		}
		ports = append(ports, fmt.Sprintf("%d to %s", l.Port, idOf(l.TargetGroup)))
	}
	for _, n := range lb.Nodes {
		if slices.Contains(zones, n.ZoneId) {
			t.row(idOf(lb.Name), n.ZoneId, n.Address, lb.CrossZone, strings.Join(ports, ", "))
			any = true
		}
	}
	return any
}

// serviceOf is the service of an endpoint, nil where the caller may not see it.
func (s *story) serviceOf(e *apiv1.Endpoint) (*apiv1.EndpointService, error) {
	k, err := kindNamed("endpoint-service")
	if err != nil {
		return nil, err
	}
	list, err := s.caller.list(s.ctx, k, "accounts/"+everyAccount)
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		if service := o.(*apiv1.EndpointService); service.ServiceName == e.ServiceName {
			return service, nil
		}
	}
	return nil, nil
}

// lookup is a resource of a kind, nil if it has gone meanwhile.
func (s *story) lookup(word, name string) (object, error) {
	k, err := kindNamed(word)
	if err != nil {
		return nil, err
	}
	o, err := s.caller.get(s.ctx, ref{k, name})
	if status.Code(err) == codes.NotFound {
		return nil, nil
	}
	return o, err
}

// service tells of its endpoints.
func (s *story) service(e *apiv1.EndpointService) error {
	list, err := s.caller.connections(s.ctx, e.Name)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		s.sentence("Connections", "none")
		return nil
	}
	fmt.Fprintf(s.w, "\nConnections\n")
	printConnections(s.w, list)
	return nil
}

// loadBalancer tells what passes through its nodes, and where to.
func (s *story) loadBalancer(lb *apiv1.LoadBalancer) error {
	var groups []*apiv1.TargetGroup
	for _, l := range lb.Listeners {
		o, err := s.lookup("target-group", l.TargetGroup)
		if err != nil {
			return err
		}
		if g, ok := o.(*apiv1.TargetGroup); ok {
			groups = append(groups, g)
		}
	}
	if err := s.targets("Targets", groups...); err != nil {
		return err
	}
	if err := s.traffic(lb.Metadata.GetUid()); err != nil {
		return err
	}
	return s.drops(lb.Metadata.GetUid())
}

// targetGroup tells what its targets have to do.
func (s *story) targetGroup(g *apiv1.TargetGroup) error { return s.targets("Traffic", g) }

// attachment tells of the device.
func (s *story) attachment(a *apiv1.Attachment) error {
	live, err := s.status()
	if err != nil {
		return err
	}
	for _, p := range live.Ports {
		if p.Id == a.Metadata.GetUid() {
			fmt.Fprintf(s.w, "\nDevice\n")
			printPorts(s.w, &apiv1.StatusResponse{Ports: []*apiv1.PortStatus{p}})
			return nil
		}
	}
	s.sentence("Device", "none: no interface endpoint or node is in the subnet, or the dataplane does not run it yet")
	return nil
}
