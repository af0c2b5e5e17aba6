// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

func registerCommand() *cobra.Command {
	cmd, zone := targetsCommand("register", "Add targets to a target group",
		func(ctx context.Context, c *caller, name string, targets []*apiv1.Target, id string) (*apiv1.TargetGroup, error) {
			return apiv1.NewLoadBalancingClient(c.conn).RegisterTargets(ctx, &apiv1.RegisterTargetsRequest{Name: name, Targets: targets, RequestId: id})
		})
	cmd.Long = cmd.Short + ". One that drains is registered again."
	cmd.Flags().StringVar(zone, "zone", "", "`zone id` of targets that name none")
	return cmd
}

func deregisterCommand() *cobra.Command {
	cmd, _ := targetsCommand("deregister", "Take targets out of a target group",
		func(ctx context.Context, c *caller, name string, targets []*apiv1.Target, id string) (*apiv1.TargetGroup, error) {
			return apiv1.NewLoadBalancingClient(c.conn).DeregisterTargets(ctx, &apiv1.DeregisterTargetsRequest{Name: name, Targets: targets, RequestId: id})
		})
	cmd.Long = cmd.Short + ". They get no new connections, and keep those they have for the deregistration delay."
	return cmd
}

func targetsCommand(word, short string,
	call func(context.Context, *caller, string, []*apiv1.Target, string) (*apiv1.TargetGroup, error),
) (*cobra.Command, *string) {
	cmd := &cobra.Command{
		Use:     word + " TARGET_GROUP ADDRESS[:PORT][,ZONE_ID]...",
		Short:   short,
		Example: "  isthmus " + word + " web 10.0.1.5:8080,use1-az1 --wait",
		Args:    cobra.MinimumNArgs(2),
	}
	zone := new(string)
	a := newAPI(cmd, formTable, formWide, formYAML, formJSON)
	h, w := changeFlags(cmd, false), waitFlag(cmd)
	group, _ := kindNamed("target-group")
	cmd.ValidArgsFunction = completeNames(a, group)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		targets, err := parseTargets(args[1:], *zone)
		if err != nil {
			return err
		}
		return a.call(func(c *caller) error {
			g, err := call(cmd.Context(), c, c.name(ref{group, args[0]}), targets, h.requestID)
			if err != nil {
				return err
			}
			o, err := w.object(cmd.Context(), c, g)
			if o == nil {
				return err
			}
			return cmp.Or(err, a.show(cmd, []object{o}, true))
		}, nil)
	}
	return cmd, zone
}

// parseTargets understands ADDRESS[:PORT][,ZONE_ID].
func parseTargets(args []string, zone string) ([]*apiv1.Target, error) {
	targets := make([]*apiv1.Target, len(args))
	for i, arg := range args {
		place, of, zoned := strings.Cut(arg, ",")
		if !zoned {
			of = zone
		}
		t := &apiv1.Target{ZoneId: of}
		address, port, err := splitPort(place)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("%q is not ADDRESS, ADDRESS:PORT or ADDRESS:PORT,ZONE_ID", arg)}
		}
		t.Address, t.Port = address.String(), port
		targets[i] = t
	}
	return targets, nil
}

// splitPort is an address with a port or, 0, without one.
func splitPort(s string) (netip.Addr, uint32, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, 0, nil
	}
	host, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	a, err := netip.ParseAddr(host)
	return a, uint32(n), err
}
