// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Command isthmus is the whole product in one binary: the daemon, and the commands that look into it.
//
// It exits with 0 when the command succeeded, 1 when it failed, 2 when it was called wrongly, and 3 when no daemon
// answers on the socket. What runs other programs (lab exec) exits as they do.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNoDaemon
)

// version is set by the linker; without it, the version that the Go command recorded counts.
var version string

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "isthmus",
		Short:         "A self-hosted PrivateLink: interface and Gateway Load Balancer endpoints on TUN and TAP devices",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	// What fails before a command runs is a mistake in its line.
	began := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := cmd.ValidateRequiredFlags()
		began = err == nil
		return err
	}
	root.AddCommand(
		daemonCommand(),
		statusCommand(),
		flowsCommand(),
		dropsCommand(),
		labCommand(),
		applianceCommand(),
		benchCommand(),
		versionCommand(),
	)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	var said exitStatus
	if errors.As(err, &said) {
		return int(said)
	}
	fmt.Fprintln(stderr, "isthmus:", err)
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case !began:
		fmt.Fprintf(stderr, "Try: %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// versionText is the version of this binary.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "isthmus %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
