// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// door is an address and port of an endpoint.
type door struct {
	endpoint *lab.Endpoint
	to       netip.AddrPort
	expected bool // an instance among the targets runs something that can answer
}

// doors lists the doors of a lab's interface endpoints. Those of other types are no address to connect to.
func doors(t *lab.Topology) []door {
	var list []door
	for i := range t.Endpoints {
		e := &t.Endpoints[i]
		if isNextHop(e) {
			continue
		}
		for _, l := range listenersOf(t, e.Service) {
			for _, eni := range e.ENIs {
				list = append(list, door{e, netip.AddrPortFrom(eni.Address, l.Port), anyTargetRuns(t, l.TargetGroup)})
			}
		}
	}
	return list
}

// isNextHop says whether routes lead through an endpoint.
func isNextHop(e *lab.Endpoint) bool { return e.Type == vpc.GatewayLoadBalancer.String() }

// listenersOf lists the listeners behind a service.
func listenersOf(t *lab.Topology, service string) (list []lab.Listener) {
	balancers := map[string]bool{}
	for _, s := range t.Services {
		for _, name := range s.LoadBalancers {
			balancers[name] = balancers[name] || s.Name == service
		}
	}
	for _, lb := range t.LoadBalancers {
		if balancers[lb.Name] {
			list = append(list, lb.Listeners...)
		}
	}
	return list
}

// anyTargetRuns says whether an instance of a target group runs something.
func anyTargetRuns(t *lab.Topology, group string) bool {
	members := map[string]bool{}
	for _, g := range t.TargetGroups {
		for _, target := range g.Targets {
			members[target.Instance] = members[target.Instance] || g.Name == group
		}
	}
	for _, v := range t.VPCs {
		for _, in := range v.Instances {
			if members[in.Name] && len(in.Run) > 0 {
				return true
			}
		}
	}
	return false
}

// standing is how the endpoints of a lab stand. It is empty when the daemon does not say.
type standing map[resource.Key]*resource.Endpoint

// lookAt asks the daemon of a lab how its endpoints stand.
func lookAt(ctx context.Context, dir string) standing {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	daemon, err := labapi.Dial(lab.Socket(dir))
	if err != nil {
		return nil
	}
	defer daemon.Close()
	all, err := daemon.Everything(ctx)
	if err != nil {
		return nil
	}
	out := standing{}
	for _, m := range all.Endpoints {
		r, err := codec.Decode(m, codec.DecodeOptions{Outputs: true})
		if e, ok := r.(*resource.Endpoint); ok && err == nil {
			out[e.Key] = e
		}
	}
	return out
}

// of is an endpoint of a topology; nil if there is nothing to know of it.
func (s standing) of(t *lab.Topology, e *lab.Endpoint) *resource.Endpoint {
	for _, v := range t.VPCs {
		if v.Name == e.VPC {
			return s[resource.Key{Kind: resource.KindEndpoint, Account: v.Account, ID: e.Name}]
		}
	}
	return nil
}

// awaitAnswers waits until a connection opens at every door where one is to be expected: not where an endpoint waits to be
// accepted, or was rejected. It dials from the router of the endpoint's VPC, which is there also when no instance is.
func awaitAnswers(ctx context.Context, t *lab.Topology, dir string, now standing) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var errs []error
	for _, d := range doors(t) {
		e := now.of(t, d.endpoint)
		if !d.expected || e == nil || e.State != resource.Pending && e.State != resource.Available {
			continue
		}
		if err := d.await(ctx, dir); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s does not answer at %s: %w", e.ID, d.to, err))
		}
	}
	return errors.Join(errs...)
}

func (d *door) await(ctx context.Context, dir string) error {
	router, err := netns.Open(lab.Netns(dir, d.endpoint.VPC))
	if err != nil {
		return err
	}
	defer router.Close()
	for {
		conn, err := netns.Dial(ctx, router, "tcp4", d.to.String())
		if err == nil {
			return conn.Close()
		}
		if pause(ctx, lookInterval) != nil {
			return err
		}
	}
}
