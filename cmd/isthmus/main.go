// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Command isthmus is the whole product in one binary: the daemon, and the commands that look into it.
//
// Its exit codes are what "isthmus help exit-codes" says. What runs other programs (lab exec) exits as they do.
//
//	main.go             the commands there are, and their exit codes
//	daemon.go           the daemon
//	client.go           connections to daemons (client_error.go: what daemons say in place of an answer)
//	status.go, flows.go, drops.go   the commands that look into a daemon
//	api.go              what the commands about resources have in common (kind.go: the kinds; call.go: their methods;
//	                    columns.go: tables; complete.go: words for shells; wait.go: --wait; manifest.go: files)
//	get.go, create.go, update.go, ...   the commands about resources, a file each (fieldflags.go, edits.go: fields by flags;
//	                    story.go: what describe tells)
//	lab.go, ...         labs
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

// Exit codes; exitCodesCommand explains them.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNoDaemon
	exitInvalid
	exitNotFound
	exitConflict
	exitDenied
	exitNotApplied
	exitDifferent
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
	addCommands(root)
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

// addCommands adds all commands, in groups.
func addCommands(root *cobra.Command) {
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Resources:", []*cobra.Command{
			applyCommand(), diffCommand(), getCommand(), describeCommand(), createCommand(), updateCommand(), deleteCommand(), watchCommand(),
			registerCommand(), deregisterCommand(), exportCommand(), importCommand(),
		}},
		{"Providers and consumers:", []*cobra.Command{connectionsCommand(), acceptCommand(), rejectCommand(), offersCommand(), whoamiCommand()}},
		{"The daemon, and what it runs:", []*cobra.Command{daemonCommand(), statusCommand(), flowsCommand(), dropsCommand(), doctorCommand()}},
		{"Trying it out:", []*cobra.Command{labCommand(), applianceCommand(), benchCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.title
		}
		root.AddCommand(group.commands...)
	}
	root.AddCommand(versionCommand(), exitCodesCommand())
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
