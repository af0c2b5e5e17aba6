// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/bench"
)

// benchCommand is `isthmus bench`: run, and the hidden command its child processes are.
func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Compare the dataplane with a bare copier, the kernel's NAT and VXLAN, and HAProxy on this machine",
		Args:  cobra.NoArgs, // what is left is the name of no command
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchRunCommand(), benchHelperCommand())
	return cmd
}

func benchRunCommand() *cobra.Command {
	var (
		out string
		cfg bench.Config
	)
	cmd := &cobra.Command{
		Use:   "run --out DIR",
		Short: "Run scenarios on systems, print a table and write DIR/report.json",
		Long: "Run scenarios on systems, in namespaces of their own, print a table and write DIR/report.json.\n" +
			"Scenarios whose names begin with gwlb are of a GWLB endpoint, the others of an interface endpoint; a system runs\n" +
			"in those that it takes part in. Needs root and /dev/net/tun. bench/README.md has the method.\n\n" +
			"Systems:   " + strings.Join(bench.SystemNames(), ", ") + "\n" +
			"Scenarios: " + strings.Join(bench.ScenarioNames(), ", "),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true // what fails from here on is no matter of usage
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			cfg.Progress = cmd.ErrOrStderr()
			report, err := bench.Run(ctx, cfg)
			if report == nil {
				return err
			}
			return errors.Join(report.Write(out), report.WriteTable(cmd.OutOrStdout()), err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "directory of report.json, made if it is not there")
	flags.StringSliceVar(&cfg.Systems, "systems", nil, "systems to run (all)")
	flags.StringSliceVar(&cfg.Scenarios, "scenarios", nil, "scenarios to run (all)")
	flags.IntVar(&cfg.Rounds, "rounds", 5, "rounds of each system in each scenario")
	flags.DurationVar(&cfg.Duration, "duration", 3*time.Second, "what is measured of a round, after the warm-up")
	flags.IntVar(&cfg.Workers, "workers", 1, "workers of isthmus and of null")
	flags.BoolVar(&cfg.Pin, "pin", true, "pin each of those workers to a processor")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // no such flag: a mistake in the lines above
	}
	return cmd
}

func benchHelperCommand() *cobra.Command {
	return &cobra.Command{
		Use:          "helper ROLE SPECIFICATION",
		Hidden:       true,
		Args:         cobra.ExactArgs(2),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return bench.Helper(args[0], args[1], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
