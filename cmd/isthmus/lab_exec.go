// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// labExecCommand is `isthmus lab exec`.
func labExecCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec NAME/NODE -- COMMAND...",
		Short: "Run a command in a node of a lab",
		Long: "Run a command in a node of a lab: in its network namespace, where /etc/hosts has the names of instances and\n" +
			"endpoints. The exit status is the command's.",
		Example:           "  isthmus lab exec two-zones/alice -- curl http://api/",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] == "--" {
				args = slices.Delete(args, 1, 2)
			}
			if len(args) < 2 {
				return fmt.Errorf("no command to run in %s; write it behind --", args[0])
			}
			name, node, ok := strings.Cut(args[0], "/")
			if !ok {
				return fmt.Errorf("%q names no node; write %s/NODE", args[0], args[0])
			}
			dir, _, err := openLab(name)
			if err != nil {
				return err
			}
			run := exec.Command(args[1], args[2:]...)
			run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return runForeground(run, func() error { return lab.Start(run, dir, node) }, unix.SIGTERM, unix.SIGHUP)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the node is the command's, flags too
	return cmd
}

// completeNodes completes NAME/NODE on the command line.
func completeNodes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	list, _ := lab.List(lab.Root)
	for _, l := range list {
		if l.Topology == nil {
			continue
		}
		for _, v := range l.Topology.VPCs {
			names = append(names, l.Name+"/"+v.Name)
			for _, in := range v.Instances {
				names = append(names, l.Name+"/"+in.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
