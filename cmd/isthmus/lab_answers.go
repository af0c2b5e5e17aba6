// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// door is an address and port of an endpoint.
type door struct {
	endpoint, vpc string
	to            netip.AddrPort
	expected      bool // an instance among the targets runs something that can answer
}

// doors lists the doors of a lab's interface endpoints. Those of other types are no address to connect to.
func doors(t *lab.Topology) []door {
	var list []door
	for _, e := range t.Endpoints {
		if isNextHop(e) {
			continue
		}
		for _, l := range listenersOf(t, e.Service) {
			for _, eni := range e.ENIs {
				to := netip.AddrPortFrom(eni.Address, l.Port)
				list = append(list, door{e.Name, e.VPC, to, anyTargetRuns(t, l.TargetGroup)})
			}
		}
	}
	return list
}

// isNextHop says whether routes lead through an endpoint.
func isNextHop(e lab.Endpoint) bool { return e.Type == vpc.GatewayLoadBalancer.String() }

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

// awaitAnswers waits until a connection opens at every door where one is to be expected. It dials from the router of
// the endpoint's VPC, which is there also when no instance is.
func awaitAnswers(ctx context.Context, t *lab.Topology, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var errs []error
	for _, d := range doors(t) {
		if !d.expected {
			continue
		}
		if err := d.await(ctx, dir); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s does not answer at %s: %w", d.endpoint, d.to, err))
		}
	}
	return errors.Join(errs...)
}

func (d *door) await(ctx context.Context, dir string) error {
	router, err := netns.Open(lab.Netns(dir, d.vpc))
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
