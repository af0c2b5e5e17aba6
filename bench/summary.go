// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import "slices"

// median returns the middle of values, the mean of the two middle ones when their number is even, and 0 for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread returns how far values lie apart as a fraction of their median: (largest - smallest) / median. It is 0 when
// there is nothing to compare.
func spread(values []float64) float64 {
	m := median(values)
	if m == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / m
}

// ratio returns the median of ours[i] / theirs[i]: rounds are compared with their neighbours in time, so that a
// machine that drifts does not favour anyone. Pairs with a zero below are left out; ok is false when none is left.
func ratio(ours, theirs []float64) (r float64, ok bool) {
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] != 0 {
			ratios = append(ratios, ours[i]/theirs[i])
		}
	}
	return median(ratios), len(ratios) > 0
}

// value is what one round measured of one metric.
type value struct {
	Metric, Unit string
	Value        float64
}

// roundValues are the values of one round, by system. Every system of the scenario has its values in each.
type roundValues map[string][]value

// summarize turns the rounds of one scenario into results, in the order of systems and, within one, of metrics.
func summarize(scenario string, systems []string, rounds []roundValues) []Result {
	var results []Result
	for _, system := range systems {
		for _, v := range first(rounds, system) {
			ours := series(rounds, system, v.Metric)
			result := Result{
				Scenario: scenario, System: system, Metric: v.Metric, Unit: v.Unit,
				Rounds: ours, Median: median(ours), Spread: spread(ours), Ratios: map[string]float64{},
			}
			for _, peer := range systems {
				if peer == system {
					continue
				}
				if r, ok := ratio(ours, series(rounds, peer, v.Metric)); ok {
					result.Ratios[peer] = r
				}
			}
			results = append(results, result)
		}
	}
	return results
}

func first(rounds []roundValues, system string) []value {
	if len(rounds) == 0 {
		return nil
	}
	return rounds[0][system]
}

// series returns the metric of the system in every round; it is empty when the system has no such metric.
func series(rounds []roundValues, system, metric string) []float64 {
	var out []float64
	for _, round := range rounds {
		for _, v := range round[system] {
			if v.Metric == metric {
				out = append(out, v.Value)
			}
		}
	}
	return out
}
