// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/cmd/isthmus/labapi"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/lab"
)

// labStatusCommand is `isthmus lab status`.
func labStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status [NAME]",
		Short:             "List labs, or show one: its nodes, endpoints and processes",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeLabs,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			if len(args) == 0 {
				return printLabs(cmd.Context(), out)
			}
			dir, t, err := openLab(args[0])
			if err != nil {
				return err
			}
			printLab(out, t, dir, lookAt(cmd.Context(), dir))
			return printProcesses(cmd.Context(), out, dir)
		},
	}
}

// printLabs lists all labs.
func printLabs(ctx context.Context, out io.Writer) error {
	list, err := lab.List(lab.Root)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "There are no labs. isthmus lab up FILE builds one.")
		return nil
	}
	rows := newTable(out, "LAB", "VPCS", "INSTANCES", "ENDPOINTS", "DAEMON")
	for _, l := range list {
		if l.Topology == nil {
			rows.row(l.Name, "", "", "", "only a part of a lab is there; isthmus lab down "+l.Name)
			continue
		}
		instances := 0
		for _, v := range l.Topology.VPCs {
			instances += len(v.Instances)
		}
		rows.row(l.Name, len(l.Topology.VPCs), instances, len(l.Topology.Endpoints), daemonWord(ctx, l.Dir))
	}
	rows.done()
	return nil
}

// daemonWord says how the daemon of a lab does.
func daemonWord(ctx context.Context, dir string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	daemon, err := labapi.Dial(lab.Socket(dir))
	if err != nil {
		return err.Error()
	}
	defer daemon.Close()
	status, err := daemon.Inspect.Status(ctx, &apiv1.StatusRequest{})
	switch {
	case err != nil:
		return "does not answer; its log is " + lab.Log(dir, daemonProcess)
	case status.Error != "":
		return "refuses the newest resources: " + strings.ReplaceAll(status.Error, "\n", "; ")
	}
	if err := daemonReady(status); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("runs revision %d; %d connections, health checks included", status.AppliedRevision, status.GetFlows().GetActive())
}

// printLab shows the nodes and endpoints of a lab, with how the daemon says these stand.
func printLab(out io.Writer, t *lab.Topology, dir string, now standing) {
	fmt.Fprintf(out, "Lab %s in %s\n\n", t.Name, dir)
	nodes := newTable(out, "NODE", "VPC", "ACCOUNT", "ZONE", "ADDRESS", "RUNS")
	for _, v := range t.VPCs {
		zones := map[string]string{}
		for _, s := range v.Subnets {
			zones[s.Name] = s.Zone
		}
		nodes.row(v.Name, v.Name, v.Account, "", v.CIDR, "router")
		for _, in := range v.Instances {
			var runs []string
			for _, run := range in.Run {
				runs = append(runs, runWord(run))
			}
			nodes.row(in.Name, v.Name, v.Account, zones[in.Subnet], in.Address, strings.Join(runs, ", "))
		}
	}
	nodes.done()
	fmt.Fprintln(out)
	endpoints := newTable(out, "ENDPOINT", "STATE", "UID", "VPC", "ADDRESSES", "PORTS", "SERVICE")
	for i := range t.Endpoints {
		e := &t.Endpoints[i]
		state, uid := "", ""
		if now := now.of(t, e); now != nil {
			state, uid = now.State.String(), now.UID
		}
		var addresses, ports []string
		for _, eni := range e.ENIs {
			addresses = append(addresses, eni.Address.String())
		}
		for _, l := range listenersOf(t, e.Service) {
			ports = append(ports, strconv.Itoa(int(l.Port)))
		}
		if isNextHop(e) {
			ports = []string{"all, as a next hop"}
		}
		endpoints.row(e.Name, state, uid, e.VPC, strings.Join(addresses, " "), strings.Join(ports, " "), e.Service)
	}
	endpoints.done()
	printRoutes(out, t)
}

