// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/pkg/lab"
)

// labCommand is `isthmus lab`: networks in namespaces on this machine to try endpoints in. Its subcommands are in a file
// each, lab_*.go.
func labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Build VPCs, instances and endpoints in namespaces of this machine, and try them",
		Long: "Build VPCs, instances and endpoints in namespaces of this machine, and try them.\n" +
			"Needs root and /dev/net/tun. Nothing is made in the machine's own network namespace.",
		Args: cobra.NoArgs, // what is left is the name of no command
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(labDemoCommand(), labUpCommand(), labStatusCommand(), labExecCommand(), labDownCommand(),
		labServeCommand(), labDaemonCommand())
	return cmd
}

// labServeCommand is what a built-in server of a lab runs as.
func labServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "serve",
		Hidden:             true,
		DisableFlagParsing: true, // the flags are those of lab.ServerOptions
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.ServeInherited(cmd.Context(), args)
		},
	}
}

// openLab finds a lab by its name and names those there are when it does not exist.
func openLab(name string) (dir string, t *lab.Topology, err error) {
	if name == "" || strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return "", nil, fmt.Errorf("%q is not the name of a lab; %s", name, labNames())
	}
	dir = lab.Dir(name)
	if _, err := os.Stat(dir); err != nil {
		return "", nil, fmt.Errorf("there is no lab %q; %s", name, labNames())
	}
	if t, err = lab.Open(dir); err != nil {
		return dir, nil, fmt.Errorf("lab %s is only a part of one: %w (isthmus lab down %s removes it)", name, err, name)
	}
	return dir, t, nil
}

// labNames says which labs there are.
func labNames() string {
	list, err := lab.List(lab.Root)
	if err != nil || len(list) == 0 {
		return "there are none (isthmus lab up FILE builds one)"
	}
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
	}
	return "there are: " + strings.Join(names, ", ")
}

// completeLabs completes the names of labs on the command line.
func completeLabs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	list, _ := lab.List(lab.Root)
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
