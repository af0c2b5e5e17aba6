// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Describe what a daemon runs: configuration, ports, endpoints, targets",
		Args:  cobra.NoArgs,
	}
	c := newClient(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.ask(func(daemon apiv1.InspectClient) error {
			s, err := daemon.Status(cmd.Context(), &apiv1.StatusRequest{})
			if err != nil {
				return err
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), s, "  ")
			}
			printStatus(cmd.OutOrStdout(), s)
			return nil
		})
	}
	return cmd
}

// printStatus writes a status for a person: what is wrong first.
func printStatus(w io.Writer, s *apiv1.StatusResponse) {
	fmt.Fprintf(w, "isthmus %s, up %s, revision %d in force\n", s.Version, s.Uptime.AsDuration().Round(time.Second), s.AppliedRevision)
	if s.StateFile != "" {
		fmt.Fprintf(w, "configuration %s\n", s.StateFile)
	}
	if s.Error != "" {
		fmt.Fprintf(w, "REFUSED: revision %d is not in force:\n  %s\n", s.DesiredRevision, strings.ReplaceAll(s.Error, "\n", "\n  "))
	}
	if overrides := testingText(s.Testing); overrides != "" {
		fmt.Fprintf(w, "TESTING: timers are overridden: %s\n", overrides)
	}
	f := s.Flows
	fmt.Fprintf(w, "flows %d of %d; %d opened, %d expired, %d reset by clients, %d by targets, %d by isthmus; %d port allocation errors, %d PROXY headers, %d MSS clamped\n",
		f.GetActive(), f.GetMax(), f.GetNew(), f.GetExpired(), f.GetClientResets(), f.GetTargetResets(), f.GetOwnResets(),
		f.GetPortAllocationErrors(), f.GetHeadersSent(), f.GetMssClamped())
	for _, part := range []struct {
		title string
		rows  int
		print func(io.Writer, *apiv1.StatusResponse)
	}{
		{"Ports", len(s.Ports), printPorts},
		{"Endpoints", len(s.Endpoints), printEndpoints},
		{"Load balancers", len(s.LoadBalancers), printLoadBalancers},
		{"ENIs", len(s.Enis), printENIs},
		{"Targets", len(s.Targets), printTargets},
		{"Workers", len(s.Workers), printWorkers},
	} {
		if part.rows > 0 {
			fmt.Fprintf(w, "\n%s\n", part.title)
			part.print(w, s)
		}
	}
}

// testingText lists the overrides in force.
func testingText(t *statev1.Testing) string {
	var parts []string
	add := func(name string, d *durationpb.Duration) {
		if d != nil {
			parts = append(parts, name+" "+d.AsDuration().String())
		}
	}
	if t != nil {
		add("idle_timeout", t.IdleTimeout)
		add("health_check_interval", t.HealthCheckInterval)
		add("health_check_timeout", t.HealthCheckTimeout)
	}
	return strings.Join(parts, ", ")
}

func printPorts(w io.Writer, s *apiv1.StatusResponse) {
	t := newTable(w, "PORT", "KIND", "VPC", "NETNS", "DEVICE", "STATE", "QUEUES", "OFFLOADS", "RX", "TX", "LOST")
	var notes []string
	for _, p := range s.Ports {
		state := "open"
		if !p.Open {
			state = "CLOSED"
			notes = append(notes, p.Id+": "+p.Error)
		}
		t.row(p.Id, p.Kind, p.VpcId, p.Netns, p.Device, state, p.Queues, strings.Join(p.Offloads, ","),
			p.RxPackets, p.TxPackets, p.TxRefused+p.RxInvalid+p.NeighbourDropped)
		for _, off := range p.OffloadsOff {
			notes = append(notes, p.Id+": offloads off: "+off)
		}
		for _, warning := range p.Warnings {
			notes = append(notes, p.Id+": WARNING: "+warning)
		}
	}
	t.done()
	for _, n := range notes {
		fmt.Fprintln(w, " ", n)
	}
}

func printEndpoints(w io.Writer, s *apiv1.StatusResponse) {
	t := newTable(w, "ENDPOINT", "TYPE", "SERVICE", "VPC", "ADDRESSES")
	for _, e := range s.Endpoints {
		t.row(e.Id, e.Type, e.ServiceId, e.VpcId, strings.Join(e.Addresses, ","))
	}
	t.done()
}

func printLoadBalancers(w io.Writer, s *apiv1.StatusResponse) {
	t := newTable(w, "LOAD BALANCER", "TYPE", "VPC", "CROSS ZONE", "LISTENERS", "MTU")
	for _, lb := range s.LoadBalancers {
		listeners, mtu := strings.Trim(fmt.Sprint(lb.ListenerPorts), "[]"), ""
		if lb.Type == vpc.Gateway.String() {
			listeners, mtu = "all", fmt.Sprint(lb.Mtu)
		}
		t.row(lb.Id, lb.Type, lb.VpcId, lb.CrossZone, listeners, mtu)
	}
	t.done()
}

func printENIs(w io.Writer, s *apiv1.StatusResponse) {
	t := newTable(w, "ENI OF", "ROLE", "VPC", "ZONE", "ADDRESS", "PACKETS IN", "BYTES IN", "PACKETS OUT", "BYTES OUT", "DROPPED")
	for _, e := range s.Enis {
		if e.Role != "probe" {
			t.row(e.Owner, e.Role, e.VpcId, e.ZoneId, e.Address, e.Traffic.GetPacketsIn(), e.Traffic.GetBytesIn(),
				e.Traffic.GetPacketsOut(), e.Traffic.GetBytesOut(), e.Dropped)
		}
	}
	t.done()
}

func printTargets(w io.Writer, s *apiv1.StatusResponse) {
	t := newTable(w, "TARGET", "GROUP", "ZONE", "HEALTH", "FLOWS", "OPENED", "PORT ERRORS", "BYTES OUT", "BYTES IN", "REASON")
	for _, g := range s.Targets {
		health := g.Health
		if g.Draining {
			health += ",draining"
		}
		t.row(g.Address, g.TargetGroupId, g.ZoneId, health, g.ActiveFlows, g.NewFlows, g.PortAllocationErrors,
			g.Traffic.GetBytesOut(), g.Traffic.GetBytesIn(), g.Reason)
	}
	t.done()
}

func printWorkers(w io.Writer, s *apiv1.StatusResponse) {
	t := newTable(w, "WORKER", "TURNS", "BATCHES", "PACKETS", "STRAYS", "SLEEPS")
	for i, k := range s.Workers {
		t.row(i, k.Turns, k.Batches, k.Packets, k.Strays, k.Sleeps)
	}
	t.done()
}
