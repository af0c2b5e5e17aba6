// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-net/isthmus/cmd/isthmus/appliance"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// flowsPrinted is how many flows a person is shown.
const flowsPrinted = 20

// applianceFlags are what the command line of `isthmus appliance` says.
type applianceFlags struct {
	opts          appliance.Options
	netns, listen string
	mode          oneOf[appliance.Mode]
	offloads      oneOf[bool]
	routes, print bool
	drop          []string
	stats         time.Duration
}

func applianceCommand() *cobra.Command {
	f := applianceFlags{
		mode:     oneOf[appliance.Mode]{value: "hairpin", of: map[string]appliance.Mode{"hairpin": appliance.Hairpin, "tun": appliance.TUN}},
		offloads: oneOf[bool]{value: "on", of: map[string]bool{"on": true, "off": false}},
	}
	cmd := &cobra.Command{
		Use:   "appliance",
		Short: "Run an inspection appliance behind a Gateway Load Balancer",
		Long: `Run an inspection appliance behind a Gateway Load Balancer.

It takes packets out of GENEVE and puts those that may pass back under the header they came under. In hairpin mode they
go back as they came. In tun mode they appear on a TUN device, so that any firewall, NAT or routing of this host applies
to them, and what the kernel sends into that device goes back.

A rule to drop by is terms that all have to hold: tcp, udp, icmp, gre or proto NUMBER; src PREFIX; dst PREFIX; src port
PORTS, dst port PORTS or port PORTS. For example: --drop "tcp dst port 23" --drop "src 10.0.0.0/8 dst port 1000-1999".

Counters are printed on SIGUSR1. SIGUSR2 makes the appliance unhealthy, and healthy again the next time. It needs root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.netns, "netns", "", "`path` of the network namespace to run in (default: the current one)")
	flags.StringVar(&f.listen, "listen", "0.0.0.0", "IPv4 `address`, with or without a port, that GENEVE comes to")
	flags.Var(&f.mode, "mode", "what becomes of packets that may pass: "+f.mode.names())
	flags.StringVar(&f.opts.Device, "device", "inspect", "`name` of the device in tun mode; with %d in it each endpoint has one of its own")
	flags.BoolVar(&f.routes, "routes", true, "in tun mode, forward what comes out of the device back into it where no rule says otherwise")
	flags.Var(&f.offloads, "offloads", "super-packets: "+f.offloads.names())
	flags.StringVar(&f.opts.Health, "health", "", "`address` to answer the health check on, such as :80 (default: none)")
	flags.StringVar(&f.opts.FailHealth, "fail-health", "", "`path` of a file that makes the appliance unhealthy while it exists")
	flags.StringArrayVar(&f.drop, "drop", nil, "`rule` to drop packets by; may be repeated")
	flags.BoolVar(&f.print, "print", false, "print a line a packet, with all GENEVE options")
	flags.IntVar(&f.opts.PrintRate, "print-rate", 10, "how many lines a second to print at most")
	flags.DurationVar(&f.stats, "stats", 0, "how often to print counters (default: on SIGUSR1 only)")
	flags.IntVar(&f.opts.MaxFlows, "max-flows", appliance.DefaultMaxFlows, "how many flows to remember")
	return cmd
}

// run runs the appliance until it is told to stop.
func (f *applianceFlags) run(cmd *cobra.Command) error {
	if err := f.complete(cmd.OutOrStdout()); err != nil {
		return &exitError{exitUsage, err}
	}
	if f.netns != "" {
		ns, err := netns.Open(f.netns)
		if err != nil {
			return err
		}
		defer ns.Close()
		f.opts.Netns = ns
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	a, err := appliance.New(f.opts)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go f.attend(ctx, a, signals, cmd.OutOrStdout())
	return a.Run(ctx)
}

// complete fills in the options that flags only name.
func (f *applianceFlags) complete(out io.Writer) error {
	f.opts.Mode, f.opts.NoOffloads, f.opts.NoRoutes = f.mode.chosen(), !f.offloads.chosen(), !f.routes
	if f.print {
		f.opts.Print = out
	}
	for _, text := range f.drop {
		rule, err := appliance.ParseRule(text)
		if err != nil {
			return fmt.Errorf("--drop: %w", err)
		}
		f.opts.Drop = append(f.opts.Drop, rule)
	}
	var err error
	if f.opts.Listen, err = netip.ParseAddrPort(f.listen); err != nil {
		addr, err := netip.ParseAddr(f.listen)
		if err != nil {
			return fmt.Errorf("--listen %s: give an IPv4 address, with or without a port", f.listen)
		}
		f.opts.Listen = netip.AddrPortFrom(addr, wire.GenevePort)
	}
	return nil
}

// attend prints counters when asked for, and fails the health check when told to.
func (f *applianceFlags) attend(ctx context.Context, a *appliance.Appliance, signals <-chan os.Signal, out io.Writer) {
	var tick <-chan time.Time
	if f.stats > 0 {
		ticker := time.NewTicker(f.stats)
		defer ticker.Stop()
		tick = ticker.C
	}
	healthy := true
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == syscall.SIGUSR2 {
				healthy = !healthy
				a.SetHealthy(healthy)
				continue
			}
		case <-tick:
		}
		_ = appliance.WriteStats(out, a.Stats(), a.Flows(flowsPrinted)) // whoever stopped listening needs no counters
	}
}
