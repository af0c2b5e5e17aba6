// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// daemonProcess is the name of a lab's daemon among its processes. Those of instances end in a hyphen and a number.
const daemonProcess = "daemon"

// labDaemonCommand is what the daemon of a lab runs as: like any other with an API, but for timers that it overrides.
func labDaemonCommand() *cobra.Command {
	var (
		offloads string
		testing  vpc.Testing
	)
	cmd := &cobra.Command{
		Use:    "daemon DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switches, err := offloadSwitches(offloads)
			if err != nil {
				return err
			}
			api := &control.API{Store: lab.StoreFile(args[0])}
			if testing != (vpc.Testing{}) {
				api.Testing = &testing
			}
			return runDaemon(cmd.Context(), control.Options{
				API: api, Socket: lab.Socket(args[0]), Workers: runtime.GOMAXPROCS(0), Offloads: switches,
				Version: versionText(), Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
			})
		},
	}
	addOffloadsFlag(cmd, &offloads)
	for _, f := range timerFlags(&testing) {
		cmd.Flags().DurationVar(f.value, f.name, 0, "replaces that of the API")
	}
	return cmd
}

// timerFlag is a flag for a timer that is overridden.
type timerFlag struct {
	name  string
	value *time.Duration
}

func timerFlags(t *vpc.Testing) []timerFlag {
	return []timerFlag{
		{"idle-timeout", &t.TCPIdle}, {"health-check-interval", &t.HealthInterval}, {"health-check-timeout", &t.HealthTimeout},
	}
}

// labDaemon is the daemon of the lab of t in dir, as a process that program runs.
func labDaemon(t *lab.Topology, dir, program, offloads string) lab.Process {
	argv := []string{program, "lab", "daemon", "--offloads=" + offloads}
	if o := t.Testing.Overrides(); o != nil {
		for _, f := range timerFlags(o) {
			if *f.value != 0 {
				argv = append(argv, "--"+f.name+"="+f.value.String())
			}
		}
	}
	return lab.Process{Name: daemonProcess, Argv: append(argv, dir)}
}
