// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/doctor"
)

// Exit codes of doctor, for scripts. A wrong command line is told from what could not be looked at by its message.
const (
	exitFindings = exitStatus(1)
	exitUnseen   = exitStatus(2)
)

func doctorCommand() *cobra.Command {
	var opts doctor.Options
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what keeps Isthmus from working well here, and the commands that mend it",
		Long: `Find what keeps Isthmus from working well here, and the commands that mend it.

Doctor looks at the kernel (devices, queues, offloads, steering), at privileges and limits, at the socket and the store. If
a daemon listens, what is around its ports is looked at by the daemon, which knows what they are for. With --netns doctor
looks at a namespace without a daemon. It changes nothing.

It exits with 0 when nothing was found, 1 when something was, and 2 when nothing was, but some could not be looked at: as
root more can.`,
		Example: `  isthmus doctor
  isthmus doctor --netns /run/netns/web -o json
  isthmus doctor --netns /run/netns/router --gateway`,
		Args: cobra.NoArgs,
	}
	c := newClient(cmd)
	f := cmd.Flags()
	f.StringVar(&opts.Store, "store", defaultStore, "`file` of the daemon's store; \"memory\" looks at none")
	f.StringArrayVar(&opts.Netns, "netns", nil, "`path` of a namespace to look at; may be repeated")
	f.BoolVar(&opts.Gateway, "gateway", false, "the namespaces of --netns have their traffic inspected, or lead to appliances")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.Gateway && len(opts.Netns) == 0 {
			return &exitError{exitUsage, errors.New("--gateway is about the namespaces of --netns; name one")}
		}
		if opts.Store == "memory" {
			opts.Store = ""
		}
		if c.address == "" {
			opts.Socket, opts.Expected = c.socket, f.Changed("socket")
		}
		report, daemon := doctor.Examine(opts)
		if daemon || c.address != "" {
			if err := askPorts(cmd, c, report); err != nil {
				report.Limits = append(report.Limits, doctor.Limit{Check: "ports", Why: err.Error()})
			}
		}
		if err := printReport(cmd.OutOrStdout(), report, c.json()); err != nil {
			return err
		}
		return examined(report)
	}
	return cmd
}

// examined is the exit status of a report.
func examined(r *doctor.Report) error {
	switch {
	case len(r.Findings) > 0:
		return exitFindings
	case len(r.Limits) > 0:
		return exitUnseen
	}
	return nil
}

// askPorts adds what the daemon says of its ports, and whether it runs what it was told to.
func askPorts(cmd *cobra.Command, c *client, report *doctor.Report) error {
	return c.ask(func(daemon apiv1.InspectClient) error {
		s, err := daemon.Status(cmd.Context(), &apiv1.StatusRequest{})
		if err != nil {
			return err
		}
		ports := make([]doctor.Port, 0, len(s.Ports))
		for _, p := range s.Ports {
			ports = append(ports, doctor.Port{
				ID: p.Id, Netns: p.Netns, Device: p.Device, Open: p.Open, Problem: p.Error, Warnings: p.Warnings,
			})
		}
		report.Ports(ports)
		if s.Error != "" {
			report.Refused(s.DesiredRevision, s.Error)
		}
		return nil
	})
}

// printReport writes findings as a table, each with its command in a line of its own.
func printReport(w io.Writer, r *doctor.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("writing JSON: %w", err)
		}
		return nil
	}
	var b strings.Builder
	wide := len("CHECK")
	for _, f := range r.Findings {
		wide = max(wide, len(f.Check))
	}
	if len(r.Findings) > 0 {
		fmt.Fprintf(&b, "%-8s  %-*s  FINDING\n", "SEVERITY", wide, "CHECK")
	}
	indent := "\n" + strings.Repeat(" ", 8+2+wide+2)
	for _, f := range r.Findings {
		fault := f.Fault
		if f.Where != "" && !strings.Contains(fault, f.Where) {
			fault = f.Where + ": " + fault
		}
		fmt.Fprintf(&b, "%-8s  %-*s  %s", f.Severity, wide, f.Check, strings.ReplaceAll(fault, "\n", indent))
		if f.Mend != "" {
			fmt.Fprintf(&b, "%smend it with: %s", indent, f.Mend)
		}
		b.WriteByte('\n')
	}
	for _, l := range r.Limits {
		fmt.Fprintf(&b, "not looked at: %s: %s\n", l.Check, l.Why)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(&b, "nothing to mend in what was looked at: %s\n", strings.Join(r.Checked, ", "))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
