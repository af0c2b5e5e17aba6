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
	"github.com/isthmus-net/isthmus/control/apiserver"
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
	var api apiFlags
	var offloads string
	format := oneOf[func(io.Writer, *slog.HandlerOptions) slog.Handler]{value: "text", of: logFormats}
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the dataplane, and the API that drives it",
		Long: `Run the dataplane, and the API that drives it.

The daemon keeps what callers create in its store, and has the dataplane carry packets accordingly. It opens a device for
every attachment, in network namespaces that others have made, and closes them when it ends. Callers come by the unix
socket, where root is an operator; --config names a file that says who else may call, and from where.

With -f it has no API: it runs what a state file says and follows its changes. A file that is wrong when the daemon starts
ends it; one that turns wrong later leaves what runs as it is, and "isthmus status" says why.

It needs root, or a user namespace that owns its network.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opts.Offloads, err = offloadSwitches(offloads); err != nil {
				return err
			}
			opts.Version = versionText()
			opts.Logger = slog.New(format.chosen()(cmd.ErrOrStderr(), nil))
			if err := api.addTo(cmd, &opts); err != nil {
				return err
			}
			return runDaemon(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.StateFile, "file", "f", "", "state `file` to follow, in place of the API")
	f.StringVar(&api.store, "store", defaultStore, "`file` that keeps what callers create; \"memory\" keeps it until the daemon ends")
	f.StringVar(&api.config, "config", "", "configuration `file`: who may call, region, TLS (default: only root, by the socket)")
	f.BoolVar(&api.noLimits, "no-bandwidth-limits", false, "limit no endpoint's bandwidth, for benchmarks")
	f.StringVar(&opts.Socket, "socket", control.DefaultSocket, "unix `path` to listen on")
	f.StringVar(&opts.MetricsAddress, "metrics", "", "`address` to serve Prometheus metrics on, such as 127.0.0.1:9180 (default: none)")
	f.IntVar(&opts.Workers, "workers", runtime.GOMAXPROCS(0), "how many workers, and queues of each device")
	addOffloadsFlag(cmd, &offloads)
	f.IntVar(&opts.MaxFlows, "max-flows", 0, "how many connections at once (default: about a million)")
	f.BoolVar(&opts.Pin, "pin", false, "keep each worker on one processor")
	f.DurationVar(&opts.Spin, "spin", 0, "how long a worker polls after the last packet before it sleeps (default: it sleeps at once)")
	f.Var(&format, "log", "format of the log on standard error: "+format.names())
	return cmd
}

// defaultStore is where resources are kept.
const defaultStore = "/var/lib/isthmus/store.db"

// apiFlags are the flags of a daemon with an API.
type apiFlags struct {
	store, config string
	noLimits      bool
}

// addTo makes options of the flags. They do not go together with a state file.
func (f *apiFlags) addTo(cmd *cobra.Command, opts *control.Options) error {
	if opts.StateFile != "" {
		for _, name := range []string{"store", "config", "no-bandwidth-limits"} {
			if cmd.Flags().Changed(name) {
				return &exitError{exitUsage, fmt.Errorf("--%s is for a daemon with an API, which one with a state file (-f) has not; leave one out", name)}
			}
		}
		return nil
	}
	opts.API = &control.API{Store: f.store, NoLimits: f.noLimits}
	if f.store == "memory" {
		opts.API.Store = ""
	}
	if f.config == "" {
		return nil
	}
	config, err := apiserver.LoadConfig(f.config)
	opts.API.Config = config
	return err
}

// runDaemon runs a daemon until it is told to stop.
func runDaemon(ctx context.Context, opts control.Options) error {
	if opts.Workers < 1 || opts.Spin < 0 {
		return fmt.Errorf("%d workers that poll for %v: at least one is needed, and a time that is not negative", opts.Workers, opts.Spin)
	}
	if opts.StateFile != "" {
		file, err := filepath.Abs(opts.StateFile)
		if err != nil {
			return fmt.Errorf("finding the configuration: %w", err)
		}
		opts.StateFile = file
	}
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
