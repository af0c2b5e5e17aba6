// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/control"
	"github.com/isthmus-net/isthmus/dataplane/port"
)

// offloadModes are the words of --offloads.
var offloadModes = map[string]port.Switches{
	"on":     {},
	"no-tso": {TSO: true},
	"no-uso": {USO: true},
	"off":    {Offloads: true},
	"plain":  {Plain: true},
}

// addOffloadsFlag adds --offloads, whose word offloadSwitches understands.
func addOffloadsFlag(cmd *cobra.Command, word *string) {
	cmd.Flags().StringVar(word, "offloads", "on",
		"`offloads` of devices: on, no-tso or no-uso (without one of them), off (whole packets and checksums only), plain (not even the header)")
}

// offloadSwitches are the switches that a word of --offloads stands for.
func offloadSwitches(word string) (port.Switches, error) {
	switches, ok := offloadModes[word]
	if !ok {
		return switches, &exitError{exitUsage, fmt.Errorf("--offloads %s: choose on, no-tso, no-uso, off or plain", word)}
	}
	return switches, nil
}

// logFormats are the values of --log.
var logFormats = map[string]func(io.Writer, *slog.HandlerOptions) slog.Handler{
	"text": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) },
	"json": func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) },
}

func daemonCommand() *cobra.Command {
	var opts control.Options
	var offloads string
	format := oneOf[func(io.Writer, *slog.HandlerOptions) slog.Handler]{value: "text", of: logFormats}
	cmd := &cobra.Command{
		Use:   "daemon -f STATE.yaml",
		Short: "Run the dataplane for a configuration",
		Long: `Run the dataplane for a configuration, and follow its changes.

The daemon opens a device for every port of the configuration, in network namespaces that others have made, and closes
them when it ends. A configuration that is wrong when the daemon starts ends it; one that turns wrong later leaves what
runs as it is, and "isthmus status" says why. It needs root, or a user namespace that owns its network.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opts.Offloads, err = offloadSwitches(offloads); err != nil {
				return err
			}
			opts.Version = versionText()
			opts.Logger = slog.New(format.chosen()(cmd.ErrOrStderr(), nil))
			return runDaemon(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.StateFile, "file", "f", "", "configuration to follow (required)")
	f.StringVar(&opts.Socket, "socket", control.DefaultSocket, "unix `path` for status, flows and drops")
	f.StringVar(&opts.MetricsAddress, "metrics", "", "`address` to serve Prometheus metrics on, such as 127.0.0.1:9180 (default: none)")
	f.IntVar(&opts.Workers, "workers", runtime.GOMAXPROCS(0), "how many workers, and queues of each device")
	addOffloadsFlag(cmd, &offloads)
	f.IntVar(&opts.MaxFlows, "max-flows", 0, "how many connections at once (default: about a million)")
	f.BoolVar(&opts.Pin, "pin", false, "keep each worker on one processor")
	f.DurationVar(&opts.Spin, "spin", 0, "how long a worker polls after the last packet before it sleeps (default: it sleeps at once)")
	f.Var(&format, "log", "format of the log on standard error: "+format.names())
	cobra.CheckErr(cmd.MarkFlagRequired("file"))
	return cmd
}

// runDaemon runs a daemon until it is told to stop.
func runDaemon(ctx context.Context, opts control.Options) error {
	if opts.Workers < 1 || opts.Spin < 0 {
		return fmt.Errorf("%d workers that poll for %v: at least one is needed, and a time that is not negative", opts.Workers, opts.Spin)
	}
	file, err := filepath.Abs(opts.StateFile)
	if err != nil {
		return fmt.Errorf("finding the configuration: %w", err)
	}
	opts.StateFile = file
	if opts.MetricsAddress != "" {
		opts.Registry = prometheus.NewRegistry()
		opts.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	d, err := control.New(opts)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal is not waited for.
	context.AfterFunc(ctx, stop)
	return d.Run(ctx)
}

// oneOf is a flag that takes one of a few words, each of which stands for a value.
type oneOf[T any] struct {
	value string
	of    map[string]T
}

func (o *oneOf[T]) String() string { return o.value }
func (o *oneOf[T]) Type() string   { return "word" }
func (o *oneOf[T]) chosen() T      { return o.of[o.value] }

// Set is called by the flag package.
func (o *oneOf[T]) Set(s string) error {
	if _, ok := o.of[s]; !ok {
		return fmt.Errorf("choose one of: %s", o.names())
	}
	o.value = s
	return nil
}

// names lists the words.
func (o *oneOf[T]) names() string {
	var names []string
	for name := range o.of {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " or ")
}
