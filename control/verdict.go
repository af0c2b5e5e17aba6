// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import "github.com/isthmus-net/isthmus/dataplane"

// thresholds are how many results in a row change the health of a target.
type thresholds struct{ healthy, unhealthy int }

// verdict is the health of one target as its checks have shown it so far.
type verdict struct {
	health  dataplane.Health // Initial, Healthy or Unhealthy
	against int              // results in a row that speak against health
}

// take hears one more result and says whether the health changed. A new target is healthy from its first success, and
// unhealthy after as many failures as any other.
func (v *verdict) take(success bool, t thresholds) bool {
	needed := t.unhealthy
	switch {
	case success && v.health == dataplane.Healthy, !success && v.health == dataplane.Unhealthy:
		v.against = 0
		return false
	case success && v.health == dataplane.Initial:
		needed = 1
	case success:
		needed = t.healthy
	}
	if v.against++; v.against < needed {
		return false
	}
	*v = verdict{health: dataplane.Unhealthy}
	if success {
		v.health = dataplane.Healthy
	}
	return true
}
