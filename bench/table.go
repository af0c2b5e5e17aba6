// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteTable prints the results for people: a line for each scenario, system and metric with median, spread, and the
// ratio to each peer.
func (r *Report) WriteTable(out io.Writer) error {
	peers := r.systems()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "scenario\tmetric\tsystem\tmedian\t\tspread\t")
	for _, peer := range peers {
		fmt.Fprintf(w, "/ %s\t", peer)
	}
	fmt.Fprintln(w)
	for _, result := range r.byMetric() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.0f %%\t", result.Scenario, result.Metric, result.System,
			figure(result.Median), result.Unit, 100*result.Spread)
		for _, peer := range peers {
			if ratio, ok := result.Ratios[peer]; ok {
				fmt.Fprintf(w, "%.2f\t", ratio)
			} else {
				fmt.Fprint(w, "-\t")
			}
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, skip := range r.Skipped {
		fmt.Fprintf(out, "skipped: %s\n", strings.TrimSpace(skip.Scenario+" "+skip.System+": "+skip.Reason))
	}
	for _, void := range r.Void {
		fmt.Fprintf(out, "void: %s round %d: %s: %s\n", void.Scenario, void.Round, void.System, void.Reason)
	}
	return nil
}

// systems lists the systems that have results, in the order they ran in.
func (r *Report) systems() []string {
	var names []string
	for _, result := range r.Results {
		if !slices.Contains(names, result.System) {
			names = append(names, result.System)
		}
	}
	return names
}

// byMetric returns the results with the systems of one metric next to each other. Results of a scenario are together
// already.
func (r *Report) byMetric() []Result {
	type heading struct{ scenario, metric string }
	order := map[heading]int{}
	for _, result := range r.Results {
		h := heading{result.Scenario, result.Metric}
		if _, ok := order[h]; !ok {
			order[h] = len(order)
		}
	}
	sorted := slices.Clone(r.Results)
	slices.SortStableFunc(sorted, func(a, b Result) int {
		return order[heading{a.Scenario, a.Metric}] - order[heading{b.Scenario, b.Metric}]
	})
	return sorted
}

// figure prints three significant digits, without an exponent.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
