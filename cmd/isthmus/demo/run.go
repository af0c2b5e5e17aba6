// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// DefaultBulk is how many bytes the bulk check moves each way.
const DefaultBulk = 256 << 20

// checkTime bounds one check. The longest is bulk on a slow machine.
const checkTime = 20 * time.Second

// Options say how a demo runs.
type Options struct {
	// Dir is the directory of the lab, which must not exist.
	Dir string
	// Offloads leaves offloads of the ports off.
	Offloads port.Switches
	// Workers of the dataplane; 0 is one.
	Workers int
	// Bulk is how many bytes the bulk check moves each way; 0 is DefaultBulk.
	Bulk int64
	// Out takes the table.
	Out io.Writer
	// Verbose adds to each line how long the check took.
	Verbose bool
	// Log takes what the daemon says; nil discards it.
	Log *slog.Logger
	// Keep, if set, is called after the checks, while the lab still stands.
	Keep func(ctx context.Context)
}

// Result is the outcome of one check.
type Result struct {
	Name string
	// Figure is what was seen; Err why the rule does not hold, nil if it does.
	Figure string
	Err    error
}

// Run builds the lab, runs all checks, prints the table and takes the lab away again, also when ctx ends early, which is
// an error. Broken rules are no error: they are in the results.
func Run(ctx context.Context, o Options) (results []Result, err error) {
	if o.Bulk == 0 {
		o.Bulk = DefaultBulk
	}
	begun := time.Now()
	bed, err := newBed(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("building the demo's lab: %w", err)
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	printHead(o.Out, bed, time.Since(begun))
	for _, c := range checks {
		begun := time.Now()
		r := runOne(bed, c)
		if bed.ctx.Err() != nil {
			return results, context.Cause(bed.ctx)
		}
		results = append(results, r)
		printResult(o.Out, c, r)
		if o.Verbose {
			fmt.Fprintf(o.Out, "      took %.2f s\n", time.Since(begun).Seconds())
		}
	}
	if o.Keep != nil {
		o.Keep(bed.ctx)
	}
	return results, nil
}

// runOne runs one check and takes back what it changed.
func runOne(bed *Bed, c Check) (r Result) {
	ctx, cancel := context.WithTimeoutCause(bed.ctx, checkTime, fmt.Errorf("not done after %s", checkTime))
	defer cancel()
	r.Name = c.Name
	defer func() {
		if p := recover(); p != nil {
			r.Err = fmt.Errorf("the check itself failed: %v", p)
		}
		if err := bed.restore(bed.ctx); err != nil {
			r.Err = errors.Join(r.Err, err)
		}
	}()
	r.Figure, r.Err = c.Run(ctx, bed)
	if r.Err != nil && ctx.Err() != nil {
		r.Err = fmt.Errorf("%w (%w)", r.Err, context.Cause(ctx))
	}
	return r
}

const rowFormat = "%-4s  %-11s %-58s  %-13s  %s\n"

func printHead(out io.Writer, b *Bed, took time.Duration) {
	fmt.Fprintf(out, "%d VPCs in namespaces of their own, built in %.1f s; all of them are %s.\n",
		len(b.topology.VPCs), took.Seconds(), b.topology.VPCs[0].CIDR)
	for _, v := range b.topology.VPCs {
		var words []string
		for _, in := range v.Instances {
			words = append(words, fmt.Sprintf("%s %s", in.Name, in.Address))
		}
		fmt.Fprintf(out, "  %-9s %s (account %s)\n", v.Name, strings.Join(words, ", "), v.Account)
	}
	for _, e := range b.topology.Endpoints {
		if e.Type == vpc.GatewayLoadBalancer.String() {
			fmt.Fprintf(out, "  endpoint  %s %s, a next hop in %s\n", e.Name, e.ID, e.VPC)
			continue
		}
		fmt.Fprintf(out, "  endpoint  %s %s at %s\n", e.Name, e.ID, addresses(e.ENIs))
	}
	for _, lb := range b.topology.LoadBalancers {
		fmt.Fprintf(out, "  balancer  %s, %s, nodes at %s\n", lb.Name, lb.Type, addresses(lb.Nodes))
	}
	fmt.Fprintf(out, "  offloads  %s\n", b.offloads())
	fmt.Fprintf(out, "  timers    health checks every %s (testing)\n\n", time.Duration(b.topology.Testing.HealthCheckInterval))
	fmt.Fprintln(out, "Pages are those of the AWS PrivateLink guide; NLB, GWLB: of the guides to network and gateway load balancers.")
	fmt.Fprintf(out, rowFormat, "", "CHECK", "RULE", "GUIDE", "SEEN")
}

func addresses(list []lab.ENI) string {
	var words []string
	for _, e := range list {
		words = append(words, e.Address.String())
	}
	return strings.Join(words, ", ")
}

func printResult(out io.Writer, c Check, r Result) {
	word, seen := "PASS", r.Figure
	if r.Err != nil {
		word, seen = "FAIL", strings.ReplaceAll(r.Err.Error(), "\n", "; ")
	}
	fmt.Fprintf(out, rowFormat, word, c.Name, c.Rule, c.Page, seen)
}

// Count says how many rules hold and how many do not.
func Count(results []Result) (passed, failed int) {
	for _, r := range results {
		if r.Err != nil {
			failed++
		} else {
			passed++
		}
	}
	return passed, failed
}