// printRoutes shows the route tables of a lab, if it has any.
func printRoutes(out io.Writer, t *lab.Topology) {
	if len(t.RouteTables) == 0 {
		return
	}
	fmt.Fprintln(out)
	rows := newTable(out, "ROUTE TABLE", "VPC", "FOLLOWED BY", "DESTINATION", "VIA")
	for _, r := range t.RouteTables {
		who := strings.Join(r.Subnets, ", ")
		if r.Edge != "" {
			who = strings.TrimPrefix(who+", what enters from the "+r.Edge, ", ")
		}
		for _, route := range r.Routes {
			rows.row(r.Name, r.VPC, who, route.Destination, route.Via)
		}
	}
	rows.done()
}

func runWord(run lab.Run) string {
	switch {
	case run.Appliance != nil && len(run.Appliance.Drop) > 0:
		return fmt.Sprintf("appliance (%s), drops %s", run.Appliance.Mode, strings.Join(run.Appliance.Drop, ", "))
	case run.Appliance != nil:
		return fmt.Sprintf("appliance (%s)", run.Appliance.Mode)
	case len(run.Command) > 0:
		return strings.Join(run.Command, " ")
	case run.ProxyProtocol:
		return fmt.Sprintf("%s on %d behind a PROXY header", run.Server, run.Port)
	}
	return fmt.Sprintf("%s on %d", run.Server, run.Port)
}

// printProcesses shows the processes of a lab.
func printProcesses(ctx context.Context, out io.Writer, dir string) error {
	list, err := lab.Status(dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(out)
	rows := newTable(out, "PROCESS", "PID", "LOG")
	for _, p := range list {
		pid := "ended"
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
		}
		rows.row(p.Name, pid, lab.Log(dir, p.Name))
	}
	rows.done()
	fmt.Fprintf(out, "\nThe daemon %s.\n", daemonWord(ctx, dir))
	return nil
}

// printNext says what can be typed now.
func printNext(out io.Writer, t *lab.Topology, dir string) {
	fmt.Fprint(out, "\nNext:\n")
	if command := tryCommand(t); command != "" {
		fmt.Fprintf(out, "  isthmus lab exec %s\n", command)
	}
	fmt.Fprintf(out, "  isthmus get endpoints --socket %[1]s\n  isthmus status --socket %[1]s\n  isthmus lab status %[2]s\n  isthmus lab down %[2]s\n",
		lab.Socket(dir), t.Name)
}

// tryCommand is something to run in a lab: a request to an endpoint from an instance beside it, if there is one.
func tryCommand(t *lab.Topology) string {
	for _, d := range doors(t) {
		for _, v := range t.VPCs {
			if v.Name != d.endpoint.VPC || len(v.Instances) == 0 {
				continue
			}
			node := t.Name + "/" + v.Instances[0].Name
			if _, err := exec.LookPath("curl"); err == nil && d.to.Port() == 80 {
				return fmt.Sprintf("%s -- curl http://%s/", node, d.endpoint.Name)
			}
			return fmt.Sprintf("%s -- cat /etc/hosts", node)
		}
	}
	return tryRoute(t)
}

// tryRoute is something to run in a lab whose endpoints are next hops: a request to the internet of a VPC from inside.
func tryRoute(t *lab.Topology) string {
	for _, v := range t.VPCs {
		var inside, outside string
		for _, in := range v.Instances {
			switch {
			case in.Subnet != lab.Internet:
				inside = in.Name
			case runsHTTP(in):
				outside = in.Name
			}
		}
		if _, err := exec.LookPath("curl"); err == nil && inside != "" && outside != "" {
			return fmt.Sprintf("%s/%s -- curl http://%s/", t.Name, inside, outside)
		}
	}
	return ""
}

// runsHTTP says whether an instance answers HTTP on the usual port.
func runsHTTP(in lab.Instance) bool {
	for _, run := range in.Run {
		if run.Server == lab.HTTP && run.Port == 80 {
			return true
		}
	}
	return false
}
