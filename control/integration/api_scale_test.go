// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/isthmus-net/isthmus/bench/fleet"
)

func TestScaleApply(t *testing.T) {
	b := newFleetBed(t, fleet.Fleet{Services: 200, Endpoints: 1000, Targets: 10_000}, false)
	stored, running := b.apply()
	t.Logf("stored after %v, running after %v", stored, running)
	t.Logf("%d ENIs", len(b.daemon.Stats().ENIs))
}
