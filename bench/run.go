// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// maxVoid is how many rounds of a scenario one system may spoil before it is taken out of that scenario.
const maxVoid = 3

// Config says what to run.
type Config struct {
	Systems   []string // names; empty: all
	Scenarios []string // names; empty: all
	Rounds    int      // of each system in each scenario
	Duration  time.Duration
	Workers   int  // of isthmus and null
	Pin       bool // pin those workers to processors
	// Progress receives a line for each thing that happens.
	Progress io.Writer
	// Appliance is the command that runs an appliance in hairpin mode. Nil is this program's own `appliance`.
	Appliance []string
	// Self is the command that calls Helper, to which role and specification are added. Nil is this program's own
	// `bench helper`.
	Self []string
}

// SystemNames lists what Config.Systems may name.
func SystemNames() []string { return namesOf(systems(), systemName) }

// ScenarioNames lists what Config.Scenarios may name.
func ScenarioNames() []string { return namesOf(scenarios(), scenarioName) }

func systemName(s system) string     { return s.name }
func scenarioName(s scenario) string { return s.name }

func namesOf[T any](all []T, name func(T) string) []string {
	var names []string
	for _, item := range all {
		names = append(names, name(item))
	}
	return names
}

// Run runs every scenario on every system. The report is valid, if short, beside an error too: when systems were taken
// out, or ctx ended. All that a round made is removed before Run returns.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if cfg.Self == nil {
		cfg.Self = []string{program, "bench", "helper"}
	}
	if cfg.Appliance == nil {
		cfg.Appliance = []string{program, "appliance"}
	}
	r := &runner{cfg: cfg, self: cfg.Self}
	chosen, err := pick("system", systems(), cfg.Systems, systemName)
	if err != nil {
		return nil, err
	}
	planned, err := pick("scenario", scenarios(), cfg.Scenarios, scenarioName)
	if err != nil {
		return nil, err
	}
	if cfg.Rounds < 1 || cfg.Duration <= 0 || cfg.Workers < 1 {
		return nil, errors.New("rounds, duration and workers must be positive")
	}
	probe, err := newNamespace() // without the right to make one nothing below could work
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	r.report.Environment = environment(cfg)
	for _, sys := range chosen {
		if reason := sys.missing(); reason != "" {
			r.skip(Skip{System: sys.name, Reason: reason})
			continue
		}
		r.systems = append(r.systems, sys)
	}
	var failed []error
	for i := range planned {
		if err := r.scenario(ctx, &planned[i]); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return &r.report, errors.Join(failed...)
}

// pick returns the named ones of all, in the order of all; every one when no name is given.
func pick[T any](kind string, all []T, names []string, name func(T) string) ([]T, error) {
	known := namesOf(all, name)
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("unknown %s %q: there are %s", kind, n, strings.Join(known, ", "))
		}
	}
	var picked []T
	for _, item := range all {
		if len(names) == 0 || slices.Contains(names, name(item)) {
			picked = append(picked, item)
		}
	}
	return picked, nil
}

// runner is a run under way.
type runner struct {
	cfg     Config
	self    []string
	systems []system
	report  Report
}

// scenario runs all rounds of one scenario and adds the results. A round counts when every system came through it; a
// system that cannot is taken out, and its earlier rounds with it. An error says which ones were.
func (r *runner) scenario(ctx context.Context, sc *scenario) error {
	var (
		rounds []roundValues
		failed []error
		spoilt = map[string]int{}
		left   []system
	)
	for _, sys := range r.systems {
		if sys.builder(sc) != nil {
			left = append(left, sys)
		}
	}
	if len(left) == 0 {
		r.say("%s: none of the systems takes part", sc.name)
	}
	for attempt := 0; len(rounds) < r.cfg.Rounds && len(left) > 0; attempt++ {
		values, culprit, err := r.all(ctx, sc, left, len(rounds)+1, attempt)
		if ctx.Err() != nil {
			failed = append(failed, ctx.Err())
			break
		}
		if err == nil {
			rounds = append(rounds, values)
			continue
		}
		r.void(Void{Scenario: sc.name, Round: len(rounds) + 1, System: culprit, Reason: err.Error()})
		if spoilt[culprit]++; spoilt[culprit] >= maxVoid {
			left = slices.DeleteFunc(left, func(s system) bool { return s.name == culprit })
			reason := fmt.Sprintf("taken out after %d void rounds: %v", maxVoid, err)
			r.skip(Skip{Scenario: sc.name, System: culprit, Reason: reason})
			failed = append(failed, fmt.Errorf("%s: %s %s", sc.name, culprit, reason))
		}
	}
	r.report.Results = append(r.report.Results, summarize(sc.name, namesOf(left, systemName), rounds)...)
	return errors.Join(failed...)
}

// all runs one round on each system, one after the other. Who goes first changes from round to round, so that nobody
// always follows the same neighbour. On error the culprit is the system that had it.
func (r *runner) all(
	ctx context.Context, sc *scenario, order []system, number, attempt int,
) (values roundValues, culprit string, err error) {
	values = roundValues{}
	for i := range order {
		sys := &order[(i+attempt)%len(order)]
		v, offloads, err := round(ctx, r.self, r.cfg, sys, sc)
		if err != nil {
			return nil, sys.name, err
		}
		if offloads != "" {
			r.report.Environment.Offloads[sys.name] = offloads
		}
		values[sys.name] = v
		r.say("%s round %d of %d: %s: %s", sc.name, number, r.cfg.Rounds, sys.name, describe(v))
		if err := pause(ctx, settle); err != nil {
			return nil, sys.name, err
		}
	}
	return values, "", nil
}

// describe is one round's values on a line.
func describe(values []value) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, fmt.Sprintf("%s %s %s", v.Metric, figure(v.Value), v.Unit))
	}
	return strings.Join(parts, ", ")
}

func (r *runner) skip(s Skip) {
	r.report.Skipped = append(r.report.Skipped, s)
	r.say("%s", strings.TrimSpace(fmt.Sprintf("%s skipped %s: %s", s.Scenario, s.System, s.Reason)))
}

func (r *runner) void(v Void) {
	r.report.Void = append(r.report.Void, v)
	r.say("%s round %d is void: %s: %s", v.Scenario, v.Round, v.System, v.Reason)
}

func (r *runner) say(format string, args ...any) {
	if r.cfg.Progress != nil {
		fmt.Fprintf(r.cfg.Progress, format+"\n", args...)
	}
}
